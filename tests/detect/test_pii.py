"""Personal data and secrets: what is found, where, whether it leaked, and that failing is never silent."""

import hashlib
import logging
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.detect import pii
from monitor.detect.pii import Pii
from monitor.detect.pii.scanner import Scanner
from monitor.errors import ConfigError
from monitor.findings import MAX_EVIDENCE, Assessment, Status
from monitor.trace import Document, Message, Step, StepKind, ToolCall, Trace

SCANNER = Scanner(0.4, 5.0)
CARD, IBAN, MAIL = "4111 1111 1111 1111", "DE89370400440532013000", "jane.doe@example.com"
PEM = "-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEAabcdefghijklmnop\n-----END RSA PRIVATE KEY-----"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

FOUND = (
    ("EMAIL_ADDRESS", f"write to {MAIL} please", MAIL),
    ("CREDIT_CARD", f"card {CARD}, thanks", CARD),
    ("IBAN_CODE", f"pay to {IBAN} now", IBAN),
    ("US_SSN", "my ssn is 536-90-4399 ok", "536-90-4399"),
    ("PHONE_NUMBER", "call 408-224-6236 today", "408-224-6236"),
    ("PHONE_NUMBER", "ring +44 20 7946 0958 today", "+44 20 7946 0958"),
    ("IP_ADDRESS", "host 192.168.12.34 is up", "192.168.12.34"),
    ("MAC_ADDRESS", "nic aa:bb:cc:dd:ee:ff is up", "aa:bb:cc:dd:ee:ff"),
    ("CRYPTO", "to 1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa now", "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"),
    ("API_KEY", "use sk-proj-abcd1234efgh5678ijkl9012 here", "sk-proj-abcd1234efgh5678ijkl9012"),
    ("API_KEY", "use AKIAIOSFODNN7EXAMPLE here", "AKIAIOSFODNN7EXAMPLE"),
    ("API_KEY", f"use ghp_{'a1B2' * 9} here", f"ghp_{'a1B2' * 9}"),
    ("API_KEY", "use xoxb-123456789012-abcdefghijkl here", "xoxb-123456789012-abcdefghijkl"),
    ("API_KEY", f"use AIza{'Sy1_-' * 7} here", f"AIza{'Sy1_-' * 7}"),
    ("API_KEY", f"use sk_live_{'4eC39H' * 4} here", f"sk_live_{'4eC39H' * 4}"),
    ("API_KEY", 'set api_key = "9f86d081884c7d659a2f"', "9f86d081884c7d659a2f"),
    ("PRIVATE_KEY", f"here: {PEM} bye", PEM),
    ("JWT", f"bearer {JWT} ok", JWT),
    ("CONNECTION_STRING", "at postgres://app:s3cret@db:5432/x", "postgres://app:s3cret@db:5432"),
    ("PASSWORD", "password: hunter2! ok", "hunter2!"),
    ("PASSWORD", "the password is Tr0ub4dor&3 ok", "Tr0ub4dor&3"),
)
QUIET = (
    "Your order 482913377 ships on Monday, tracking 1Z999.",
    "Card 4111 1111 1111 1112 has a wrong check digit.",
    "The password must be at least eight characters long.",
    "Reset your password: https://intranet/reset",
    "Password: <your password here>",
    "The sk-learn-compatible-estimator-interface is documented.",
    "We raised $1,250,000 in 2021, up 12.5 % from 2020.",
    "Version 3.11.7 fixes bug 104-2.",
    "",
)


@pytest.fixture(scope="module")
def patterns() -> Pii:
    """The detector without named entities."""
    return pii.build(tag_names=False)


def judge(detector: Pii, response: str = "", **given_to_model: Any) -> Assessment:
    """Assess one trace."""
    return detector.assess([Trace(id="x", time=0.0, response=response, **given_to_model)])[0]


def spans(text: str, got: Assessment) -> set[tuple[str, str]]:
    """Kinds and texts of the evidence in the response."""
    return {(e.kind, text[e.start : e.end]) for e in got.evidence if e.field == "response"}


@pytest.mark.parametrize(("kind", "text", "value"), FOUND)
def test_identifiers_and_secrets_are_found(patterns: Pii, kind: str, text: str, value: str) -> None:
    """Each kind is found at its exact place and counts as leaked when only the response holds it."""
    got = judge(patterns, text)
    assert (kind, value) in spans(text, got)
    assert got.status is Status.SCORED
    assert got.score is not None
    assert got.score >= 0.4
    assert any(e.leaked for e in got.evidence if e.kind == kind)


