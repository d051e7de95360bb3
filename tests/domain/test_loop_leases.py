"""A lease is kept while the model thinks; who lost it, or was cancelled, writes nothing more."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from aosctl.domain.loop_events import Retrying
from aosctl.domain.tools.base import Call, ToolResult
from aosctl.errors import LeaseLost
from kernels import call
from providers.wire_openai import Reply, Request, calls, error, text
from talks import Stage, Talk, after, beside, until

SLOW = ("sql_write", {"statement": "select slowly(30, 93)"})
SOON = 3.0
"""Seconds: about one, on a busy machine."""
SLEEPERS = (
    "select count(*) from pg_stat_activity where datname = current_database()"
    " and wait_event = 'PgSleep'"
)


def cancel(play: Stage, talk: Talk, what: str) -> None:
    """Cancel the run or its open turn, as another person does."""
    run = talk.conversation.run_id
    call(play.tenant.person, f"aos_agent.{what}", play.tenant.id, run, "changed my mind")


class Held:
    """web_search that waits to be let go."""

    name = "web_search"

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.go = threading.Event()
        self.stop: threading.Event | None = None

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        self.stop = call.stop
        self.begun.set()
        assert self.go.wait(20)
        return ToolResult(True, {"found": "late"})


@pytest.fixture
def unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nobody look after a lease that is driven: with `beat_seconds`, only writes find out."""
    monkeypatch.setattr("aosctl.domain.heart.LOOK_SECONDS", 600.0)


def test_heartbeats_keep_a_lease_through_a_model_call_longer_than_it(
    play: Stage, clock: Callable[[str], None]
) -> None:
    """The clock jumps to where the lease as it was given would be over."""
    talk = play.talk(lease_seconds=600, beat_seconds=0.05)
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    left = (
        "select lease_expires_at - aos_core.now() > interval '1 second' * %s"
        " from aos_core.run where run_id = %s"
    )
    go = threading.Event()
    play.answer(after(go, "At last."))
    with beside(lambda: talk.send("Hello?")) as outcomes:
        until(lambda: play.wire.requests, "the request")
        for times in range(1, 4):
            clock(f"{400 * times} seconds")
            until(lambda: play.database.value(left, 400, talk.conversation.run_id), "a heartbeat")
            assert other.resume() is None
        go.set()
    assert outcomes[0].state == "completed", outcomes
    assert play.tenant.run_row(talk.conversation.run_id)["attempts"] == 1


def test_a_lost_lease_ends_the_loop_and_writes_nothing(
    play: Stage, clock: Callable[[str], None]
) -> None:
    talk = play.talk(beat_seconds=0.05)
    run = talk.conversation.run_id
    play.answer(calls(SLOW).stall(2), text("Here."))
    with beside(lambda: talk.send("Hello?")) as outcomes:
        until(lambda: play.wire.requests, "the request")
        clock("1 hour")
        assert play.wire.client_left.wait(20)
    assert isinstance(outcomes[0], LeaseLost), outcomes
    assert play.transcript(talk) == [("user", "Hello?")]
    other = play.talk(run=run, worker="test:2")
    outcome = other.resume()
    assert outcome is not None and outcome.text == "Here."
    assert play.transcript(talk) == [("user", "Hello?"), ("assistant", "Here.")]


@pytest.mark.usefixtures("unwatched")
def test_a_late_worker_cannot_store_its_answer(play: Stage, clock: Callable[[str], None]) -> None:
    talk = play.talk(beat_seconds=600)
    other = play.talk(run=talk.conversation.run_id, worker="test:2")

    def overtaken(_request: Request) -> Reply:
        clock("1 hour")
        play.answer(text("First."))
        assert other.resume() is not None
        return text("Late.")

    play.answer(overtaken)
    assert talk.send("Hello?").state == "queued"  # it was another's by then
    assert play.transcript(talk) == [("user", "Hello?"), ("assistant", "First.")]
    assert talk.resume() is None
    play.answer(text("Second."))
    assert talk.send("And now?").text == "Second."
    assert [m["content"] for m in play.wire.requests[-1].messages[1:]] == [
        "Hello?", "First.", "And now?",
    ]  # fmt: skip
    play.assert_at_rest(talk, "completed")


