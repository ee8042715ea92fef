"""Logs: always one JSON object per line, and never a word of trace text."""

import ast
import io
import json
import logging
import os
import subprocess
import sys
import textwrap
import threading
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from checkout import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from monitor.deliver import log as deliver_log
from monitor.errors import ConfigError
from monitor.findings import Severity
from monitor.privacy.redact import remark
from monitor.telemetry.logging import KEYS, MAX_CHARS, PER_MINUTE, configure

CANARY = "canary-7c1e jane.doe@example.org"
HOSTILE = [
    "a\nb",
    "\x1b[31mred",
    '{"a": 1}\r\n',
    "\x00",
    "\u2028",
    "\ud800",
    '"',
    "\\",
    "\x9b31m",
    "\u202eabc",
]


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    """The stream that logs go to; process-wide logging is put back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    hooks = sys.excepthook, threading.excepthook, warnings.showwarning
    stream = io.StringIO()
    configure("info", stream)
    yield stream
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    sys.excepthook, threading.excepthook, warnings.showwarning = hooks
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """Every line, parsed; each must be one JSON object."""
    text = stream.getvalue()
    assert not text or text.endswith("\n")
    parsed = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in parsed)
    return parsed


def test_an_event_is_one_json_object_with_level_and_utc_time(out: io.StringIO) -> None:
    """Numbers stay numbers, enums become their value, and the time is UTC."""
    structlog.get_logger().info(
        "partition claimed", topic="t", partition=3, severity=Severity.CRITICAL, seconds=0.5
    )
    [line] = lines(out)
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "partition claimed", "level": "info", "topic": "t", "partition": 3, "severity": "critical",
        "seconds": 0.5,
    }  # fmt: skip


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(sorted(KEYS - {"event", "level", "timestamp"})),
        st.one_of(st.text(), st.sampled_from(HOSTILE), st.floats(), st.integers(), st.none(), st.booleans()),
    )
)
def test_every_line_parses_and_holds_no_control_character(out: io.StringIO, fields: dict[str, Any]) -> None:
    """Invariant S14: newlines, escape sequences, surrogates and odd numbers cannot break or forge a line."""
    out.seek(0)
    out.truncate()
    structlog.get_logger().info("event", **fields)
    [line] = lines(out)
    assert all(str(value).isprintable() for value in line.values())
    json.dumps(line, allow_nan=False)


@pytest.mark.parametrize("text", HOSTILE)
def test_the_console_form_is_one_line_without_control_characters(out: io.StringIO, text: str) -> None:
    """A terminal cannot be steered by a value either."""
    stream = io.StringIO()
    configure("info", stream, "console")
    structlog.get_logger().info("event", topic=text)
    configure("info", out)
    assert stream.getvalue().endswith("\n")
    assert stream.getvalue()[:-1].isprintable()


def test_unknown_keys_and_other_values_are_left_out_and_named(out: io.StringIO) -> None:
    """A prompt under its own key, a list or an object cannot slip in; the line says what was dropped."""
    structlog.get_logger().info("event", prompt=CANARY, reason=[CANARY], path={"a": CANARY}, topic="t")
    [line] = lines(out)
    assert line["dropped"] == "path prompt reason"
    assert line["topic"] == "t"
    assert CANARY not in out.getvalue()


def test_every_key_that_riskmon_logs_is_known() -> None:
    """No call in the package logs under a key that would be left out, or an event that is not a literal."""
    methods = {"debug", "info", "warning", "error", "exception", "critical"}
    found = 0
    for path in (ROOT / "monitor").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
                continue
            target = node.func.value
            name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
            if node.func.attr in methods and name.lstrip("_") == "log":
                found += 1
                assert isinstance(node.args[0], ast.Constant), (path.name, node.lineno)
                keys = {keyword.arg for keyword in node.keywords} - {"exc_info", None}
                assert keys <= KEYS, (path.name, node.lineno)
    assert found > 10
    assert {"rule", *deliver_log._LABELS, *deliver_log._ANNOTATIONS} <= KEYS


def test_long_values_are_cut(out: io.StringIO) -> None:
    """No value is longer than 300 characters."""
    structlog.get_logger().info("event", reason="x" * 10_000)
    assert len(lines(out)[0]["reason"]) == MAX_CHARS


def test_a_foreign_exception_is_its_type_and_frames(out: io.StringIO) -> None:
    """Its message may quote the text it choked on, so it is not logged; ours is."""
    log = structlog.get_logger()
    try:
        int(CANARY)
    except ValueError:
        log.exception("stage failed")
    log.error("config", exc_info=ConfigError("http.port: taken; choose another"))
    foreign, ours = lines(out)
    assert foreign["exception"] == "builtins.ValueError"
    assert foreign["frames"].startswith("test_telemetry_logging:")
    assert "message" not in foreign
    assert CANARY not in out.getvalue()
    assert ours["message"] == "http.port: taken; choose another"


def test_third_party_records_show_numbers_and_no_text(out: io.StringIO) -> None:
    """A literal template is kept with its numbers, strings are not; an f-string's text is not either."""
    other = logging.getLogger("some-library")
    other.warning("cannot analyse %s in %d", CANARY, 5)
    other.warning(f"cannot analyse {CANARY}")
    other.error("cannot analyse " + CANARY)
    other.info("only warnings and up are heard")
    template, formatted, glued = lines(out)
    assert (template["message"], template["level"]) == ("cannot analyse <str> in 5", "warning")
    assert template["logger"] == "some-library"
    assert formatted["line"].startswith("test_telemetry_logging:")
    assert "message" not in formatted
    assert "message" not in glued
    assert glued["level"] == "error"
    assert CANARY not in out.getvalue()


