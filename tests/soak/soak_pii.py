"""Soak case: answers that hold personal data by the thousand, at the size at which they used to time out."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from customers import copied, crowded, customers, misters

from monitor.config import PoolConfig
from monitor.detect import pii
from monitor.trace import Message, Trace

PROMPT_ROWS: Final = 3_500
TEXTS: Final[Mapping[Callable[[int], str], int]] = {
    customers: 5_750,  # 419 KiB
    misters: 3_500,
    crowded: 3_500,
    copied: 3_500,
}
"""Texts, and their rows."""


def findings(share: float, _: Path) -> Mapping[str, object]:
    """Each answer, with as long a prompt, is judged well within a worker's time-out."""
    detector = pii.build()
    prompt = Message("user", customers(max(1, round(PROMPT_ROWS * share))))
    figures: dict[str, Any] = {}
    for text, rows in TEXTS.items():
        response = text(max(1, round(rows * share)))
        trace = Trace(id="1", time=1.0, response=response, messages=(prompt,))
        began = time.process_time()
        (assessment,) = detector.assess([trace])
        seconds = time.process_time() - began
        figures[text.__name__] = {
            "kib": len(response) // 1024,
            "findings": int(assessment.values["response"]),
            "cpu_seconds": round(seconds, 2),
        }
        assert assessment.score is not None, assessment.reason
        assert seconds < PoolConfig().timeout_seconds, figures
    return figures
