"""Whole turns over each wire: what is stored, what it costs, and a change in the middle."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

import pytest

from aosctl.domain.loop_events import Outcome
from providers.dialects import DIALECTS, Dialect, who_say
from providers.wire import Entry, Reply, Wire
from talks import Stage, Talk

ONE_ROW = {"query": "select id, name from item where id = 1"}
PRICES = {"inputUsdPerMtok": 10, "cachedInputUsdPerMtok": 1, "outputUsdPerMtok": 100}


@dataclass
class Act:
    """A stage whose model answers over one provider's wire."""

    play: Stage
    dialect: Dialect
    wire: Wire

    def takes_over(self) -> None:
        self.play.set_model(
            provider=self.dialect.name,
            baseUrl=self.wire.base_url,
            pricing=PRICES,
            capabilities=dict(self.dialect.capabilities),
        )

    def answer(self, *replies: Entry) -> None:
        self.wire.queue.extend(replies)

    def says(self, scene: str) -> Reply:
        found = self.dialect.scenes[scene]
        assert isinstance(found, Reply)
        return found


@pytest.fixture(params=DIALECTS, ids=lambda dialect: dialect.label)
def act(request: pytest.FixtureRequest, play: Stage) -> Iterator[Act]:
    with request.param.wire([]) as wire:
        found = Act(play, request.param, wire)
        found.takes_over()
        yield found


def able(scene: str) -> pytest.MarkDecorator:
    """Run a test with those whose wire can say this."""
    return pytest.mark.parametrize("act", who_say(scene), indirect=True, ids=lambda d: d.label)


def test_a_turn_with_a_call_is_stored_and_costs_what_was_counted(act: Act) -> None:
    talk = act.play.talk()
    act.answer(
        act.dialect.words.calls(("sql_query", ONE_ROW), say="Let me look."), act.says("words")
    )
    outcome = talk.send("What is item 1?")
    assert (outcome.state, outcome.text) == ("completed", "There are three.")
    assert talk.said == "Let me look.There are three."
    assert talk.results[0][0] is True
    assert '"rows": [[1, "lamp"]]' in json.dumps(act.wire.requests[1].body).replace("\\", "")
    _, asked, _, told = act.play.messages(talk)
    assert asked["origin"]["provider"] == told["origin"]["provider"] == act.dialect.name
    spent = Decimal(40 * 10 + 10 * 100) / 10**6
    assert talk.conversation.status().spent_usd == spent
    act.play.assert_at_rest(talk, "completed")


@able("cached, written and reasoning tokens")
def test_what_came_from_a_cache_costs_less(act: Act) -> None:
    talk = act.play.talk()
    act.answer(act.says("cached, written and reasoning tokens"))
    talk.send("How many?")
    assert act.play.messages(talk)[-1]["usage"] == {
        "in": 20, "cache_read": 80, "cache_write": 10, "out": 30, "reasoning": 20,
    }  # fmt: skip
    spent = Decimal(20 * 10 + 80 * 1 + 30 * 100) / 10**6
    assert talk.conversation.status().spent_usd == spent


def is_answered_with_an_error(act: Act, scene: str) -> None:
    talk = act.play.talk()
    act.answer(act.says(scene), act.dialect.words.text("Sorry."))
    assert talk.send("What is item 1?").state == "completed"
    assert [ok for _, ok, _ in act.play.results(talk)] == [False]
    act.play.assert_at_rest(talk, "completed")


@able("a call cut off by the length")
def test_a_call_that_is_cut_off_is_never_run(act: Act) -> None:
    is_answered_with_an_error(act, "a call cut off by the length")


@able("arguments that don't parse")
def test_a_call_whose_arguments_do_not_parse_is_never_run(act: Act) -> None:
    is_answered_with_an_error(act, "arguments that don't parse")


def failed(act: Act, talk: Talk, fault: Reply) -> Outcome:
    act.answer(fault)
    outcome = talk.send("Hello?")
    assert outcome.state == "failed"
    act.play.assert_at_rest(talk, "failed")
    return outcome


def test_a_fault_fails_the_turn_and_the_next_one_works(act: Act) -> None:
    talk, words = act.play.talk(), act.dialect.words
    assert "refused the key" in str(failed(act, talk, words.error(401, "no such key")).error)
    act.answer(words.error(429, headers={"Retry-After": "7"}), words.text("So ", "far").cut(2),
               words.text("Here I am."))  # fmt: skip
    assert talk.send("And now?").text == "Here I am."
    assert talk.pauses == [7.0, 2.0]


def test_another_provider_takes_over_between_two_turns_and_gives_back(act: Act) -> None:
    talk = act.play.talk()
    act.answer(act.dialect.richest, act.dialect.words.text("A lamp."))
    assert talk.send("What is item 1?").text == "A lamp."
    for dialect in DIALECTS:
        with dialect.wire([dialect.words.text("Yes.")]) as wire:
            Act(act.play, dialect, wire).takes_over()
            assert act.play.talk(run=talk.conversation.run_id).send("Sure?").text == "Yes."
            read = json.dumps(wire.requests[0].messages, ensure_ascii=False)
        assert "What is item 1?" in read and "A lamp." in read and "Looking… ä€😀" in read
        assert "c2VhbA==" not in read  # which is for who sealed it
    act.takes_over()
    act.answer(act.dialect.words.text("Quite."))
    assert act.play.talk(run=talk.conversation.run_id).send("Really?").text == "Quite."
