"""The hallucination detector on hand-written answers, on planted sentences, and on public labelled data."""

import json
from typing import Any

import numpy as np
import pytest
from checkout import SHARED
from hypothesis import given, settings
from hypothesis import strategies as st

from monitor.detect.hallucination import Hallucination, build, tiers
from monitor.errors import ConfigError
from monitor.findings import Status
from monitor.models.groundedness import Groundedness
from monitor.models.grounding_features import FEATURES, Case
from monitor.trace import Document, Message, Step, StepKind, ToolCall, Trace

DETECTOR = Hallucination(Groundedness.load())

RETURNS = (
    "Returns: Customers may return unused items within 30 days of delivery for a full refund. Items must be"
    " in original packaging. Refunds are issued to the original payment method within 5 to 7 business days."
    " Sale items are final and cannot be returned."
)
SHIPPING = (
    "Standard shipping takes 3-5 business days and costs $4.99. Express shipping takes 1-2 business days and"
    " costs $12.99. Orders over $50 ship free. We ship to the United States and Canada only."
)
LEAVE = (
    "Employees accrue 1.5 vacation days per month, up to 18 days a year. Requests must be submitted to the"
    " line manager two weeks in advance through the Workday portal. Unused days up to 5 carry over to the"
    " next year."
)
LAPTOP = (
    "The X200 laptop has a 72 Wh battery that lasts up to 14 hours. It charges to 80% in 45 minutes with the"
    " 65 W adapter. The warranty covers the battery for 24 months."
)
SUPPORTED = [
    (RETURNS, "You can return unused items within 30 days of delivery for a full refund."),
    (RETURNS, "Refunds go back to your original payment method and usually take 5 to 7 business days."),
    (RETURNS, "No, sale items are final and cannot be returned."),
    (SHIPPING, "Standard shipping costs $4.99 and takes 3-5 business days. Over $50, shipping is free."),
    (SHIPPING, "Express shipping takes one to two business days and costs $12.99."),
    (LEAVE, "You earn 1.5 vacation days each month, for a maximum of 18 days per year."),
    (LEAVE, "Submit your request to your manager through the Workday portal two weeks in advance."),
    (LAPTOP, "The battery lasts up to 14 hours and charges to 80% in 45 minutes using the 65 W adapter."),
    (LAPTOP, "Yes. The battery is covered by the warranty for 24 months."),
    (LAPTOP, "I could not find that in the documents. Please contact support for more details."),
    (LAPTOP, "The provided documents do not mention the price of the X200."),
    (
        RETURNS,
        "Sure! Here is a summary:\n\n1. Returns are accepted within 30 days of delivery.\nLet me know!",
    ),
]
UNSUPPORTED = [
    (RETURNS, "You can return items within 90 days, and we also offer a lifetime warranty on electronics."),
    (RETURNS, "Refunds take 21 business days and are paid as store credit with a 15% restocking fee."),
    (SHIPPING, "Yes, we ship to Mexico, Brazil and Argentina via DHL for $29.95."),
    (SHIPPING, "The company was founded by Margaret Ellison in Portland in 1987."),
    (LEAVE, "Employees receive 30 vacation days and unlimited sick leave under the 2019 Geneva agreement."),
    (LAPTOP, "The X200 battery lasts 36 hours and won the CES Innovation Prize by Samsung in 2021."),
    (RETURNS, "Returns are accepted. Our Berlin store was designed by Zaha Hadid and employs 450 people."),
]


def _trace(response: str, *context: str, **fields: Any) -> Trace:
    documents = tuple(Document(id=str(i), content=body) for i, body in enumerate(context))
    fields.setdefault("messages", (Message(role="user", content="What does the policy say?"),))
    return Trace(id="t", time=0.0, response=response, context=documents, **fields)


def _score(trace: Trace) -> float:
    [found] = DETECTOR.assess([trace])
    assert found.score is not None
    return found.score


