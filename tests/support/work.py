"""How much work something takes, in processor time."""

import gc
import time
from collections.abc import Callable


def seconds(run: Callable[[int], object], size: int) -> float:
    """The least processor time of some runs, without the collector, whose work has another order."""
    least = float("inf")
    gc.disable()
    try:
        for _ in range(4):
            began = time.process_time()
            run(size)
            least = min(least, time.process_time() - began)
    finally:
        gc.enable()
    return least