@given(
    st.one_of(
        st.text(min_size=4),
        st.binary(min_size=4),
        st.lists(st.text(min_size=4), min_size=1),
        st.dictionaries(st.text(min_size=4), st.text(min_size=4), min_size=1),
        st.builds(ValueError, st.text(min_size=4)),
        st.builds(SimpleNamespace, value=st.text(min_size=4)),
    )
)
def test_no_library_that_handles_text_shows_any_of_an_argument(value: object) -> None:
    """Whatever carries a text, and whatever format asks for it: only the kind of thing is shown."""
    kind = type(value).__name__
    for template in ("%s", "%r"):
        shown = remark(f"before {template} after", (value,), textless=False)
        assert shown.replace("'", "") in {f"before {kind} after", f"before <{kind}> after"}
    assert remark("before %d after", (value,), textless=False) == "before %d after"
    assert remark("before %(a)s after", {"a": value}, textless=False).replace(kind, "") in {
        "before  after",
        "before <> after",
    }


def test_a_client_of_kafka_is_quoted_without_bytes_or_secrets(out: io.StringIO) -> None:
    """Hosts, topics and errors are what helps; a buffer may be a trace, and passwords are masked."""
    from kafka.errors import KafkaConnectionError, SaslAuthenticationFailedError
    from kafka.structs import TopicPartition

    client = logging.getLogger("kafka.net.manager")
    node, host, topic = "bootstrap-0", "broker-3.internal:9092", TopicPartition("llm.traces", 3)
    client.warning("%s at %s of %s", node, host, topic)
    client.error("Connection failed: %s", KafkaConnectionError("111 ECONNREFUSED"))
    client.error(
        f"Bootstrap attempt to {node} at 10.200.100.35:9092 failed: {ConnectionResetError(104, 'reset')}"
    )
    client.error("login: %s", SaslAuthenticationFailedError("Authentication failed"))
    for hidden in (CANARY.encode(), [CANARY.encode()], memoryview(CANARY.encode()), ValueError(CANARY)):
        client.error("Unable to decode %d-byte buffer: %r", 9, hidden)
    client.error("proxy %s", "socks5://app:hunter2@proxy:1080")
    told = [line.get("message") for line in lines(out)]
    assert told[:4] == [
        "bootstrap-0 at broker-3.internal:9092 of ['llm.traces', 3]",
        "Connection failed: KafkaConnectionError: 111 ECONNREFUSED",
        "Bootstrap attempt to bootstrap-0 at 10.200.100.35:9092 failed: [Errno 104] reset",
        "login: [Error 58] SaslAuthenticationFailedError: Authentication failed",
    ]
    assert "canary" not in out.getvalue()
    assert "hunter2" not in out.getvalue()
    assert "%d" not in out.getvalue()


@pytest.mark.parametrize("level", ["warning", "error", "critical"])
def test_a_few_lines_a_minute_pass_of_each_message(out: io.StringIO, level: str) -> None:
    """A library that repeats itself is cut short, whatever its arguments, and the rest is counted."""
    log = logging.getLogger("kafka.cluster")
    handler = next(each for each in logging.getLogger().handlers if type(each).__name__ == "_ThirdParty")

    def say(second: float, line: int, *arguments: object) -> None:
        said = log.makeRecord(
            log.name, getattr(logging, level.upper()), __file__, line, "failed %s", arguments, None, "say"
        )
        said.created = second
        handler.emit(said)

    for number in range(100):
        say(number / 2, 7, number)
        say(number / 2, 8, number)
    told = lines(out)
    assert len(told) == 2 * PER_MINUTE
    assert {line["level"] for line in told} == {"warning" if level == "warning" else "error"}
    say(61.0, 9, 0)
    more = lines(out)[len(told) :]
    assert [line.get("left_out") for line in more] == [100 - PER_MINUTE, 100 - PER_MINUTE, None]
    say(62.0, 7, 100)
    assert len(lines(out)) == len(told) + len(more) + 1


def test_a_third_party_exception_is_described_like_ours(out: io.StringIO) -> None:
    """`logger.exception` gives the type and frames and no message of the exception."""
    try:
        os.environ[CANARY]
    except KeyError:
        logging.getLogger("kafka").exception("while decoding")
    [line] = lines(out)
    assert (line["message"], line["exception"]) == ("while decoding", "builtins.KeyError")
    assert CANARY not in out.getvalue()


def test_a_warning_is_a_log_line_without_its_text(out: io.StringIO) -> None:
    """Python warnings are routed too, and may quote data just as well."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)  # else it stays as an earlier test's `configure` left it
        logging.captureWarnings(capture=True)
        warnings.warn(CANARY, UserWarning, stacklevel=1)
        logging.captureWarnings(capture=False)
    [line] = lines(out)
    assert line["logger"] == "py.warnings"
    assert CANARY not in out.getvalue()


def test_the_level_is_the_least_that_is_logged(out: io.StringIO) -> None:
    """At level error, info and warning events are silent."""
    configure("error", out)
    structlog.get_logger().warning("quiet")
    structlog.get_logger().error("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


def test_uncaught_exceptions_of_any_thread_are_lines_without_text() -> None:
    """A process that dies of an exception leaves JSON on standard error, not a traceback that quotes text."""
    program = textwrap.dedent(f"""
        import threading
        from monitor.telemetry.logging import configure
        configure()
        def fail():
            raise ValueError({CANARY!r})
        thread = threading.Thread(target=fail)
        thread.start()
        thread.join()
        fail()
    """)
    done = subprocess.run([sys.executable, "-c", program], text=True, capture_output=True, check=False)
    assert done.returncode == 1
    parsed = [json.loads(line) for line in done.stderr.splitlines()]
    assert [line["event"] for line in parsed] == ["uncaught_exception"] * 2
    assert CANARY not in done.stderr
