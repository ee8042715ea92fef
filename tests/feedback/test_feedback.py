"""The export of feedback items."""

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.feedback.export import UnsafeItemError, export


def item(key: str, text: str = "hello", pii: str = "redacted") -> dict[str, Any]:
    """A feedback item's body."""
    return {
        "id": key,
        "schema": "riskmon.feedback/1",
        "prompt": [{"role": "user", "content": text}],
        "completion": [{"role": "assistant", "content": text}],
        "label": False,
        "privacy": {"pii": pii},
    }


@given(st.lists(st.tuples(st.sampled_from("abcdef"), st.text(max_size=30)), max_size=20))
def test_every_item_is_written_once(pairs: list[tuple[str, str]]) -> None:
    """Each id gives exactly one line, the first of its items, in the order given, whatever the text."""
    out = io.StringIO()
    count = export([item(key, text) for key, text in pairs], out, "jsonl")
    first: dict[str, str] = {}
    for key, text in pairs:
        first.setdefault(key, text)
    lines = out.getvalue().split("\n")
    assert lines.pop() == ""
    assert count == len(lines) == len(first)
    assert [json.loads(line) for line in lines] == [item(key, text) for key, text in first.items()]


def test_key_order_does_not_depend_on_the_item() -> None:
    """The same content gives the same bytes, however its mapping was built."""
    one, two = io.StringIO(), io.StringIO()
    export([item("a")], one, "jsonl")
    export([dict(reversed(item("a").items()))], two, "jsonl")
    assert one.getvalue() == two.getvalue()


@pytest.mark.parametrize("privacy", [{"pii": "raw"}, {}, None, "redacted"])
def test_unredacted_items_are_refused(privacy: object) -> None:
    """An item not marked as redacted ends the export before a byte of it is written."""
    out = io.StringIO()
    bad = item("b", "kanarienvogel") | {"privacy": privacy}
    with pytest.raises(UnsafeItemError, match="feedback item b") as caught:
        export([item("a"), bad], out, "jsonl")
    assert len(out.getvalue().splitlines()) == 1
    assert "kanarienvogel" not in out.getvalue() + str(caught.value)


def test_export_streams() -> None:
    """An item is written before the next one is read."""
    out = io.StringIO()

    def items() -> Iterator[dict[str, Any]]:
        for n in range(3):
            assert out.getvalue().count("\n") == n
            yield item(str(n))

    assert export(items(), out, "jsonl") == 3
