"""Detectors: their interface, and the ones that a configuration enables.

A module that holds a detector exposes `build(**options) -> Detector` and, where it has tiers,
`tiers(**options) -> list[TierStatus]`. Both raise ConfigError for options or files they cannot use, and are
given the configuration's `profile` (see `monitor.detect.cascade`) where they have a parameter of that name.
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

import msgspec

from monitor.config import Config, DetectorConfig, Profile
from monitor.errors import ConfigError
from monitor.findings import Assessment, TierStatus
from monitor.trace import Trace

BUILT_IN: Mapping[str, str] = {
    "hallucination": "monitor.detect.hallucination:build",
    "pii": "monitor.detect.pii:build",
    "toxicity": "monitor.detect.toxicity:build",
    "injection": "monitor.detect.injection:build",
    "drift": "monitor.detect.drift:build",
    "agent": "monitor.detect.agent:build",
}


OPTIONAL_MODELS: Mapping[str, tuple[str, ...]] = {
    "hallucination": ("cross_encoder",),
    "toxicity": ("checkpoint", "config", "sha256", "model_type"),
}
"""Built-in detectors with a tier that runs a file of the operator's: the option that names it, and those that
belong to it, as beginnings of their names."""


class Detector(Protocol):
    """Scores traces for one kind of risk. Runs in a worker process and keeps no state between batches.

    `name` is the key of its assessments; `version` identifies code and weights (`1+<12 hex of SHA-256>`).
    """

    name: str
    version: str

    def assess(self, traces: Sequence[Trace]) -> Sequence[Assessment]:
        """Return one assessment per trace, in order. May raise: the pool finds the trace that caused it."""
        ...


class Spec(msgspec.Struct, frozen=True, kw_only=True):
    """A recipe for one detector: `factory` is `package.module:callable`, called with `options`."""

    name: str
    factory: str
    options: dict[str, Any] = {}
    profile: Profile = "default"

    def build(self) -> Detector:
        """Build it in this process. Raises ConfigError when it cannot be built or bears another name."""
        factory = _load(self, self.factory)
        options = self.arguments(factory)
        try:
            inspect.signature(factory).bind(**options)
        except TypeError as error:
            raise ConfigError(
                f"detectors.{self.name}.options: {error}; see `build` in {self.factory}"
            ) from None
        detector = cast("Detector", factory(**options))
        if detector.name != self.name:
            raise ConfigError(
                f"detectors.{self.name}.factory: {self.factory} built a detector named {detector.name!r};"
                " give it that name"
            )
        return detector

    def arguments(self, function: Callable[..., Any]) -> dict[str, Any]:
        """Return the options, and the profile for a function with a parameter of that name."""
        asks = "profile" in inspect.signature(function).parameters
        return {"profile": self.profile, **self.options} if asks else self.options


def specs(config: Config) -> tuple[Spec, ...]:
    """Return the enabled detectors of a configuration, in the order of their assessments."""
    return tuple(
        Spec(
            name=name,
            factory=section.factory or BUILT_IN[name],
            options=section.options,
            profile=config.profile,
        )
        for name, section in config.enabled_detectors().items()
    )


def without_lost_models(config: Config) -> tuple[Config, list[str]]:
    """Return the configuration without the higher tiers whose model file is gone, and the settings for those.

    The bundled tiers still see every trace, and a file that is there but not the pinned one stays an error.
    """
    lost: list[str] = []
    sections: dict[str, DetectorConfig] = {}
    for name, section in config.enabled_detectors().items():
        own = () if section.factory or config.profile == "offline" else OPTIONAL_MODELS.get(name, ())
        path = section.options.get(own[0], "") if own else ""
        if isinstance(path, str) and path and not Path(path).exists():
            options = {key: value for key, value in section.options.items() if not key.startswith(own)}
            sections[name] = section.model_copy(update={"options": options})
            lost.append(f"detectors.{name}.options.{own[0]}")
    return config.model_copy(update={"detectors": config.detectors.model_copy(update=sections)}), lost


def tiers(config: Config) -> list[TierStatus]:
    """Return which tiers of the enabled detectors can run here; a factory without `tiers` has none."""
    statuses: list[TierStatus] = []
    for spec in specs(config):
        module, _, _ = spec.factory.partition(":")
        _load(spec, spec.factory)
        of_module = getattr(importlib.import_module(module), "tiers", None)
        if of_module is not None:
            statuses.extend(of_module(**spec.arguments(of_module)))
    return statuses


def _load(spec: Spec, path: str) -> Callable[..., Any]:
    module, _, attribute = path.partition(":")
    try:
        factory = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"detectors.{spec.name}.factory: {path} cannot be imported ({type(error).__name__}: {error});"
            " give package.module:callable"
        ) from error
    if not callable(factory):
        raise ConfigError(
            f"detectors.{spec.name}.factory: {path} is not callable; give package.module:callable"
        )
    return cast("Callable[..., Any]", factory)
