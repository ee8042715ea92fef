"""Nothing that a sender or an operator wrote controls the terminal of whoever reads it."""

import json
import re
from contextlib import closing
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner
from flags import numbered_flag_row
from hypothesis import given
from hypothesis import strategies as st
from ledgers import stocked

from monitor.cli import riskmon
from monitor.config import load
from monitor.console.review_page import as_html
from monitor.console.review_page import as_json as page_as_json
from monitor.output import as_json, printable, quiet_json
from monitor.trace import SafeText

OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
SIGNS = "".join(map(chr, [*range(1, 9), *range(11, 32), *range(0x7F, 0xA0), 0x61C, 0x200E, 0x200F])) + (
    "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
HOSTILE = f"\x1b[2J\x9b31m{SIGNS}verified\n"
"""All of them, beginning with sequences that clear the screen and colour it."""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables of an installation whose ledger holds hostile text wherever somebody else wrote it."""
    variables = {"RISKMON_DATA_DIR": str(tmp_path / "data")}
    letters = [("invalid_json", HOSTILE.encode()), ("invalid_json", b"\xff\x9b")]
    with closing(stocked(load(None, variables), [(HOSTILE, HOSTILE)], letters, HOSTILE, 1.0)) as ledger:
        ledger.move("llm.traces", 0, 9, HOSTILE)
    return variables


COMMANDS = (
    "dlq list", "dlq list --json", "dlq show 1", "dlq show 2", "feedback export", "audit verify",
    "audit verify --json", "positions list", "positions list --json", "spool list", "spool list --json",
)  # fmt: skip


@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_prints_what_a_terminal_obeys(line: str, environment: dict[str, str]) -> None:
    """What the ledger keeps of others is escaped, whichever command shows it."""
    shown = CliRunner().invoke(riskmon, line.split(), env=environment | {"COLUMNS": "400"})
    assert not isinstance(shown.exception, Exception), shown.exception
    assert shown.output
    assert not OBEYED.search(shown.output)
    assert "\nverified\n" not in shown.output
    if "json" in line or "show" in line or "export" in line:
        lines = shown.stdout.splitlines()
        assert all(isinstance(json.loads(each), dict | list) for each in lines)
    if "show 1" in line:
        assert json.loads(shown.stdout)["value"] == HOSTILE


PAYLOADS = {
    "native": {"response": HOSTILE, "app": HOSTILE, "labels": {HOSTILE: HOSTILE}, HOSTILE: 1},
    "openai": {"request": {"messages": [{"role": HOSTILE, "content": HOSTILE}]}, "response": {"id": HOSTILE}},
}


@pytest.mark.parametrize("form", PAYLOADS)
@pytest.mark.parametrize("options", [["--raw"], ["--raw", "--json"], ["--json"], []])
def test_decode_prints_nothing_that_a_terminal_obeys(form: str, options: list[str], tmp_path: Path) -> None:
    """Texts, names of labels and of keys that are not used are escaped, as JSON and in words."""
    file = tmp_path / "payload"
    file.write_text(json.dumps(PAYLOADS[form]), encoding="utf-8")
    shown = CliRunner().invoke(riskmon, ["decode", form, str(file), *options])
    assert shown.exit_code in {0, 65}, shown.exception
    assert not OBEYED.search(shown.output)


def test_raw_bytes_do_not_go_to_a_terminal(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`dlq show --raw` writes into files and pipes only."""
    runner = CliRunner()
    assert runner.invoke(riskmon, ["dlq", "show", "2", "--raw"], env=environment).stdout_bytes == b"\xff\x9b"
    monkeypatch.setattr("monitor.cli.dlq._is_terminal", lambda: True)
    refused = runner.invoke(riskmon, ["dlq", "show", "2", "--raw"], env=environment)
    assert refused.exit_code == 2
    assert "\x9b" not in refused.output


def test_the_review_page_is_safe_to_fetch() -> None:
    """The page and its JSON hold none of these characters either; the JSON means what was recorded."""
    row = numbered_flag_row(1, app=HOSTILE, rule=HOSTILE, response=SafeText(HOSTILE))
    page = as_html([row], "", {"app": HOSTILE}).decode()
    text = page_as_json([row], "").decode()
    assert not OBEYED.search(page)
    assert not OBEYED.search(text)
    assert json.loads(text)["flags"][0]["text"]["response"] == HOSTILE


@given(st.dictionaries(st.text(), st.text()) | st.lists(st.text()), st.text())
def test_escaping_keeps_the_meaning(value: object, text: str) -> None:
    """JSON with escapes is the same value on one line; printable text is one line."""
    line = as_json(value)
    assert json.loads(line) == value
    assert len(line.splitlines()) == 1
    assert not OBEYED.search(line)
    assert json.loads(quiet_json(msgspec.json.encode(text).decode())) == text
    assert printable(text).isprintable()