@pytest.mark.usefixtures("unwatched")
def test_an_answer_whose_lease_ran_out_is_not_paid_for_twice(
    play: Stage, clock: Callable[[str], None]
) -> None:
    talk = play.talk(beat_seconds=600)

    def expired(_request: Request) -> Reply:
        clock("1 hour")  # a laptop that slept
        return text("Paid for.")

    play.answer(expired)
    with pytest.raises(LeaseLost):
        talk.send("Hello?")
    outcome = talk.resume()
    assert outcome is not None and (outcome.state, outcome.text) == ("completed", "Paid for.")
    assert len(play.wire.requests) == 1
    play.assert_at_rest(talk, "completed")


def test_looking_after_a_lease_neither_prolongs_it_nor_writes(play: Stage) -> None:
    talk = play.talk(beat_seconds=600)
    run = talk.conversation.run_id
    looks = (
        "select count(*) from pg_stat_activity where datname = current_database()"
        " and application_name like '%%heartbeat' and query like '%%check_lease%%'"
    )
    go = threading.Event()
    play.answer(after(go, "At last."))
    with beside(lambda: talk.send("Hello?")) as outcomes:
        until(lambda: play.wire.requests, "the request")
        before = play.tenant.run_row(run)
        until(lambda: play.database.value(looks), "a look")
        assert play.tenant.run_row(run) == before
        go.set()
    assert outcomes[0].state == "completed", outcomes


@pytest.mark.parametrize("what", ["cancel_turn", "cancel_run"])
@pytest.mark.parametrize("heard", [0, 2])
def test_a_turn_cancelled_elsewhere_while_the_model_thinks_hangs_up(
    play: Stage, what: str, heard: int
) -> None:
    talk = play.talk(beat_seconds=600)  # not at the next beat: soon
    play.answer(text("Once ", "upon").stall(heard))
    with beside(lambda: talk.send("Hello?")) as outcomes:
        until(lambda: play.wire.requests and (talk.said or not heard), "the stall")
        cancel(play, talk, what)
        assert play.wire.client_left.wait(SOON)
    assert outcomes[0].state == "cancelled", outcomes
    assert play.transcript(talk) == [("user", "Hello?")]
    run_state, turn_state, _ = play.state(talk)
    assert turn_state == "cancelled"
    assert run_state == ("active" if what == "cancel_turn" else "cancelled")
    if what == "cancel_turn":
        play.answer(text("Yes."))
        assert talk.send("And now?").text == "Yes."


def test_a_turn_cancelled_while_a_tool_acts_takes_no_result(play: Stage) -> None:
    held = Held()
    talk = play.talk(tools={"web_search": held})
    play.answer(calls(("web_search", {"query": "x"})))
    with beside(lambda: talk.send("Search.")) as outcomes:
        assert held.begun.wait(20)
        cancel(play, talk, "cancel_turn")
        held.go.set()
    assert outcomes[0].state == "cancelled", outcomes
    assert "late" not in str(play.results(talk)) and "changed my mind" in str(play.results(talk))
    play.assert_at_rest(talk, "cancelled")
    play.answer(text("Yes."))
    assert talk.send("And now?").text == "Yes."
    assert play.wire.requests[-1].messages[-2]["role"] == "tool"


def test_a_tool_is_told_that_others_have_ended_its_turn(play: Stage) -> None:
    held = Held()
    talk = play.talk(tools={"web_search": held})
    play.answer(calls(("web_search", {"query": "x"})))
    with beside(lambda: talk.send("Search.")) as outcomes:
        assert held.begun.wait(20)
        assert held.stop is not None and not held.stop.is_set()
        cancel(play, talk, "cancel_turn")
        until(held.stop.is_set, "the notice")
        held.go.set()
    assert outcomes[0].state == "cancelled", outcomes