@pytest.mark.parametrize(("context", "response"), SUPPORTED)
def test_supported_answers_score_low(context: str, response: str) -> None:
    """Ordinary grounded answers, paraphrases, refusals and courtesies stay below the rules' 0.8."""
    assert _score(_trace(response, context)) < 0.8


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("Thanks for asking. ", " Just ask if something is unclear."),
        ("Here is what I found. ", " I hope this answers your question."),
        ("Good question! ", " Let me know if that helps."),
    ],
)
@pytest.mark.parametrize(("context", "response"), [*SUPPORTED[:3], *UNSUPPORTED[:3]])
def test_courtesies_do_not_count(context: str, response: str, before: str, after: str) -> None:
    """An answer is as well supported with a greeting and an offer around it as without."""
    assert _score(_trace(before + response + after, context)) == _score(_trace(response, context))


@pytest.mark.parametrize(("answer", "wrong"), [("Bergen.", "Hamburg."), ("Karl Lund", "Peter Holm")])
def test_a_short_answer_is_told_from_a_wrong_one(answer: str, wrong: str) -> None:
    """Of answers of a word or two the one that the context holds is quiet and the other is flagged."""
    context = (
        "Karl Lund opened the cinema in Bergen in 1956. It had 400 seats, and it was the first in town with a"
        " wide screen. After a fire it was built again with the help of its neighbours, and it is open today."
    )
    asked = (Message(role="user", content="Who opened the cinema, and where?"),)
    assert _score(_trace(answer, context, messages=asked)) < 0.5
    assert _score(_trace(wrong, context, messages=asked)) >= 0.8


def test_a_conclusion_from_the_context_scores_low() -> None:
    """That nothing else holds follows from `only`; an answer that says so is supported."""
    response = "We ship only to the United States and Canada, so we cannot ship elsewhere."
    assert _score(_trace(response, SHIPPING)) < 0.8


@pytest.mark.parametrize(("context", "response"), UNSUPPORTED)
def test_unsupported_answers_are_flagged(context: str, response: str) -> None:
    """Answers with numbers, names and facts the context lacks reach the flagging threshold of 0.8."""
    assert _score(_trace(response, context)) >= 0.8


def test_every_unsupported_answer_ranks_above_every_supported_one() -> None:
    """The two hand-written groups do not overlap."""
    low = [_score(_trace(response, context)) for context, response in SUPPORTED]
    high = [_score(_trace(response, context)) for context, response in UNSUPPORTED]
    assert max(low) < min(high)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 300), st.integers(0, 300), st.sampled_from([response for _, response in UNSUPPORTED]))
def test_a_planted_sentence_is_found_wherever_it_stands(before: int, after: int, planted: str) -> None:
    """An unsupported sentence is evidence, and slices to itself, wherever it stands in a long answer."""
    sentences = RETURNS.removeprefix("Returns: ").split(". ")
    filler = [sentences[i % len(sentences)].removesuffix(".") + ". " for i in range(before + after)]
    planted = planted.rsplit(". ", maxsplit=1)[-1]
    response = "".join(filler[:before]) + planted + " " + "".join(filler[before:])
    [found] = DETECTOR.assess([_trace(response, RETURNS)])
    assert found.score is not None
    assert found.score >= 0.8
    worst = next(item for item in found.evidence if item.kind == "unsupported_sentence")
    assert worst.field == "response"
    assert response[worst.start : worst.end] == planted


def test_evidence_points_at_the_number_and_the_name() -> None:
    """Numbers and names that no source holds are evidence of their own."""
    response = "Refunds take 21 business days, says Margaret Ellison of Portland."
    [found] = DETECTOR.assess([_trace(response, RETURNS)])
    spans = {(item.kind, response[item.start : item.end]) for item in found.evidence}
    assert ("unsupported_number", "21") in spans
    assert ("unsupported_entity", "Ellison") in spans


def test_a_refusal_that_goes_on_is_checked() -> None:
    """What follows `but` is a statement; the refusal alone is none."""
    refusal = "I am not sure"
    invented = f"{refusal}, but Margaret Ellison founded the company in Portland."
    assert _score(_trace(f"{refusal}.", RETURNS)) < 0.1
    assert _score(_trace(invented, RETURNS)) >= 0.8


