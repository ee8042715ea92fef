"""The order of the house: short modules, few of them at the top, one meaning per name, independent tests."""

import ast
from collections import defaultdict
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


def test_no_module_is_long() -> None:
    """A module that outgrows 400 lines holds two subjects."""
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in MODULES}
    assert len(lengths) > 200
    assert {path: length for path, length in lengths.items() if length > 400} == {}


def test_a_class_name_has_one_meaning() -> None:
    """No two modules define a public class of the same name."""
    places: defaultdict[str, list[str]] = defaultdict(list)
    for path in MODULES:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(str(path))
    assert len(places) > 300
    assert {name: paths for name, paths in places.items() if len(paths) > 1} == {}


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
