# ruff: noqa: INP001 - a script, not a package
"""Write the reference of settings into `docs/configuration.md`: `python docs/settings_reference.py`.

With `--check` it only compares. The text above the marker is written by hand.
"""

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel

from monitor.config import Config, settings

PAGE: Final = Path(__file__).with_name("configuration.md")
MARKER: Final = "<!-- Below: python docs/settings_reference.py -->\n"
GENERAL: Final = "General"
HEAD: Final = ["| setting | default | meaning |", "| --- | --- | --- |"]


def page() -> str:
    """Return the page as it should be: its hand-written text, then the tables."""
    written, _, _ = PAGE.read_text(encoding="utf-8").partition(MARKER)
    return written + MARKER + "\n" + reference()


def reference() -> str:
    """Return a table of settings per section, and one per list of structured items."""
    sections: dict[str, list[str]] = {GENERAL: []}
    items: dict[str, list[str]] = {}
    for path, _, default, text in settings():
        section = path.split(".", maxsplit=1)[0] if "." in path else GENERAL
        sections.setdefault(section, []).append(_row(path, default, text, _annotation(path)))
        items.setdefault(section, []).extend(_items(path))
    tables: list[str] = []
    for section, rows in sections.items():
        tables += [f"### {section}", "", *HEAD, *rows, "", *items[section]]
    return "\n".join(tables).rstrip() + "\n"


def main(arguments: Sequence[str]) -> int:
    """Write the page, or with `--check` return 1 when it differs."""
    if "--check" not in arguments:
        PAGE.write_text(page(), encoding="utf-8")
    elif PAGE.read_text(encoding="utf-8") != page():
        sys.stderr.write(f"{PAGE.name} is stale: run python docs/settings_reference.py\n")
        return 1
    return 0


def _items(path: str) -> list[str]:
    """Return the table of what one item of a list may hold; nothing for other settings."""
    models = [each for each in get_args(_annotation(path)) if _is_model(each)]
    if not models:
        return []
    fields: Iterable[tuple[str, Any]] = models[0].model_fields.items()
    rows = [
        _row(
            name,
            "required" if field.is_required() else field.get_default(call_default_factory=True),
            field.description or "",
            field.annotation,
        )
        for name, field in fields
    ]
    return [f"Each item of `{path}`:", "", *HEAD, *rows, ""]


def _row(name: str, default: Any, text: str, annotation: Any) -> str:
    choices = _choices(annotation)
    meaning = f"{text} One of {', '.join(f'`{choice}`' for choice in choices)}." if choices else text
    escaped = meaning.replace("|", "\\|")
    return f"| `{name}` | {_shown(default)} | {escaped} |"


def _shown(default: Any) -> str:
    """Return a default as YAML would have it, `none` for nothing."""
    if default == "required":
        return "required"
    if default is None or default in ("", [], {}):
        return "none"
    if isinstance(default, float):
        return f"`{default:g}`"
    return f"`{default if isinstance(default, str | Path) else json.dumps(default)}`"


def _choices(annotation: Any) -> tuple[str, ...]:
    """Return the values of a Literal, also inside a mapping."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)
    inner = get_args(annotation) if get_origin(annotation) is dict else ()
    return next((get_args(each) for each in inner if get_origin(each) is Literal), ())


def _annotation(path: str) -> Any:
    annotation: Any = Config
    for part in path.split("."):
        annotation = annotation.model_fields[part].annotation
    return next(iter(get_args(annotation)), None) if isinstance(annotation, UnionType) else annotation


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
