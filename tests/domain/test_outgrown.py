"""A run that outgrows its model's context goes on, over real sockets and with every vendor's words.

Before a question that would not fit, and after one that the service refused as too long, what is
old is summed up or dropped: as steps and an event, with its cost, and nothing is deleted.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from aosctl.domain.loop_events import FellBack, MadeRoom
from kernels import META, call
from providers.dialects import DIALECTS, Dialect
from providers.wire import Entry, Reply, Wire
from talks import Stage, Talk

OPENAI, RESPONSES, ANTHROPIC, GEMINI, OLLAMA = DIALECTS
TOO_LONG = "a context that is too long"
SEVEN = ("sql_query", {"query": "select repeat('seven ', 1000) as seven"})
WORDS = "word " * 1500  # 2500 tokens at three bytes each; the wires say of anything that it was 20
LABELS = [dialect.label for dialect in DIALECTS]


class Small:
    """The stage's agent with a model of a small context, on a wire of any vendor."""

    def __init__(self, play: Stage, dialect: Dialect, wire: Wire) -> None:
        self.play, self.dialect, self.wire = play, dialect, wire

    def model(self, window: int = 4000, **changes: Any) -> None:
        spec = {
            "provider": self.dialect.name, "baseUrl": self.wire.base_url, "model": "wire-1",
            "timeoutSeconds": 30, "capabilities": dict(self.dialect.capabilities),
            "contextWindow": window, "maxOutputTokens": min(window, 500),
            "pricing": {"inputUsdPerMtok": 1, "outputUsdPerMtok": 2},
        }  # fmt: skip
        admin = self.play.database.superuser
        call(admin, "aos_meta.apply_model", self.play.model, META, spec | changes)

    def says(self, *words: str) -> None:
        self.answers(*(self.dialect.words.text(word) for word in words))

    def answers(self, *replies: Entry) -> None:
        self.wire.queue.extend(replies)

    def asked(self, nth: int) -> str:
        return json.dumps(self.wire.requests[nth].body)

    def compactions(self, talk: Talk) -> list[dict[str, Any]]:
        return [row[0] for row in self.play.database.rows(
            "select data from aos_core.event_log where stream_id = %s and kind = 'run.compacted'"
            " order by seq", talk.conversation.run_id,
        )]  # fmt: skip

    def left_out(self, talk: Talk) -> str:
        return str(self.play.database.value(
            "select range_agg(int8range(first_step, last_step, '[]'))::text"
            " from aos_core.left_out where run_id = %s", talk.conversation.run_id,
        ))  # fmt: skip


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=DIALECTS, ids=LABELS)
def small(request: pytest.FixtureRequest, play: Stage, stack: ExitStack) -> Small:
    return Small(play, request.param, stack.enter_context(request.param.wire([])))


@pytest.fixture
def chat(play: Stage, stack: ExitStack) -> Small:
    return Small(play, OPENAI, stack.enter_context(OPENAI.wire([])))


def made_room(talk: Talk) -> list[tuple[str, bool]]:
    return [(e.why, e.summarised) for e in talk.events if isinstance(e, MadeRoom)]


def pairs_are_whole(body: Any) -> bool:
    """Tell whether each call that is sent has its result, and each result its call."""
    text = json.dumps(body)
    return "[late result" not in text and "no result of this call" not in text


def test_before_a_question_that_would_not_fit_the_older_part_is_summed_up(small: Small) -> None:
    small.model()
    talk = small.play.talk()
    small.says("one", "two", "In short: many words.", "three")
    assert talk.send(f"first {WORDS}").state == "completed"
    assert talk.send(f"second {WORDS}").state == "completed"
    outcome = talk.send(f"third {WORDS}")
    assert (outcome.state, outcome.text) == ("completed", "three")
    assert made_room(talk) == [("estimate", True)]
    assert len(small.wire.requests) == 4
    summing, asked = small.asked(2), small.asked(3)
    assert "Sum this part up" in summing and "first word" in summing and "sql_query" not in summing
    assert "In short: many words." in asked and "third word" in asked
    assert "first word" not in asked and "You answer." in asked and "sql_query" in asked
    assert asked.index("In short") < asked.index("third word")
    stored = small.play.transcript(talk)
    assert [role for role, _ in stored] == ["user", "assistant"] * 2 + ["user"] * 2 + [
        "assistant"
    ] * 2
    assert stored[0][1] == f"first {WORDS}" and stored[6][1] == "In short: many words."
    (event,) = small.compactions(talk)
    assert (event["why"], event["summary_step"]) == ("estimate", 6)
    assert event["context_tokens"] < 4000 and event["in"] and event["out"]
    spent = small.play.database.value(
        "select sum(cost_usd) from aos_core.step where run_id = %s", talk.conversation.run_id
    )
    assert talk.conversation.status().spent_usd == spent
    small.says("four")
    assert talk.send("fourth").state == "completed"
    assert "In short: many words." in small.asked(4) and len(small.wire.requests) == 5
    small.play.assert_at_rest(talk, "completed")


