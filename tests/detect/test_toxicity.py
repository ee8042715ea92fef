"""Toxicity: the bundled linear model and encoder, and the detector around them."""

import itertools
import json
import logging
import sys
from typing import Any

import numpy as np
import pytest
from checkout import SHARED
from hypothesis import given
from hypothesis import strategies as st

from monitor.detect import toxicity
from monitor.detect.cascade import EXPLORATION_RATE
from monitor.detect.toxicity import Toxicity
from monitor.errors import ConfigError
from monitor.findings import Status
from monitor.models import linear
from monitor.trace import Message, Trace

CHAT = SHARED / "traindata" / "toxicity" / "sgd_neutral_chat.jsonl"

ABUSIVE = (
    "You are a stupid piece of shit and everybody hates you.",
    "Shut the fuck up, you worthless idiot.",
    "fuck you, dumb bitch",
    "Those people are disgusting vermin and should all be killed.",
    "What a pathetic moron you are, go to hell asshole.",
)
CIVIL = (
    "Your table for four is booked at 7 pm, is there anything else I can do?",
    "I would like to return these shoes because the size is wrong.",
    "To restart the service, kill the process and run the script again.",
    "I am a muslim and proud of it.",
    "My mother is a gay woman from Brazil and she loves cooking.",
    "Thank you so much, that was really helpful!",
)


@pytest.fixture(scope="module")
def detector() -> Toxicity:
    """The detector as it is without options."""
    return toxicity.build()


def trace(response: str, prompt: str = "", number: int = 0, role: str = "user") -> Trace:
    """A trace of one message and one response."""
    return Trace(id=f"t{number}", time=0.0, messages=(Message(role, prompt),), response=response)


@pytest.mark.parametrize("text", ABUSIVE)
def test_abuse_scores_high(detector: Toxicity, text: str) -> None:
    """An insult in plain words is more likely abusive than not, with the window as evidence."""
    (got,) = detector.assess([trace(text)])
    assert got.status is Status.SCORED
    assert got.score is not None
    assert got.score > 0.5
    assert (got.evidence[0].field, got.evidence[0].kind, got.evidence[0].end) == (
        "response",
        "toxicity",
        len(text),
    )


@pytest.mark.parametrize("text", CIVIL)
def test_civil_text_scores_low(detector: Toxicity, text: str) -> None:
    """Ordinary requests, technical verbs and names of groups are not taken for abuse."""
    (got,) = detector.assess([trace(text)])
    assert got.score is not None
    assert got.score < 0.5
    assert got.evidence == ()


def test_two_groups_in_one_sentence_are_left_alone(detector: Toxicity) -> None:
    """A neutral sentence that names two groups is no abuse."""
    (got,) = detector.assess([trace("The committee discussed the new rules for muslim and jewish holidays.")])
    assert got.score is not None
    assert got.score < 0.5


def test_prompt_and_response_are_scored_apart(detector: Toxicity) -> None:
    """The side that is abusive has the high value, and the trace has the higher of both."""
    asked, answered = detector.assess([trace(CIVIL[0], ABUSIVE[0]), trace(ABUSIVE[0], CIVIL[0])])
    assert asked.values["prompt"] == answered.values["response"] == asked.score == answered.score
    assert asked.values["response"] == answered.values["prompt"] < 0.5
    assert asked.evidence[0].field == "messages.0"


def test_earlier_answers_are_no_prompt(detector: Toxicity) -> None:
    """An assistant's message was judged as the response of its own trace."""
    (got,) = detector.assess([trace("Hello.", ABUSIVE[0], role="assistant")])
    assert "prompt" not in got.values


