"""Whatever happens to two daemons, the position never gets ahead of the effects."""

import pytest
from engine_machine import SEQUENCES, EngineMachine, of_length

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

EngineMachine.TestCase.settings = of_length(SEQUENCES)
test_engine_machine = EngineMachine.TestCase