def test_tool_results_are_sources() -> None:
    """An answer from a tool's result is grounded in it, and unsupported by another."""
    answer = "Order 7731 shipped on 3 May with DHL."
    held = ToolCall(
        name="orders", result='{"order": 7731, "status": "shipped", "date": "3 May", "carrier": "DHL"}'
    )
    other = ToolCall(name="weather", result='{"sky": "cloudy"}')
    assert _score(_trace(answer, tool_calls=(held,))) < _score(_trace(answer, tool_calls=(other,)))


def test_one_assessment_per_trace_in_order() -> None:
    """Mixed batches come back whole, in order, and as each trace would alone."""
    traces = [
        _trace(SUPPORTED[0][1], RETURNS),
        _trace("", RETURNS),
        _trace("Hello there."),
        _trace(UNSUPPORTED[0][1], RETURNS),
        _trace("Paris.", logprobs=(-2.0, -3.0)),
    ]
    found = DETECTOR.assess(traces)
    assert found == [DETECTOR.assess([trace])[0] for trace in traces]
    assert [item.status for item in found] == [
        Status.SCORED,
        Status.SKIPPED,
        Status.SKIPPED,
        Status.SCORED,
        Status.SCORED,
    ]
    assert [item.reason for item in found] == ["", "no_text", "no_context", "", ""]
    assert [item.calibrated for item in found] == [True, False, False, True, False]


def test_samples_that_disagree_raise_the_score() -> None:
    """Without context, a response its own alternatives contradict scores above one they repeat."""
    answer = "The treaty was signed by Ada Moreau in Lyon in 1874."
    same = _trace(answer, alternatives=(answer, "It was signed in Lyon in 1874 by Ada Moreau."))
    apart = _trace(
        answer, alternatives=("Karl Brandt signed it in Ghent in 1902.", "In 1820, in Turin, by Luca Neri.")
    )
    assert _score(same) < 0.4 < _score(apart)
    [found] = DETECTOR.assess([apart])
    assert {item.kind for item in found.evidence} == {"inconsistent_samples"}


def test_unsure_tokens_raise_the_score() -> None:
    """Low token probabilities score above high ones, and are evidence; infinities are taken."""
    assert _score(_trace("Paris.", logprobs=(-0.01, -0.02))) < 0.1
    [found] = DETECTOR.assess([_trace("Paris.", logprobs=(-2.0, float("-inf")))])
    assert found.score is not None
    assert found.score > 0.8
    assert [item.kind for item in found.evidence] == ["low_confidence"]


def test_references_the_prompt_lacks_are_evidence() -> None:
    """Without context, invented references are found by kind; those of the prompt are not."""
    response = "See https://a.example/x and Smith et al. (2019), doi 10.1000/q.1."
    [found] = DETECTOR.assess([_trace(response)])
    assert {item.kind for item in found.evidence} == {
        "fabricated_url",
        "fabricated_doi",
        "fabricated_citation",
    }
    asked = (Message(role="user", content="Is http://www.a.example/x good?"),)
    assert _score(_trace("Yes, https://a.example/x is good.", messages=asked)) == 0.0


@pytest.mark.parametrize(
    "response",
    ["\U0001f600 " * 50, "。".join("ab"), "\n\n1.\n2.", "x" * 5000, "a. " * 2000, "?", "7", "\x00"],
)
def test_odd_text_is_judged(response: str) -> None:
    """Text without words, sentences or spaces gets a score in [0, 1] like any other."""
    [found] = DETECTOR.assess([_trace(response, RETURNS, "")])
    assert found.status is Status.SCORED
    assert found.score is not None
    assert 0.0 <= found.score <= 1.0