def test_a_question_that_the_service_finds_too_long_is_asked_again_with_less(small: Small) -> None:
    small.model(200_000)
    refusal = small.dialect.faults[TOO_LONG]
    assert isinstance(refusal, Reply)
    talk = small.play.talk()
    small.says("one", "two")
    talk.send(f"first {WORDS}")
    talk.send(f"second {WORDS}")
    small.answers(refusal)
    small.says("In short.", "three")
    outcome = talk.send("third")
    assert (outcome.state, outcome.text) == ("completed", "three")
    assert made_room(talk) == [("overflow", True)]
    assert "first word" not in small.asked(-1) and "In short." in small.asked(-1)
    small.play.assert_at_rest(talk, "completed")


def test_in_the_middle_of_a_turn_no_call_is_torn_from_its_result(small: Small) -> None:
    small.model(8000)
    talk = small.play.talk()
    words = small.dialect.words
    rounds = [words.calls(SEVEN, SEVEN, say=f"Round {n}.") for n in range(5)]
    small.answers(*rounds[:4])
    small.says("In short: sevens.")
    small.answers(rounds[4])
    small.says("Done.")
    outcome = talk.send("Count, please.")
    assert (outcome.state, outcome.text) == ("completed", "Done.")
    assert made_room(talk) == [("estimate", True)]
    for request in small.wire.requests:
        assert pairs_are_whole(request.body)
    last = small.asked(-1)
    assert "Count, please." in last and "In short: sevens." in last and "Round 0." not in last
    assert last.index("In short") < last.index("Count, please.")
    assert call(small.play.tenant.person, "aos_core.verify_tenant", small.play.tenant.id) is None
    stored = [text for _, text in small.play.transcript(talk)]
    assert sum("Round" in text for text in stored) == 5
    small.play.assert_at_rest(talk, "completed")


def test_another_driver_reads_the_summary_too_and_a_fork_and_what_was_left_out_is_kept(
    chat: Small,
) -> None:
    chat.model()
    talk = chat.play.talk()
    chat.says("one", "two", "In short.", "three", "four", "forked", "five")
    for number in ("first", "second", "third"):
        talk.send(f"{number} {WORDS}")
    other = chat.play.talk(run=talk.conversation.run_id, worker="test:2")
    assert other.send("fourth").state == "completed"
    assert "In short." in chat.asked(-1) and "first word" not in chat.asked(-1)
    fork = call(chat.play.tenant.person, "aos_agent.fork_run", chat.play.tenant.id,
                talk.conversation.run_id)  # fmt: skip
    copied = chat.play.talk(run=fork["run_id"], worker="test:3")
    assert copied.send("on").state == "completed"
    assert "In short." in chat.asked(-1) and "first word" not in chat.asked(-1)
    early = call(chat.play.tenant.person, "aos_agent.fork_run", chat.play.tenant.id,
                 talk.conversation.run_id, 7)  # fmt: skip
    assert early["steps"] == 4  # not at the summary, which ends no turn
    chat.wire.queue.clear()
    chat.says("early")
    assert chat.play.talk(run=early["run_id"], worker="test:4").send("go").state == "completed"
    assert "first word" in chat.asked(-1)
    assert chat.play.transcript(talk)[0] == ("user", f"first {WORDS}")


