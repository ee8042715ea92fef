"""Reads the configuration: a YAML file, and `RISKMON_…` variables that override it.

The variable of a setting is its path joined by underscores: `kafka.group_id` is `RISKMON_KAFKA_GROUP_ID`.
Lists and mappings are written as YAML: `RISKMON_KAFKA_TOPICS='[a, b]'`.
"""

import difflib
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import UnionType
from typing import Any, get_args

from pydantic import BaseModel, SecretStr, ValidationError

from monitor.config.base import SecretUrl
from monitor.config.config import Config
from monitor.errors import ConfigError
from monitor.strict_yaml import load_yaml, shown_key

PREFIX = "RISKMON_"


def settings() -> Iterator[tuple[str, str, Any, str]]:
    """Yield every leaf setting as (dotted path, environment variable, default, description)."""

    def walk(model: type[BaseModel], path: tuple[str, ...]) -> Iterator[tuple[str, str, Any, str]]:
        for name, field in model.model_fields.items():
            nested = (*path, name)
            if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
                yield from walk(field.annotation, nested)
            else:
                default = field.get_default(call_default_factory=True)
                if isinstance(default, SecretStr):
                    default = default.get_secret_value()  # of a default there is nothing to hide
                yield ".".join(nested), PREFIX + "_".join(nested).upper(), default, field.description or ""

    yield from walk(Config, ())


def load(path: Path | None = None, environ: Mapping[str, str] = os.environ) -> Config:
    """Read the file (None: all defaults) and the environment.

    Raises ConfigError with every problem found, each with its field and a remedy.
    """
    data: dict[str, Any] = {}
    if path is not None:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{path}: cannot be read ({type(error).__name__}); give a readable UTF-8 file"
            ) from None
        loaded = load_yaml(text, str(path))
        if loaded is not None and not isinstance(loaded, dict):
            raise ConfigError(f"{path}: must be a mapping of settings, not a {type(loaded).__name__}")
        data = loaded or {}
    _apply_environment(data, environ)
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(
            "\n".join(_explain(problem) for problem in error.errors(include_url=False))
        ) from None


def exposed_secrets(path: Path) -> list[str]:
    """Return the settings of a readable file that are secrets which other users may read, by dotted path."""
    if not path.stat().st_mode & stat.S_IROTH:
        return []
    return sorted(set(_secrets(load(path, {}), "")))


def _secrets(value: Any, path: str) -> Iterator[str]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _secrets(getattr(value, name), f"{path}.{name}".lstrip("."))
    elif isinstance(value, SecretUrl):
        if str(value) != value.get_secret_value():
            yield path
    elif isinstance(value, SecretStr):
        if value:
            yield path
    elif isinstance(value, list | dict):
        for part in value.values() if isinstance(value, dict) else value:
            yield from _secrets(part, path)


def _apply_environment(data: dict[str, Any], environ: Mapping[str, str]) -> None:
    paths = {variable: path for path, variable, _, _ in settings()}
    for variable, raw in environ.items():
        if not variable.startswith(PREFIX):
            continue
        if variable not in paths:
            close = difflib.get_close_matches(variable, paths, n=1)
            hint = f"; did you mean {close[0]}?" if close else "; `riskmon check --settings` lists them all"
            raise ConfigError(f"environment variable {variable} is not a setting{hint}")
        *sections, leaf = paths[variable].split(".")
        node = data
        for section in sections:
            child = node.setdefault(section, {})
            if not isinstance(child, dict):
                raise ConfigError(f"{section}: must be a mapping of settings")
            node = child
        node[leaf] = _parse(paths[variable], raw, variable)


def _parse(path: str, raw: str, variable: str) -> Any:
    annotation: Any = Config
    for part in path.split("."):
        annotation = annotation.model_fields[part].annotation
    options = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    plain_text = any(
        isinstance(option, type) and issubclass(option, str | Path | SecretStr) for option in options
    )
    return raw if plain_text else load_yaml(raw, variable)


def _explain(problem: Any) -> str:
    path = ".".join(str(part) if isinstance(part, int) else shown_key(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        known = [known for known, _, _, _ in settings()]
        known += sorted({k.rsplit(".", 1)[0] for k in known if "." in k})
        close = difflib.get_close_matches(path, known, n=1)
        return f"{path}: no such setting" + (f"; did you mean {close[0]}?" if close else "; remove it")
    return f"{path or 'configuration'}: {problem['msg']}"