@pytest.mark.parametrize(("name", "floor"), [("wice_claims", 0.75), ("begin_wow", 0.78), ("summedits", 0.60)])
def test_ranking_on_public_data(name: str, floor: float) -> None:
    """AUROC stays above a floor on SummEdits, never trained on, and on two sets the model learnt from."""
    path = SHARED / "evaldata" / "hallucination" / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name}: the shared evaluation data is not beside the checkout")
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    traces = [
        _trace(row["response"], row["context"], messages=(Message(content=row.get("question") or ""),))
        for row in rows
    ]
    scores = np.asarray([found.score for found in DETECTOR.assess(traces)], dtype=np.float64)
    labels = np.asarray([row["label"] for row in rows])
    wins = scores[labels == 1][:, None] - scores[labels == 0][None, :]
    assert float((wins > 0).mean() + (wins == 0).mean() / 2) >= floor


def test_build_and_tiers() -> None:
    """The factory loads the bundled weights; the tiers say that they are there and no cross-encoder is."""
    bundled, reader = tiers()
    assert bundled.present
    assert build().version == bundled.version == DETECTOR.version
    assert not reader.present
    assert "cross_encoder" in reader.cost
    with pytest.raises(ConfigError, match="cross_encoder"):
        build(cross_encoder="missing.onnx", cross_encoder_sha256="0" * 64)
    assert build(cross_encoder="missing.onnx", profile="offline").cascades == ()


def test_what_a_response_says_of_itself_is_a_signal() -> None:
    """A refusal and a stated cut-off are signals with and without context; an answer has neither."""
    refusal = "Sorry, I could not find that in the documents."
    for trace in (_trace(refusal), _trace(refusal, RETURNS)):
        assert DETECTOR.assess([trace])[0].values["refusal"] == 1.0
    assert DETECTOR.assess([_trace("My knowledge cutoff is 2023.")])[0].values == {"stated_cutoff": 1.0}
    assert "refusal" not in DETECTOR.assess([_trace(SUPPORTED[0][1], RETURNS)])[0].values


def test_words_regrouped_are_lonelier_than_words_kept_together() -> None:
    """A sentence that joins what its source keeps apart is measured as less in company."""
    source = (
        "Anna Berg founded the bakery in Oslo in 1931 and ran it with her cousin until the war came. Many"
        " years of quiet trade followed, and nothing much changed in the street. Karl Lund opened the cinema"
        " in Bergen in 1956."
    )
    model = Groundedness.load()
    [kept] = model.measure(Case("Karl Lund opened the cinema in Bergen.", [source])).claims
    [moved] = model.measure(Case("Anna Berg opened the cinema in Oslo.", [source])).claims
    apart = [name for name, _ in FEATURES].index("apart")
    assert kept.features[apart] < moved.features[apart]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("context", [RETURNS * 800, RETURNS.replace(".", ",") * 800])
def test_long_answers_over_long_sources_end(context: str) -> None:
    """A very long answer over very long sources, in short sentences or one, is judged whole."""
    response = "Refunds take 5 to 7 business days. " * 3000 + UNSUPPORTED[3][1]
    [found] = DETECTOR.assess([_trace(response, context)])
    assert found.values["claims"] == 3001
    assert response[found.evidence[0].start : found.evidence[0].end] == UNSUPPORTED[3][1]


def test_calls_of_a_run_are_sources_with_what_they_were_asked() -> None:
    """A result in a step supports an answer as a document does, and a terse one with its question."""
    door = Step(kind=StepKind.TOOL, name="get_state", input='{"door": "cellar"}', output="locked")
    told = _score(Trace(id="t", time=0.0, response="The cellar door is locked.", steps=(door,)))
    other = _score(Trace(id="t", time=0.0, response="The attic window was broken on Monday.", steps=(door,)))
    assert told < 0.8 < other
    chat = Step(kind=StepKind.CHAT, name="m", output="The cellar door is locked.")
    alone = Trace(id="t", time=0.0, response="The cellar door is locked.", steps=(chat,))
    (found,) = DETECTOR.assess([alone])
    assert found.reason == "no_context", "what a model said itself is no source"
