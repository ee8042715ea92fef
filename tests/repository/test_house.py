"""The order of the house: few modules at the top, a short command, independent tests."""

import ast
from collections.abc import Iterator
from pathlib import Path

MODULES = sorted(Path("monitor").rglob("*.py"))


def imported_by(path: Path) -> Iterator[str]:
    """Yield the names of the modules that a module imports, wherever in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""


def test_few_modules_lie_at_the_top() -> None:
    """What is not shared by several packages belongs to one of them."""
    top = [path.name for path in MODULES if path.parent == Path("monitor")]
    assert 1 < len(top) <= 16, top


def test_the_command_itself_is_short() -> None:
    """Each command has a module; the package lists them."""
    assert len(Path("monitor/cli/__init__.py").read_text(encoding="utf-8").splitlines()) < 80


def test_no_test_is_imported() -> None:
    """What tests share is in tests/support: a test can be read, run and moved alone."""
    paths = sorted(Path("tests").rglob("*.py"))
    assert len(paths) > 100
    importing = {
        str(path): names
        for path in paths
        if (names := [name for name in imported_by(path) if name.rpartition(".")[2].startswith("test_")])
    }
    assert importing == {}
