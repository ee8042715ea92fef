"""Every built-in detector keeps the contract, in this process and in a worker."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from contracts import detector as contract

from monitor.clock import SystemClock
from monitor.config import Config, PoolConfig
from monitor.detect import BUILT_IN, Detector, Spec, specs, tiers, without_lost_models
from monitor.detect.pool import Pool
from monitor.errors import ConfigError
from monitor.findings import Status

FACTORIES = {**BUILT_IN, "noop": "monitor.detect.noop:build"}


@functools.cache
def _built(name: str) -> Detector:
    return Spec(name=name, factory=FACTORIES[name]).build()


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


def test_a_tier_whose_file_is_gone_is_left_out(tmp_path: Path) -> None:
    """Only its own options go, its setting is named; what is there, offline or by another factory stays."""
    gone, there = str(tmp_path / "gone.onnx"), tmp_path / "there.onnx"
    there.touch()
    toxicity = {"checkpoint": gone, "config": "c", "sha256": "0", "model_type": "unbiased", "low": 0.2}
    reader = {"cross_encoder": str(there), "cross_encoder_sha256": "0", "audit": 0.5}
    options = {"toxicity": {"options": toxicity}, "hallucination": {"options": reader}}
    config = Config.model_validate({"detectors": options})
    found, lost = without_lost_models(config)
    assert lost == ["detectors.toxicity.options.checkpoint"]
    assert found.detectors.toxicity.options == {"low": 0.2}
    assert found.detectors.hallucination.options == reader
    there.unlink()
    found, lost = without_lost_models(config)
    assert lost == ["detectors.hallucination.options.cross_encoder", "detectors.toxicity.options.checkpoint"]
    assert found.detectors.hallucination.options == {"audit": 0.5}
    assert config.detectors.hallucination.options == reader
    others: list[dict[str, Any]] = [
        {"profile": "offline", "detectors": options},
        {"detectors": {"toxicity": {"factory": "m:b", "options": toxicity}}},
    ]
    for other in others:
        untouched = Config.model_validate(other)
        assert without_lost_models(untouched) == (untouched, [])


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