@pytest.mark.parametrize("text", QUIET)
def test_ordinary_text_is_quiet(patterns: Pii, text: str) -> None:
    """Order numbers, wrong check digits, placeholders and prose about passwords are no findings."""
    got = judge(patterns, text)
    assert {kind for kind, _ in spans(text, got)} <= {"DATE_TIME", "URL"}


@pytest.mark.parametrize(
    ("response", "source", "leaked"),
    [
        (f"Your card {CARD}", "", True),
        (f"Your card {CARD}", f"I paid with {CARD}", False),
        (f"Your card {CARD}", f"I paid with {CARD.replace(' ', '-')}", False),
        (f"Your card {CARD}", "I paid with 5555 5555 5555 4444", True),
        (f"Mail {MAIL.upper()}", f"I am {MAIL}", False),
        (f"Mail {MAIL}", f"I am x{MAIL}", True),
        ("Call +1 408-224-6236", "my number: (408) 224 6236", False),
        ("Call 408-224-6236", "my number: +1 (408) 224 6236", False),
        ("Call 408-224-6236", "my number: 408-224-6237", True),
    ],
)
@pytest.mark.parametrize("place", ["messages", "context", "tool_calls", "steps"])
def test_only_what_the_model_was_not_given_is_leaked(
    patterns: Pii, response: str, source: str, place: str, *, leaked: bool
) -> None:
    """A value is leaked unless prompt, context or a tool result holds it, in whatever punctuation or case."""
    held: dict[str, Any] = {
        "messages": (Message("system", "Be kind."), Message("user", source)),
        "context": (Document("d", source),),
        "tool_calls": (ToolCall("lookup", "{}", source),),
        "steps": (Step(kind=StepKind.TOOL, name="lookup", output=source),),
    }
    got = judge(patterns, response, **{place: held[place]})
    wanted = {"CREDIT_CARD", "EMAIL_ADDRESS", "PHONE_NUMBER"}
    assert {e.leaked for e in got.evidence if e.field == "response" and e.kind in wanted} == {leaked}
    assert not any(e.leaked for e in got.evidence if e.field != "response")


def test_every_part_is_scanned_and_counted(patterns: Pii) -> None:
    """Prompt, context and tool results are evidence by field, and never make the score by themselves."""
    got = judge(
        patterns,
        "Done.",
        messages=(Message("system", "Be kind."), Message("user", MAIL)),
        context=(Document("a", "nothing"), Document("b", IBAN)),
        tool_calls=(ToolCall("lookup", "{}", f"card {CARD}"),),
    )
    where = {(e.field, e.kind) for e in got.evidence}
    assert {("messages.1", "EMAIL_ADDRESS"), ("context.1", "IBAN_CODE")} <= where
    assert ("tool_calls.0.result", "CREDIT_CARD") in where
    assert got.score == 0.0
    assert got.values["leaked"] == got.values["response"] == 0
    assert got.values["prompt"] >= 1
    assert got.values["context"] >= 2


def test_evidence_is_bounded_and_leaks_come_first(patterns: Pii) -> None:
    """At most 256 spans are kept, leaks before the rest, and the dropped ones are counted."""
    prompt = " ".join(f"user{n}@example.com" for n in range(300))
    got = judge(patterns, f"{MAIL} {IBAN}", messages=(Message("user", prompt),))
    assert len(got.evidence) == MAX_EVIDENCE
    assert got.values["evidence_dropped"] > 0
    assert [e.leaked for e in got.evidence] == sorted((e.leaked for e in got.evidence), reverse=True)
    assert got.evidence[0].leaked


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 60_000), st.sampled_from(FOUND))
def test_long_text_is_scanned_whole(place: int, sample: tuple[str, str, str]) -> None:
    """A span is found at its place wherever it stands in 60,000 characters, window borders included."""
    kind, text, value = sample
    filler = "the quick brown fox jumps over a lazy dog again. " * 1300
    long = f"{filler[:place]} {text} {filler[place:]}"
    got = SCANNER.find(long)
    assert got.reason == ""
    assert (kind, value) in {(s.kind, long[s.start : s.end]) for s in got.spans}


