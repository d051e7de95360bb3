"""A conversation: approvals from here and elsewhere, messages meanwhile, and what a turn costs."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from aosctl.domain.loop_events import ApprovalAsked, CallEnded, Outcome
from aosctl.errors import ApprovalSettled, IllegalTransition, NotFound
from kernels import META, call
from providers.wire_openai import Reply, Request, calls, text
from talks import GRANT_SHOP, Stage, Talk, after, beside, until

READ = ("sql_query", {"query": "select name from item where id = 1"})
SEARCH = ("web_search", {"query": "lamps"})


def delete(item: int) -> tuple[str, dict[str, str]]:
    """Return a call that needs an approval."""
    return "sql_execute", {"statement": f"delete from item where id = {item}"}  # noqa: S608


def item(play: Stage, number: int) -> int:
    """Make an item to be deleted."""
    play.database.superuser.execute(
        "insert into shop.item values (%s, 'doomed') on conflict do nothing", (number,)
    )
    return number


def exists(play: Stage, number: int) -> bool:
    return bool(play.database.rows("select 1 from shop.item where id = %s", number))


def waiting(play: Stage, number: int, *others: tuple[str, object]) -> tuple[Talk, UUID]:
    """Have the agent ask to delete an item; return the first approval that the turn waits for."""
    talk = play.talk()
    play.answer(calls(delete(item(play, number)), *others))
    assert talk.send("Delete it.").state == "waiting"
    asked = [event.call for event in talk.events if isinstance(event, ApprovalAsked)]
    assert {(call.skill, call.status) for call in asked} == {("sql_execute", "awaiting_approval")}
    approvals = talk.conversation.pending_approvals()
    assert [row.args for row in approvals] == [call.args for call in asked]
    assert approvals[0].args == delete(number)[1]
    return talk, approvals[0].approval_id


def test_an_approved_call_runs_and_the_turn_goes_on(play: Stage) -> None:
    talk, approval = waiting(play, 201)
    assert exists(play, 201) and len(play.wire.requests) == 1
    assert talk.resume() is None
    talk.conversation.decide(approval, "approved")
    play.answer(text("Deleted."))
    outcome = talk.resume()
    assert outcome is not None and (outcome.state, outcome.text) == ("completed", "Deleted.")
    assert not exists(play, 201)
    assert '"row_count": 1' in play.wire.requests[-1].messages[-1]["content"]
    play.assert_at_rest(talk, "completed")
    assert talk.conversation.pending_approvals() == []


def test_a_denial_reaches_the_model_with_its_reason(play: Stage) -> None:
    talk, approval = waiting(play, 202)
    talk.conversation.decide(approval, "denied", "it is \x00 needed\udc00")
    play.answer(text("I leave it."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "I leave it."
    said = json.loads(play.wire.requests[-1].messages[-1]["content"])["error"]
    assert said.startswith("denied by ") and said.endswith(": it is \ufffd needed\ufffd")
    assert exists(play, 202)
    play.assert_at_rest(talk, "completed")


def test_a_decision_is_final(play: Stage) -> None:
    talk, approval = waiting(play, 203)
    talk.conversation.decide(approval, "denied")
    with pytest.raises(ApprovalSettled, match="already denied"):
        talk.conversation.decide(approval, "approved")
    with pytest.raises(NotFound):
        talk.conversation.decide(talk.conversation.run_id, "approved")


def test_calls_beside_one_that_waits_run_first(play: Stage) -> None:
    talk, approval = waiting(play, 204, READ, SEARCH)
    assert [event.call.skill for event in talk.events if isinstance(event, CallEnded)] == [
        "sql_query", "web_search",
    ]  # fmt: skip
    talk.conversation.decide(approval, "approved")
    play.answer(text("Done."))
    outcome = talk.resume()
    assert outcome is not None and outcome.state == "completed"
    sent = play.wire.requests[-1].messages[-3:]
    assert {message["tool_call_id"] for message in sent} == {"call_1", "call_2", "call_3"}
    play.assert_at_rest(talk, "completed")


def test_two_that_wait_are_decided_one_after_the_other(play: Stage) -> None:
    talk, first = waiting(play, 205, delete(item(play, 206)))
    _, second = (row.approval_id for row in talk.conversation.pending_approvals())
    talk.conversation.decide(second, "approved")
    outcome = talk.resume()
    assert outcome is not None and outcome.state == "waiting"
    assert exists(play, 205) and not exists(play, 206)
    talk.conversation.decide(first, "denied", "keep it")
    play.answer(text("One of two."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "One of two."
    assert exists(play, 205)
    play.assert_at_rest(talk, "completed")


def test_a_message_meanwhile_is_answered_and_the_late_outcome_gets_a_turn(play: Stage) -> None:
    talk, approval = waiting(play, 207)
    play.answer(text("Still waiting."))
    assert talk.send("And?").text == "Still waiting."
    first = [message["content"] for message in play.wire.requests[-1].messages[-2:]]
    assert "awaiting approval" in first[0] and first[1] == "And?"
    play.assert_at_rest(talk, "completed")
    assert [row.approval_id for row in talk.conversation.pending_approvals()] == [approval]
    talk.conversation.decide(approval, "approved")
    play.answer(text("Deleted at last."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Deleted at last."
    assert not exists(play, 207)
    assert "was approved and has run" in play.wire.requests[-1].messages[-1]["content"]
    play.assert_at_rest(talk, "completed")


def test_a_late_denial_gets_a_turn_too(play: Stage) -> None:
    talk, approval = waiting(play, 208)
    play.answer(text("Still waiting."))
    talk.send("And?")
    talk.conversation.decide(approval, "denied", "no")
    play.answer(text("Very well."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Very well." and exists(play, 208)
    assert "was not run" in play.wire.requests[-1].messages[-1]["content"]


def test_a_decision_from_another_connection_is_noticed_while_waiting(play: Stage) -> None:
    talk, approval = waiting(play, 209)
    assert talk.conversation.wait(talk.stop, 0.2) is False
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    with beside(lambda: talk.conversation.wait(talk.stop, 3600)) as noticed:
        until(
            lambda: play.database.value(
                "select watched_until is not null from aos_core.run where run_id = %s",
                talk.conversation.run_id,
            ),
            "the watch",
        )
        other.conversation.decide(approval, "approved")
    assert noticed == [True]
    play.answer(text("Deleted."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Deleted."


def test_waiting_ends_when_the_person_stops_and_outlives_a_lost_connection(play: Stage) -> None:
    talk, _ = waiting(play, 210)
    with beside(lambda: talk.conversation.wait(talk.stop, 20)) as noticed:
        talk.stop.set()
    assert noticed == [False]
    talk.stop.clear()
    play.database.rows(
        "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
        " where usename = 'test_developer' and datname = current_database()"
    )
    assert talk.conversation.wait(talk.stop, 0.1) in (False, True)
    assert talk.conversation.status().turn_state == "awaiting_approval"


def test_a_skill_that_changed_after_its_approval_is_asked_for_again(play: Stage) -> None:
    talk, approval = waiting(play, 211)
    talk.conversation.decide(approval, "approved")
    spec = {"builtin": "sql_execute", "approval": "always", "roles": ["agent"], "sql": GRANT_SHOP}
    call(play.database.superuser, "aos_skills.apply_skill", play.tenant.id, "sql_execute", META,
         spec | {"maxRows": 7})  # fmt: skip
    talk.events.clear()
    outcome = talk.resume()
    assert outcome is not None and outcome.state == "waiting" and exists(play, 211)
    assert [type(event) for event in talk.events][-1] is ApprovalAsked
    assert not talk.results
    (again,) = talk.conversation.pending_approvals()
    assert again.approval_id != approval and again.preview is not None
    assert [row["deleted"] for row in again.preview["counts"]] == [1]
    assert again.reason.startswith("the skill changed before the approved call could run")
    talk.conversation.decide(again.approval_id, "approved")
    play.answer(text("Deleted."))
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Deleted." and not exists(play, 211)


def test_a_policy_that_came_after_the_approval_refuses_a_call_of_the_worker(play: Stage) -> None:
    def rule(decision: str) -> None:
        call(play.database.superuser, "aos_skills.apply_policy", play.tenant.id, "searches", META,
             {"skills": ["web_search"], "decision": decision, "reason": "not today"})  # fmt: skip

    rule("ask")
    try:
        talk = play.talk()
        play.answer(calls(SEARCH))
        assert talk.send("Search.").state == "waiting"
        (approval,) = talk.conversation.pending_approvals()
        assert approval.reason == 'policy "searches" asks: not today'
        talk.conversation.decide(approval.approval_id, "approved")
        rule("deny")
        talk.events.clear()
        play.answer(text("I could not."))
        outcome = talk.resume()
    finally:
        call(play.database.superuser, "aos_skills.delete_policy", play.tenant.id, "searches")
    assert outcome is not None and outcome.text == "I could not."
    (ended,) = [event for event in talk.events if isinstance(event, CallEnded)]
    assert not ended.ok and "not today" in ended.result["error"]
    assert "not today" in play.wire.requests[-1].messages[-1]["content"]
    play.assert_at_rest(talk, "completed")


def test_a_message_is_queued_while_another_process_drives(play: Stage) -> None:
    talk = play.talk()
    other = play.talk(run=talk.conversation.run_id, worker="test:2")
    go = threading.Event()
    play.answer(after(go, "First."), text("Second."))
    with beside(lambda: talk.send("One?")) as outcomes:
        until(lambda: play.wire.requests, "the request")
        queued = other.send("Two?")
        assert queued.state == "queued" and other.resume() is None
        go.set()
    assert outcomes[0].text == "First."
    outcome = other.resume()
    assert outcome is not None and (outcome.turn, outcome.text) == (2, "Second.")
    assert [role for role, _ in play.transcript(talk)] == ["user", "assistant"] * 2
    play.assert_at_rest(talk, "completed")


def test_a_turn_that_is_cancelled_between_two_approvals_stays_cancelled(play: Stage) -> None:
    talk, approval = waiting(play, 212)
    talk.conversation.cancel("never mind")
    with pytest.raises(ApprovalSettled):
        talk.conversation.decide(approval, "approved")
    assert talk.resume() is None and exists(play, 212)
    play.assert_at_rest(talk, "cancelled")
    talk.conversation.cancel()  # nothing is open: nothing happens
    play.answer(text("Yes."))
    assert talk.send("And now?").text == "Yes."


def test_a_run_that_was_closed_takes_no_message(play: Stage) -> None:
    talk = play.talk()
    call(play.tenant.person, "aos_agent.close_run", play.tenant.id, talk.conversation.run_id)
    with pytest.raises(IllegalTransition, match="is completed and takes no turns"):
        talk.send("Hello?")
    assert play.wire.requests == []


def test_a_turn_that_reaches_a_limit_goes_on_when_the_limit_is_raised(play: Stage) -> None:
    talk = play.talk()
    run = talk.conversation.run_id
    call(play.tenant.person, "aos_agent.resume_run", play.tenant.id, run, p_max_tokens=20)
    play.answer(calls(SEARCH), text("Done."))
    outcome = talk.send("Search.")
    assert outcome.state == "limited"
    status = talk.conversation.status()
    assert (status.turn_state, status.error) == (
        "limited",
        "budget: 25 tokens used of 20;"
        f" aosctl resume {talk.conversation.run} --max-tokens N lets it go on",
    )
    assert talk.resume() is None
    call(play.tenant.person, "aos_agent.resume_run", play.tenant.id, run, p_max_tokens=1000)
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Done."


def test_a_paused_run_rests_and_goes_on(play: Stage) -> None:
    talk = play.talk()
    run = talk.conversation.run_id

    def pausing(_request: Request) -> Reply:
        call(play.tenant.person, "aos_agent.pause_run", play.tenant.id, run)
        return calls(SEARCH)

    play.answer(pausing, text("Done."))
    assert talk.send("Search.").state == "paused"
    assert talk.resume() is None
    call(play.tenant.person, "aos_agent.resume_run", play.tenant.id, run)
    outcome = talk.resume()
    assert outcome is not None and outcome.text == "Done."


def cost(play: Stage, talk: Talk, act: Callable[[], Outcome]) -> tuple[int, int]:
    """Return how many transactions wrote something, and how often the client waited."""
    before = transactions(play), talk.round_trips
    assert act().state == "completed"
    return transactions(play) - before[0] - 1, talk.round_trips - before[1]


def transactions(play: Stage) -> int:
    """Use up a transaction id, and say which it was."""
    found = play.database.value("select pg_current_xact_id()::text")
    return int(found)


@pytest.fixture
def quiet(play: Stage) -> Iterator[None]:
    """Nobody but the test uses transaction ids: no vacuum of the server's own, in any database."""
    play.database.superuser.execute("alter system set autovacuum = off")
    play.database.superuser.execute("select pg_reload_conf()")
    yield
    play.database.superuser.execute("alter system reset autovacuum")
    play.database.superuser.execute("select pg_reload_conf()")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("tool", [READ, SEARCH], ids=["in SQL", "of the worker"])