def test_without_a_summary_what_does_not_fit_is_dropped_and_said_to_be(chat: Small) -> None:
    chat.model(compaction={"mode": "drop"})
    talk = chat.play.talk()
    chat.says("one", "two", "three")
    for number in ("first", "second", "third"):
        assert talk.send(f"{number} {WORDS}").state == "completed"
    assert made_room(talk) == [("estimate", False)] and len(chat.wire.requests) == 3
    assert "was dropped: nothing of it is shown here" in chat.asked(-1)
    assert chat.compactions(talk)[0]["dropped"] is True
    chat.play.assert_at_rest(talk, "completed")


def test_where_it_is_off_the_turn_fails_as_the_service_says(chat: Small) -> None:
    chat.model(compaction={"mode": "off"})
    talk = chat.play.talk()
    chat.says("one", "two")
    talk.send(f"first {WORDS}")
    talk.send(f"second {WORDS}")
    chat.answers(OPENAI.faults[TOO_LONG])  # type: ignore[arg-type]
    outcome = talk.send(f"third {WORDS}")
    assert outcome.state == "failed" and "longer than the model's context" in str(outcome.error)
    assert not made_room(talk)


def test_one_question_that_never_fits_fails_with_the_services_words(chat: Small) -> None:
    chat.model()
    talk = chat.play.talk()
    chat.answers(OPENAI.faults[TOO_LONG])  # type: ignore[arg-type]
    outcome = talk.send(WORDS * 6)
    assert outcome.state == "failed" and not made_room(talk)
    chat.says("In short.", "fine")
    assert talk.send("shorter, then").text == "fine"  # what was too long may go by now
    assert made_room(talk) == [("estimate", True)]
    assert len(chat.asked(1)) < 20_000  # the model sums up what it can be shown of it


def test_a_turn_that_is_compacted_again_and_again_rests_limited(chat: Small) -> None:
    chat.model(2600, maxOutputTokens=200)
    talk = chat.play.talk()
    for number in range(4):
        chat.answers(OPENAI.words.calls(SEVEN, SEVEN, say=f"Round {number}."))
        chat.says("In short.")
    outcome = talk.send("Count for ever.")
    state = chat.play.state(talk)
    assert outcome.state == "limited", state
    assert state[1] == "limited" and str(state[2]).startswith("context: compacted 3 times in a row")
    assert len(made_room(talk)) == 3
    chat.wire.queue.clear()
    chat.says("Enough.")
    call(chat.play.tenant.person, "aos_agent.resume_run", chat.play.tenant.id,
         talk.conversation.run_id)  # fmt: skip
    resumed = talk.resume()
    assert resumed is not None and resumed.state == "completed"
    chat.play.assert_at_rest(talk, "completed")


def test_the_summary_is_paid_from_the_runs_budget(chat: Small) -> None:
    chat.model(pricing={"inputUsdPerMtok": 1000, "outputUsdPerMtok": 1000})
    talk = chat.play.talk()
    chat.says("one", "two", "In short.", "three")
    talk.send(f"first {WORDS}")
    talk.send(f"second {WORDS}")
    spent = talk.conversation.status().spent_usd
    chat.play.database.superuser.execute(
        "update aos_core.run set max_tokens = input_tokens + output_tokens + 20 where run_id = %s",
        (talk.conversation.run_id,),
    )
    outcome = talk.send(f"third {WORDS}")
    assert outcome.state == "limited" and made_room(talk) == [("estimate", True)]
    assert talk.conversation.status().spent_usd > spent
    assert len(chat.wire.requests) == 3  # the question itself was not asked any more


def test_a_fallback_with_a_larger_context_goes_before_a_summary(chat: Small, stack: Any) -> None:
    wire = stack.enter_context(ANTHROPIC.wire([]))
    call(chat.play.database.superuser, "aos_meta.apply_model", f"large-{chat.play.model}", META, {
        "provider": "anthropic", "baseUrl": wire.base_url, "contextWindow": 400_000,
    })  # fmt: skip
    chat.model(200_000, fallbacks=[f"large-{chat.play.model}"])
    talk = chat.play.talk()
    chat.says("one")
    talk.send(f"first {WORDS}")
    chat.answers(OPENAI.faults[TOO_LONG])  # type: ignore[arg-type]
    wire.queue.append(ANTHROPIC.words.text("large"))
    assert talk.send("second").text == "large"
    assert [e for e in talk.events if isinstance(e, FellBack)] and not made_room(talk)