def test_no_network_and_no_text_in_logs(offline: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    """Building and running opens no connection, and no text is logged even at debug level."""
    caplog.set_level(logging.DEBUG)
    got = judge(pii.build(tag_names=False), f"canary {MAIL}, {CARD} and {IBAN}")
    assert {e.kind for e in got.evidence} >= {"EMAIL_ADDRESS", "CREDIT_CARD", "IBAN_CODE"}
    for canary in ("canary", MAIL, CARD, IBAN):
        assert canary not in f"{caplog.text}{got!r}"
    assert not offline


def test_order_count_and_determinism(patterns: Pii) -> None:
    """One assessment per trace, in order, the same alone, in a batch and on a second run."""
    traces = [Trace(id=str(n), time=0.0, response=text) for n, (_, text, _) in enumerate(FOUND)]
    first = patterns.assess(traces)
    again = patterns.assess(traces[::-1])[::-1]
    assert [a.evidence for a in first] == [a.evidence for a in again]
    assert [a.evidence for a in first] == [patterns.assess([t])[0].evidence for t in traces]
    assert patterns.assess([]) == []


def test_equal_texts_are_analysed_once(patterns: Pii, monkeypatch: pytest.MonkeyPatch) -> None:
    """A system prompt shared by a batch costs one analysis."""
    seen: list[str] = []
    find = patterns._scanner.find

    def counted(text: str) -> pii.ScanResult:
        seen.append(text)
        return find(text)

    monkeypatch.setattr(patterns._scanner, "find", counted)
    prompt = (Message("system", "You are a helpful assistant."),)
    patterns.assess([Trace(id=str(n), time=0.0, response=f"answer {n}", messages=prompt) for n in range(5)])
    assert len(seen) == 6


@given(st.lists(st.text(alphabet="ab1-. ", min_size=1, max_size=12), min_size=1, max_size=4), st.data())
def test_a_value_that_was_given_is_never_a_leak(texts: list[str], data: st.DataObject) -> None:
    """Any run of whole words of what the model was given counts as given, whatever parts the words."""
    text = data.draw(st.sampled_from(texts))
    words = re.findall(r"[^\W_]+", text)
    if words:
        start = data.draw(st.integers(0, len(words) - 1))
        end = data.draw(st.integers(start + 1, len(words)))
        assert pii.PromptIndex(texts).has(
            data.draw(st.sampled_from([" ", "-", "", "."])).join(words[start:end]), "X"
        )


def test_options_that_cannot_work_are_named() -> None:
    """A wrong option is a configuration error with its name and a remedy; a missing model is not fetched."""
    with pytest.raises(
        ConfigError, match=r"pii\.options\.spacy_model: 'en_core_web_nowhere'.*never downloaded"
    ):
        pii.build(spacy_model="en_core_web_nowhere", tag_names=True)
    with pytest.raises(ConfigError, match=r"pii\.options\.threshold"):
        pii.build(threshold=1.5)
    with pytest.raises(ConfigError, match=r"pii\.options\.regex_timeout_seconds"):
        pii.build(regex_timeout_seconds=0)


def test_tiers_say_what_is_missing() -> None:
    """Without names their tier is reported absent, with what that costs and how to get it."""
    present, absent = pii.tiers(tag_names=False)
    assert present.present
    assert present.version == pii.REVISION
    assert not absent.present
    assert "tag_names" in absent.cost


@pytest.mark.parametrize(
    "step",
    [
        Step(kind=StepKind.TOOL, name="mail", input=f"to {CARD}"),
        Step(kind=StepKind.CHAT, name="m", output=f"Your card is {CARD}"),
        Step(kind=StepKind.AGENT, name="a", output=f"The card is {CARD}"),
    ],
)
def test_what_an_agent_wrote_itself_was_not_given(patterns: Pii, step: Step) -> None:
    """Messages and arguments of the run are read, to be masked, but what only they hold is leaked."""
    got = judge(patterns, f"Your card {CARD}", steps=(step,))
    assert [e.leaked for e in got.evidence if e.field == "response"] == [True]
    assert any(e.field.startswith("steps.0.") and not e.leaked for e in got.evidence)


def test_what_a_tool_is_called_with_is_read(patterns: Pii) -> None:
    """Arguments of the answer's tool calls are evidence by their own path; they were written, not given."""
    got = judge(patterns, f"I sent {CARD}.", tool_calls=(ToolCall("mail", f'{{"text": "{CARD}"}}', "sent"),))
    where = {e.field: e.leaked for e in got.evidence}
    assert where == {"response": True, "tool_calls.0.arguments": False}


def test_a_digest_is_no_number_of_a_person() -> None:
    """What a hash function made of a value is nobody's identifier, whatever words are around it."""
    detector = pii.build()
    for name, length in (("md5", 32), ("sha1", 40), ("sha256", 64), ("sha512", 128)):
        for number in range(25):
            digest = hashlib.new(name, f"customer {number}".encode(), usedforsecurity=False).hexdigest()
            assert len(digest) == length
            text = f"Sure: call {digest} or charge card {digest}, my id is {digest}."
            (found,) = detector.assess([Trace(id="t", time=0.0, response=text)])
            assert not [e for e in found.evidence if digest in text[e.start : e.end]], (name, number)
