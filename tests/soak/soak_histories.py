"""Soak case: generated histories of two daemons on one ledger, many more than a test run has time for."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from engine_machine import SEQUENCES, EngineMachine, of_length
from hypothesis.stateful import run_state_machine_as_test

HISTORIES: Final = 10 * SEQUENCES


def histories(share: float, _: Path) -> Mapping[str, object]:
    """In none does the position get ahead of the effects, or a record lack its effects in the end."""
    examples = math.ceil(HISTORIES * share)
    run_state_machine_as_test(EngineMachine, settings=of_length(examples))
    return {"histories": examples}