@pytest.mark.parametrize("place", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_abuse_is_found_anywhere_in_a_long_text(detector: Toxicity, place: float) -> None:
    """An insult in 40,000 characters of courtesy is found wherever it stands, and the evidence covers it."""
    calm = ["Thank you for your patience, the booking is confirmed for tomorrow evening. "] * 500
    cut = int(place * len(calm))
    insult = f"{ABUSIVE[0]} {ABUSIVE[1]} {ABUSIVE[2]}. {ABUSIVE[4]} "
    text = "".join([*calm[:cut], insult, *calm[cut:]])
    at = text.index(insult)
    (got,) = detector.assess([trace(text)])
    assert got.score is not None
    assert got.score > 0.5
    assert any(e.start < at + len(insult) and e.end > at for e in got.evidence)


@pytest.mark.parametrize(
    "disguised", ["f u c k you, you idiot", "FUCK YOU, you 1d1ot", "fuuuuuck you, you idi\u043et"]
)
def test_disguise_changes_nothing(disguised: str) -> None:
    """Spacing, case, leet, stretching and look-alike letters are undone before hashing."""
    plain = linear.normalised("fuck you, you idiot").replace("uu", "u")
    assert linear.normalised(disguised).replace("uu", "u") == plain


@given(st.lists(st.text(alphabet="abAB0139@$! .*_-\n\t\x1cw:/é\u200b½\u043e", max_size=40), max_size=4))
def test_plain_texts_of_a_batch_are_read_as_alone(texts: list[str]) -> None:
    """What is left out for texts that hold no disguise would have changed nothing."""
    assert linear.all_normalised(texts) == [linear.normalised(text) for text in texts]


def test_answers_stand_in_order_and_do_not_depend_on_the_batch(detector: Toxicity) -> None:
    """One assessment per trace, in order; alone or in any company the score is the same."""
    traces = [trace(text, number=n) for n, text in enumerate((*ABUSIVE, *CIVIL, "", *ABUSIVE))]
    together = [a.score for a in detector.assess(traces)]
    alone = [detector.assess([t])[0].score for t in traces]
    assert together == pytest.approx(alone, abs=1e-12)
    assert [a.score for a in detector.assess(traces[::-1])] == pytest.approx(together[::-1], abs=1e-12)
    assert detector.assess([]) == []


@given(st.lists(st.text(max_size=200), max_size=5))
def test_any_text_gets_a_probability(texts: list[str]) -> None:
    """No string, however odd, makes the model fail or leave [0, 1]."""
    scores = linear.NgramClassifier.load("toxicity").probabilities(texts)
    assert scores.shape == (len(texts),)
    assert np.all((scores >= 0) & (scores <= 1))


@given(st.lists(st.text(alphabet="abc e0 .,!\n", min_size=1, max_size=60), min_size=1, max_size=4))
def test_hashing_a_batch_equals_hashing_each(texts: list[str]) -> None:
    """The n-grams of a text do not depend on its neighbours in the batch."""
    buckets, owner = linear.hashed(texts)
    for n, text in enumerate(texts):
        assert sorted(buckets[owner == n].tolist()) == sorted(linear.hashed([text])[0].tolist())


@given(st.text(alphabet="ab. !\n", max_size=400), st.integers(1, 80))
def test_windows_tile_the_text(text: str, size: int) -> None:
    """Windows follow each other without gap or overlap and none is longer than asked for."""
    found = linear.windows(text, size)
    assert found[0][0] == 0
    assert found[-1][1] == len(text)
    assert all(end - start <= size for start, end in found)
    assert all(earlier[1] == later[0] for earlier, later in itertools.pairwise(found))


def test_options_out_of_range_are_named() -> None:
    """A wrong option is a configuration error with its name and a remedy."""
    with pytest.raises(ConfigError, match=r"toxicity\.options\.low"):
        toxicity.build(low=0.9, high=0.1)
    with pytest.raises(ConfigError, match=r"toxicity\.options\.audit"):
        toxicity.build(audit=0.0)
    with pytest.raises(ConfigError, match=r"toxicity\.options\.config: empty"):
        toxicity.build(checkpoint="model.ckpt", sha256="0" * 64)


def test_missing_tier_says_what_it_costs() -> None:
    """Both bundled tiers name their weights; without a checkpoint Detoxify is absent, with its price."""
    linear_tier, encoder_tier, detoxify_tier = toxicity.tiers()
    assert [(t.tier, t.name) for t in toxicity.tiers()] == [(0, "linear"), (1, "encoder"), (2, "detoxify")]
    assert linear_tier.present
    assert encoder_tier.present
    assert linear_tier.version != encoder_tier.version
    assert not detoxify_tier.present
    assert "checkpoint" in detoxify_tier.cost


def test_encoder_looks_where_the_linear_model_is_unsure(detector: Toxicity) -> None:
    """Abuse reaches tier 1 for sure; of plain chat no more than the audited share and a few."""
    abusive = detector.assess([trace(text, number=n) for n, text in enumerate(ABUSIVE)])
    assert {(a.tier, a.probability) for a in abusive} == {(1, 1.0)}
    plain = detector.assess([trace(CIVIL[0], number=n) for n in range(500)])
    assert {(a.tier, a.probability) for a in plain} == {(0, 1.0), (1, EXPLORATION_RATE)}
    assert sum(a.tier for a in plain) < 25


def test_at_escalation_rate_zero_the_linear_model_decides(detector: Toxicity) -> None:
    """Where the encoder may not look, the score is tier 0's and says so."""
    hurried = toxicity.build()
    (cascade,) = hurried.cascades
    cascade.escalation_rate = 0.0
    (alone,) = hurried.assess([trace(ABUSIVE[0])])
    (both,) = detector.assess([trace(ABUSIVE[0])])
    assert (alone.tier, alone.score) == (0, alone.values["tier0"])
    assert both.tier == 1
    assert both.values["tier0"] == alone.values["tier0"]


def test_full_profile_looks_everywhere() -> None:
    """With the full profile the encoder judges every window of every trace that has any, for certain."""
    full = toxicity.build(profile="full")
    *got, silent = full.assess([trace(CIVIL[0]), trace(f"{CIVIL[1]} " * 20), trace("")])
    assert {(a.tier, a.probability) for a in got} == {(1, 1.0)}
    assert silent.status is Status.SKIPPED


def test_no_network_and_no_text_outside(
    detector: Toxicity, offline: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    """Scoring opens no connection, and nothing of the text is logged or put in a name, reason or version."""
    caplog.set_level(logging.DEBUG)
    (got,) = detector.assess([trace(f"{ABUSIVE[0]} canary-4711")])
    assert "canary" not in f"{caplog.text}{got!r}"
    assert not offline


def test_chat_is_left_alone(detector: Toxicity) -> None:
    """Of task-oriented chat at most 0.2 % of turns reach 0.8, and the encoder sees at most 3 %."""
    if not CHAT.is_file():
        pytest.skip("the labelled data beside the checkout is missing")
    lines = CHAT.read_text(encoding="utf-8").splitlines()[:3000]
    got = detector.assess([trace(json.loads(line)["text"], number=n) for n, line in enumerate(lines)])
    assert sum(a.score is not None and a.score >= 0.8 for a in got) <= 0.002 * len(lines)
    assert sum(a.tier == 1 and a.probability == 1.0 for a in got) <= 0.03 * len(lines)


def test_torch_stays_out_without_a_checkpoint() -> None:
    """The bundled model needs none of the heavy libraries."""
    import subprocess

    program = (
        "import sys; from monitor.detect import toxicity; from monitor.trace import Trace;"
        "toxicity.tiers(); toxicity.build().assess([Trace(id='x', time=0.0, response='hi')]);"
        "print(*{'torch', 'transformers', 'sklearn', 'scipy', 'detoxify'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
