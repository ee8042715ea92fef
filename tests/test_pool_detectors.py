"""Every built-in detector keeps the contract, in this process and in a worker."""

import functools
import os
from collections.abc import Callable

import pytest
from contracts import detector as contract

from monitor.clock import SystemClock
from monitor.config import Config, PoolConfig
from monitor.detect import BUILT_IN, Detector, Spec, specs, tiers
from monitor.detect.pool import Pool
from monitor.errors import ConfigError
from monitor.findings import Status

FACTORIES = {**BUILT_IN, "noop": "monitor.detect.noop:build"}


@functools.cache
def _built(name: str) -> Detector:
    try:
        return Spec(name=name, factory=FACTORIES[name]).build()
    except ConfigError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.mark.parametrize("check", contract.CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", sorted(FACTORIES))
def test_a_detector_keeps_the_contract(name: str, check: Callable[[Detector], None]) -> None:
    """Name, number, order, range, repeatability, spans and silence are as promised."""
    check(_built(name))


def test_the_default_pool_judges_with_all_five_kinds() -> None:
    """Built from the default configuration, real workers score the same traces with every kind of risk."""
    wanted = specs(Config())
    for spec in wanted:
        _built(spec.name)
    pool = Pool(wanted, PoolConfig(workers=1), SystemClock())
    try:
        pool.start()
        pool.submit(1, contract.ORDINARY)
        ((_, rows),) = pool.collect(60.0)
    finally:
        pool.close()
    assert [[one.detector for one in row] for row in rows] == [list(BUILT_IN)] * len(contract.ORDINARY)
    assert {one.status for row in rows for one in row} <= {Status.SCORED, Status.SKIPPED}


def test_specs_follow_the_configuration() -> None:
    """Disabled detectors are left out; a factory of one's own and its options are passed on."""
    config = Config.model_validate(
        {"detectors": {"pii": {"enabled": False}, "drift": {"factory": "mine:build", "options": {"a": 1}}}}
    )
    assert [(one.name, one.factory, one.options) for one in specs(config)] == [
        ("hallucination", BUILT_IN["hallucination"], {}),
        ("toxicity", BUILT_IN["toxicity"], {}),
        ("injection", BUILT_IN["injection"], {}),
        ("drift", "mine:build", {"a": 1}),
        ("agent", BUILT_IN["agent"], {}),
    ]


def test_tiers_are_collected_from_the_modules_that_have_them() -> None:
    """A factory without `tiers` reports none; a module that does not exist is a ConfigError."""
    off = {name: {"enabled": False} for name in BUILT_IN if name != "pii"}
    plain = Config.model_validate({"detectors": off | {"pii": {"factory": "monitor.detect.noop:build"}}})
    assert tiers(plain) == []
    missing = Config.model_validate({"detectors": off | {"pii": {"factory": "no_such_module:build"}}})
    with pytest.raises(ConfigError, match=r"detectors\.pii\.factory"):
        tiers(missing)


def test_a_detector_must_bear_the_name_of_its_section() -> None:
    """A factory that builds a detector of another name is refused, as its verdicts would be misfiled."""
    spec = Spec(name="pii", factory="monitor.detect.noop:build", options={"name": "other"})
    with pytest.raises(ConfigError, match="give it that name"):
        spec.build()


def test_options_a_factory_does_not_take_are_a_config_error() -> None:
    """A misspelt option names the section it stands in."""
    spec = Spec(name="noop", factory="monitor.detect.noop:build", options={"scroe": 0.5})
    with pytest.raises(ConfigError, match=r"detectors\.noop\.options"):
        spec.build()
