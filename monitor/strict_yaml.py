"""YAML as people write it: small, without surprising features. For configurations, rules and recognizers."""

import re
from collections.abc import Hashable
from typing import Any, Final

import yaml

from monitor.errors import ConfigError

MAX_FILE_BYTES = 256 * 1024
"""Invariant S11: these files are small; a larger one is a mistake or an attack."""


_MOST_CHARS: Final = 80
_KEY: Final = re.compile(r"[A-Za-z_][A-Za-z_-]{0,31}[0-9]{0,3}")


def shown_key(key: object) -> str:
    """Return a key as a message may quote it: only what looks like a name of ours, mistyped or not.

    A file that is given by mistake, or through a link, may be one of passwords.
    """
    text = str(key)
    is_name = len(text) <= _MOST_CHARS and all(map(_KEY.fullmatch, text.split(".")))
    return text if is_name else "(not a name)"


class _StrictLoader(yaml.SafeLoader):
    """YAML without aliases (a few hundred bytes of them expand to gigabytes), tags and duplicate keys."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConfigError(f"line {mark.line + 1}: YAML aliases are not allowed; write the value out")
        if getattr(self.peek_event(), "tag", None) is not None:  # type: ignore[no-untyped-call]
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise ConfigError(f"line {mark.line + 1}: YAML tags (!…) are not allowed; quote the value")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - the base class's signature
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            line = key_node.start_mark.line + 1
            if not isinstance(key, Hashable):
                raise ConfigError(f"line {line}: a key must be plain text, not a list or mapping")
            if key in seen:
                raise ConfigError(f"line {line}: key {shown_key(key)!r} occurs twice; remove one")
            seen.add(key)
        return super().construct_mapping(node, deep)


def load_yaml(text: str, name: str) -> Any:
    """Parse YAML strictly: no aliases, tags or duplicate keys, at most 256 KiB.

    Raises ConfigError naming `name`, the line and the remedy.
    """
    return load_marked_yaml(text, name)[0]


def load_marked_yaml(text: str, name: str) -> tuple[Any, yaml.Node | None]:
    """Parse like `load_yaml`; also return the node tree, whose marks give the place of each value."""
    if len(text.encode()) > MAX_FILE_BYTES:
        raise ConfigError(f"{name}: larger than {MAX_FILE_BYTES} bytes; split it")
    try:
        loader = _StrictLoader(text)
        node = loader.get_single_node()
        return (None if node is None else loader.construct_document(node)), node
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from None
    except ValueError:
        raise ConfigError(f"{name}: holds a number or date that does not exist; quote it") from None
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{name}:{mark.line + 1}:{mark.column + 1}" if mark else name
        raise ConfigError(
            f"{where}: not valid YAML ({getattr(error, 'problem', None) or 'nested too deep'})"
        ) from None