def test_a_turn_with_one_tool_is_four_commits_and_four_round_trips(
    play: Stage, tool: tuple[str, object]
) -> None:
    """In a fresh conversation of a fresh process, and in every turn after that."""
    talk = play.talk(beat_seconds=600, begun=False)
    for number in range(3):
        play.answer(calls(tool), text("It is a lamp."))
        commits, round_trips = cost(play, talk, lambda: talk.send("What is item 1?"))
        assert (commits, round_trips) == (4, 4), f"turn {number + 1}"
    play.answer(text("Hello."))
    assert cost(play, talk, lambda: talk.send("Hello?")) == (2, 2)


@pytest.mark.usefixtures("quiet")
def test_a_turn_after_anothers_costs_one_more_round_trip_to_catch_up(play: Stage) -> None:
    talk = play.talk(beat_seconds=600)
    play.answer(text("One."), text("Two."), text("Three."))
    talk.send("One?")
    play.talk(run=talk.conversation.run_id, worker="test:2").send("Two?")
    assert cost(play, talk, lambda: talk.send("Three?")) == (2, 3)


def test_no_request_holds_a_message_twice_however_long_the_run(play: Stage) -> None:
    talk = play.talk()
    for number in range(12):
        play.answer(calls(READ), text(f"Answer {number}."))
        talk.send(f"Question {number}?")
    sent = [json.dumps(message) for message in play.wire.requests[-1].messages]
    asked = [message for message in sent if '"user"' in message]
    assert len(asked) == len(set(asked)) == 12
    assert len(sent) == 1 + 12 * 3 + 11
    play.assert_at_rest(talk, "completed")