def test_a_turn_cancelled_while_a_statement_runs_stops_it_and_leaves_no_effect(
    play: Stage,
) -> None:
    talk = play.talk(beat_seconds=600)
    play.answer(calls(SLOW))
    with beside(lambda: talk.send("Sleep.")) as outcomes:
        until(lambda: play.database.value(SLEEPERS), "the statement")
        cancel(play, talk, "cancel_turn")
        until(lambda: not play.database.value(SLEEPERS), "the statement's end")
    assert outcomes[0].state == "cancelled", outcomes
    assert not play.database.rows("select 1 from shop.item where id = 93")
    play.assert_at_rest(talk, "cancelled")


@pytest.mark.parametrize("heard", [0, 2])
def test_a_person_who_stops_while_the_model_speaks_keeps_the_run(play: Stage, heard: int) -> None:
    talk = play.talk()
    play.answer(text("Once ", "upon").stall(heard))
    with beside(lambda: talk.send("Hello?")) as outcomes:
        until(lambda: play.wire.requests and (talk.said or not heard), "the stall")
        talk.stop.set()
        assert play.wire.client_left.wait(20)
    assert (outcomes[0].state, outcomes[0].error) == ("cancelled", "interrupted"), outcomes
    play.assert_at_rest(talk, "cancelled")
    talk.stop.clear()
    play.answer(text("Yes."))
    assert talk.send("And now?").text == "Yes."
    play.assert_at_rest(talk, "completed")


def test_a_stop_that_comes_late_cancels_no_other_turn(play: Stage) -> None:
    talk = play.talk(beat_seconds=600)
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    heard, go = threading.Event(), threading.Event()

    def observe(_event: object) -> None:
        heard.set()
        assert go.wait(20)

    play.answer(text("Once ", "upon").stall(2), text("Yes."))
    with beside(lambda: talk.conversation.send("Hello?", observe, talk.stop)) as stopped:
        assert heard.wait(20)
        talk.stop.set()
        cancel(play, talk, "cancel_turn")
        lease = play.tenant.open(talk.conversation.run_id, "And now?")
        assert lease["status"] == "opened"
        go.set()
    assert stopped[0].state == "cancelled", stopped
    talk.conversation.cancel("late again")
    outcome = other.resume()
    assert outcome is not None and (outcome.state, outcome.text) == ("completed", "Yes.")
    play.assert_at_rest(talk, "completed")


def test_a_person_who_stops_a_statement_need_not_wait_for_it(play: Stage) -> None:
    talk = play.talk()
    play.answer(calls(SLOW))
    with beside(lambda: talk.send("Sleep.")) as outcomes:
        until(lambda: play.database.value(SLEEPERS), "the statement")
        talk.stop.set()
        until(lambda: not play.database.value(SLEEPERS), "the statement's end")
    assert outcomes[0].state == "cancelled", outcomes
    assert not play.database.rows("select 1 from shop.item where id = 93")
    play.assert_at_rest(talk, "cancelled")


def test_a_person_who_stops_between_two_attempts_is_heard(play: Stage) -> None:
    talk = play.talk(patient=True)
    play.answer(error(429, "slow down", headers={"Retry-After": "19"}))
    with beside(lambda: talk.send("Hello?")) as outcomes:
        until(lambda: [e for e in talk.events if isinstance(e, Retrying)], "the pause")
        talk.stop.set()
    assert outcomes[0].state == "cancelled", outcomes
    assert len(play.wire.requests) == 1
    play.assert_at_rest(talk, "cancelled")


def test_a_tool_is_told_that_the_person_stops(play: Stage) -> None:
    held = Held()
    talk = play.talk(tools={"web_search": held})
    play.answer(calls(("web_search", {"query": "x"})))
    with beside(lambda: talk.send("Search.")) as outcomes:
        assert held.begun.wait(20)
        assert held.stop is not None and not held.stop.is_set()
        talk.stop.set()
        assert held.stop.is_set()
        held.go.set()
    assert outcomes[0].state == "cancelled", outcomes
    assert '"late"' in play.results(talk)[0][2]  # what it has done is kept
    play.assert_at_rest(talk, "cancelled")
