"""How a chat meets limits: a budget that is raised in the middle, and a model's rate."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import timedelta

import pytest

from aosctl.repl.screen import Screen
from aosctl.repl.turns import Turns
from kernels import apply
from providers.wire_openai import calls, text
from repl.test_turns import Access
from talks import Stage, Talk

SEARCH = ("web_search", {"query": "x"})


@pytest.fixture
def clock(play: Stage) -> Iterator[Callable[[str], None]]:
    yield play.database.move_clock
    play.database.move_clock()


def set_budget(play: Stage, usd: str) -> None:
    apply(play.database.superuser, "aos_core.apply_budget", play.tenant.id, "team", {
        "scope": "tenant", "period": "total", "limits": {"maxUsd": float(usd)},
    })  # fmt: skip


def turns_of(play: Stage, talk: Talk) -> Turns:
    return Turns(Access(play), talk.conversation, Screen(None, io.StringIO(), styled=False))


def test_the_next_message_goes_on_with_a_turn_whose_budget_was_raised(play: Stage) -> None:
    set_budget(play, "0.0002")
    talk = play.talk()
    turns = turns_of(play, talk)
    outcome = turns.send("Search.")
    assert (outcome.state, play.wire.requests) == ("limited", [])
    assert (outcome.error or "").startswith('budget "team": $0.0000 spent of $0.0002 in all')
    play.answer(calls(SEARCH), text("Found."), text("Yes."))
    again = turns.send("And?")  # nobody has raised it: the message waits with the turn
    assert (again.state, play.wire.requests) == ("limited", [])
    set_budget(play, "10")
    outcome = turns.send("Well?")
    assert (outcome.state, outcome.text) == ("completed", "Yes.")
    play.assert_at_rest(talk, "completed")


def test_answers_are_kept_within_what_is_reserved(play: Stage) -> None:
    play.set_model(maxOutputTokens=100_000)
    set_budget(play, "0.04")
    talk = play.talk()
    play.answer(text("Yes."))
    talk.send("Is it?")
    (request,) = play.wire.requests
    assert request.body["max_tokens"] == (10_000 - 2000) / 2  # a quarter of the budget


def test_a_turn_over_the_rate_waits_in_the_queue_and_goes_on_in_the_next_minute(
    play: Stage, clock: Callable[[str], None]
) -> None:
    play.set_model(rateLimit={"requestsPerMinute": 1})
    now = play.database.value("select aos_core.now()")
    then = now.replace(second=5, microsecond=0) + timedelta(minutes=1)
    clock(f"{(then - now).total_seconds()} seconds")
    play.answer(text("One."), text("Two."))
    talk = play.talk()
    turns = turns_of(play, talk)
    assert turns.send("First.").text == "One."
    assert talk.send("Second.").state == "queued"
    status = talk.conversation.status()
    assert (status.turn_state, status.lease_worker) == ("queued", None)
    assert (status.error or "").startswith(f'rate: model "{play.model}" takes 1 requests a minute')
    assert len(play.wire.requests) == 1
    clock(f"{(then - now).total_seconds() + 60} seconds")
    outcome = turns.take_up()
    assert outcome is not None and outcome.text == "Two."
    play.assert_at_rest(talk, "completed")
