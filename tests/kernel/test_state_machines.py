"""The state machines enforce themselves, whoever writes: every pair of states, drawn by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from psycopg import sql

from kernels import Asked, Tenant, ask, call, refused, say, user

# from: {to, …}. A state that is not on the left is final.
MACHINES: dict[str, dict[str, set[str]]] = {
    "run": {
        "active": {"paused", "completed", "failed", "cancelled"},
        "paused": {"active", "completed", "failed", "cancelled"},
        "completed": set(),
        "failed": set(),
        "cancelled": set(),
    },
    "turn": {
        "queued": {"running", "failed", "cancelled"},
        "running": {
            "queued",
            "awaiting_approval",
            "awaiting_resolution",
            "awaiting_input",
            "limited",
            "completed",
            "failed",
            "cancelled",
        },
        "awaiting_approval": {"queued", "completed", "failed", "cancelled"},
        "awaiting_resolution": {"queued", "completed", "failed", "cancelled"},
        "awaiting_input": {"queued", "completed", "failed", "cancelled"},
        "limited": {"queued", "completed", "failed", "cancelled"},
        "completed": set(),
        "failed": set(),
        "cancelled": set(),
    },
    "tool_call": {
        "pending": {"awaiting_approval", "running", "succeeded", "failed", "cancelled"},
        "awaiting_approval": {"approved", "denied", "expired", "cancelled"},
        "approved": {"running", "succeeded", "failed", "awaiting_approval", "cancelled"},
        "running": {"succeeded", "failed", "outcome_unknown", "cancelled"},
        "outcome_unknown": {"pending", "succeeded", "failed", "cancelled"},
        "succeeded": set(),
        "failed": set(),
        "denied": set(),
        "expired": set(),
        "cancelled": set(),
    },
    "approval": {
        "pending": {"approved", "denied", "expired", "cancelled"},
        "approved": {"consumed", "cancelled", "expired"},
        "denied": set(),
        "expired": set(),
        "cancelled": set(),
        "consumed": set(),
    },
}
PAIRS = [(m, old, new) for m, states in MACHINES.items() for old in states for new in states]


@pytest.fixture(scope="module")
def asked(tenant: Tenant) -> Asked:
    """A run with a turn, a call and an approval: one row of each machine."""
    return tenant.asked("sql_execute", {"statement": "delete from t"}, agent="clerk")


@pytest.mark.parametrize(("machine", "old", "new"), PAIRS)
def test_a_state_changes_only_as_the_machine_allows(
    tenant: Tenant, asked: Asked, machine: str, old: str, new: str
) -> None:
    superuser = tenant.database.superuser
    write = sql.SQL("update {} set state = %s where run_id = %s").format(
        sql.Identifier("aos_core", machine)
    )
    with superuser.transaction(force_rollback=True):
        superuser.execute("set local session_replication_role = replica")
        superuser.execute(write, (old, asked.run))  # puts the row there past its guards
        superuser.execute("set local session_replication_role = origin")
        if new in MACHINES[machine][old] or new == old:
            assert superuser.execute(write, (new, asked.run)).rowcount == 1
        else:
            with refused("AO002", f'{machine} cannot go from "{old}" to "{new}"'):
                superuser.execute(write, (new, asked.run))


@pytest.mark.parametrize("machine", MACHINES)
def test_there_is_no_state_beside_these(tenant: Tenant, asked: Asked, machine: str) -> None:
    write = sql.SQL("update {} set state = 'dreaming' where run_id = %s").format(
        sql.Identifier("aos_core", machine)
    )
    with pytest.raises(psycopg.Error) as caught:
        tenant.database.superuser.execute(write, (asked.run,))
    assert caught.value.sqlstate in {"AO002", "23514"}


# Each takes the tenant, the run, its finished turn's lease, and a call of that turn.
Attempt = Callable[[Tenant, UUID, dict[str, Any], str], Any]
AFTER_THE_END: dict[str, Attempt] = {
    "record_response": lambda t, run, lease, c: t.respond(lease, say("more")),
    "record_response with its step": lambda t, run, lease, c: t.respond(
        lease, say("more"), p_seq=5
    ),
    "turn_context": lambda t, run, lease, c: call(
        t.worker, "aos_agent.turn_context", t.id, lease["turn_id"], lease["lease"]
    ),
    "heartbeat": lambda t, run, lease, c: call(
        t.worker, "aos_agent.heartbeat", t.id, lease["turn_id"], lease["lease"]
    ),
    "check_lease": lambda t, run, lease, c: call(
        t.worker, "aos_agent.check_lease", t.id, lease["turn_id"], lease["lease"]
    ),
    "fail_turn": lambda t, run, lease, c: call(
        t.worker, "aos_agent.fail_turn", t.id, lease["turn_id"], lease["lease"], "no"
    ),
    "release_turn": lambda t, run, lease, c: call(
        t.worker, "aos_agent.release_turn", t.id, lease["turn_id"], lease["lease"]
    ),
    "start_call": lambda t, run, lease, c: call(
        t.worker, "aos_agent.start_call", t.id, c, lease["lease"]
    ),
    "process_tool_call": lambda t, run, lease, c: call(
        t.person, "aos_agent.process_tool_call", lease["turn_id"], "web_search", {"query": "x"}
    ),
    "record_tool_result": lambda t, run, lease, c: call(
        t.person, "aos_agent.record_tool_result", lease["turn_id"], "web_search", {"result": "x"}
    ),
    "finish_turn": lambda t, run, lease, c: call(
        t.person, "aos_agent.finish_turn", lease["turn_id"], "once more"
    ),
    "start_turn without a new message": lambda t, run, lease, c: call(
        t.person, "aos_agent.start_turn", run
    ),
    "resolve_call": lambda t, run, lease, c: call(
        t.person, "aos_agent.resolve_call", t.id, c, "retry"
    ),
}


@pytest.mark.parametrize("attempt", AFTER_THE_END)
def test_a_finished_turn_takes_nothing_more(tenant: Tenant, attempt: str) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    found = tenant.respond(lease, ask(("web_search", {"query": "x"})))["calls"][0]["call_id"]
    tenant.result(found, lease, {"result": "y"})
    tenant.respond(lease, say("done"))
    before = tenant.run_row(run)
    with refused("AO002"):
        AFTER_THE_END[attempt](tenant, run, lease, found)
    assert tenant.run_row(run) == before
    assert tenant.faults(run) == []


def test_a_finished_turn_stays_readable_through_run_turn(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    tenant.respond(lease, say("done"))
    state = call(tenant.person, "aos_agent.run_turn", lease["turn_id"])
    assert state["state"] == "completed"
    assert state["messages"][-1] == {"role": "assistant", "content": "done"}


@pytest.mark.parametrize("worker", [None, "w2"], ids=["queued", "with a worker"])
def test_a_message_during_an_open_turn_waits_for_the_next_one(
    tenant: Tenant, worker: str | None
) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, "first", p_worker="w1")
    keys = [uuid4(), uuid4()]
    for text, key in zip(("second", "third"), keys, strict=True):
        said = tenant.open(run, text, p_worker=worker, p_key=key)
        assert (said["status"], said["turn_id"]) == ("queued", lease["turn_id"])
        assert tenant.open(run, text, p_worker=worker, p_key=key)["repeated"]
    assert tenant.run_row(run)["inbox_count"] == 2
    tenant.respond(lease, say("to the first"))
    row = tenant.run_row(run)
    assert (row["last_turn"], row["turn_state"], row["inbox_count"]) == (2, "queued", 0)
    following = tenant.claim(run=run)
    tenant.respond(following, say("to both"))
    texts = [text for _, text in tenant.transcript(run)]
    assert texts == ["first", "to the first", "second", "third", "to both"]
    for text, key in zip(("second", "third"), keys, strict=True):
        assert tenant.open(run, text, p_worker=worker, p_key=key)["repeated"]
    assert len(tenant.transcript(run)) == 5


def test_start_turn_returns_the_open_turn_instead_of_a_second_one(tenant: Tenant) -> None:
    run = tenant.start_run()
    call(tenant.person, "aos_agent.add_user_message", run, "first")
    turn = call(tenant.person, "aos_agent.start_turn", run)
    call(tenant.person, "aos_agent.add_user_message", run, "second")
    assert call(tenant.person, "aos_agent.start_turn", run) == turn
    call(tenant.person, "aos_agent.finish_turn", turn, "to the first")
    following = call(tenant.person, "aos_agent.start_turn", run)
    assert following != turn
    call(tenant.person, "aos_agent.finish_turn", following, "to the second")
    assert [text for _, text in tenant.transcript(run)] == [
        "first",
        "to the first",
        "second",
        "to the second",
    ]


def test_a_turn_that_a_worker_holds_is_refused_to_start_turn(tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.open(run, p_worker="w1")
    with refused("AO003", "holds it until"):
        call(tenant.person, "aos_agent.start_turn", run)


def test_one_request_key_opens_one_turn(tenant: Tenant) -> None:
    run = tenant.start_run()
    key = uuid4()
    first = tenant.open(run, p_worker="w1", p_key=key)
    again = tenant.open(run, p_worker="w1", p_key=key)
    assert first["turn_id"] == again["turn_id"] == str(key)
    assert tenant.events(run)[-2:] == ["turn.opened", "turn.claimed"]
    actor, data = tenant.database.rows(
        "select actor, data from aos_core.event where stream_id = %s order by seq desc limit 1", run
    )[0]
    assert (actor, data["repeated"], data["step"]) == ("worker:w1", True, 1)
    asked = "select aos_core.has_asked(%s, %s, 5, %s)"
    assert tenant.database.value(asked, tenant.id, run, data["by"])
    assert again["repeated"] and again["fence"] > first["fence"]
    with refused("AO003"):
        tenant.respond(first, say("with the lost lease"))
    tenant.respond(again, say("once"))
    assert tenant.open(run, p_worker="w1", p_key=key)["turn_state"] == "completed"
    assert len(tenant.transcript(run)) == 2


def test_a_request_key_of_another_run_opens_nothing_and_loses_nothing(tenant: Tenant) -> None:
    one, other = tenant.start_run(), tenant.start_run()
    key = uuid4()
    tenant.open(one, p_worker="w1", p_key=key)
    with refused("AO005"):
        tenant.open(other, "must not vanish", p_worker="w1", p_key=key)


RUN_ENDS: dict[str, str] = {
    "cancelled": "aos_agent.cancel_run",
    "completed": "aos_agent.close_run",
}


@pytest.mark.parametrize("state", RUN_ENDS)
def test_an_ended_run_takes_nothing_more(tenant: Tenant, state: str) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    assert call(tenant.person, RUN_ENDS[state], tenant.id, run)["state"] == state
    row = tenant.run_row(run)
    assert (row["run_state"], row["turn_state"]) == (state, "cancelled")
    with refused("AO002"):
        tenant.respond(lease, say("too late"))
    with refused("AO002"):
        tenant.open(run, "anybody there?")
    with refused("AO002"):
        call(tenant.person, "aos_agent.add_user_message", run, "anybody there?")
    for function in ("cancel_run", "close_run", "pause_run", "resume_run"):
        with refused("AO002"):
            call(tenant.person, f"aos_agent.{function}", tenant.id, run)
    assert tenant.faults(run) == []
    assert tenant.events(tenant.id)[-1] == f"run.{state}"


def test_a_paused_run_rests_and_goes_on_where_it_was(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    call(tenant.person, "aos_agent.pause_run", tenant.id, run)
    answer = tenant.respond(lease, ask(("web_search", {"query": "x"})))  # paid for: kept
    assert answer["next"] == "paused"
    assert tenant.claim(run=run) is None
    with refused("AO002", "paused"):
        tenant.open(run, "hello?")
    call(tenant.person, "aos_agent.resume_run", tenant.id, run)
    following = tenant.claim(run=run)
    assert following["next"] == "calls"
    tenant.result(following["calls"][0]["call_id"], following, {"result": "y"})
    assert tenant.respond(following, say("done"))["next"] == "done"


def test_resuming_what_nothing_has_stopped_changes_nothing_and_says_so(tenant: Tenant) -> None:
    run = tenant.start_run()
    resume = "aos_agent.resume_run"
    for open_turn in (False, True):
        if open_turn:
            tenant.open(run, p_worker="w1")
        before = tenant.database.fingerprint()
        said = call(tenant.person, resume, tenant.id, run)
        assert (said["state"], said["resumed"], said["changed"]) == ("active", False, False)
        assert tenant.database.fingerprint() == before
    said = call(tenant.person, resume, tenant.id, run, p_max_steps=7)
    assert (said["resumed"], said["changed"]) == (False, True)
    assert tenant.events(run)[-1] == "run.resumed"
    assert not call(tenant.person, resume, tenant.id, run, p_max_steps=7)["changed"]
    call(tenant.person, "aos_agent.pause_run", tenant.id, run)
    assert call(tenant.person, resume, tenant.id, run)["resumed"]


def test_a_run_paused_under_a_worker_that_died_can_be_resumed(
    fresh_tenant: Tenant, clock: Callable[[str], None]
) -> None:
    tenant = fresh_tenant
    run = tenant.start_run()
    tenant.open(run, p_worker="w1")
    call(tenant.person, "aos_agent.pause_run", tenant.id, run)
    clock("5 minutes")
    listed = tenant.worker.execute("select tenant_id from aos_agent.next_ready(1000)").fetchall()
    assert (tenant.id,) not in listed  # else a worker would ask for it again and again
    assert tenant.claim(run=run) is None
    call(tenant.person, "aos_agent.resume_run", tenant.id, run)
    assert tenant.claim(run=run)["next"] == "model"


def test_a_cancelled_turn_leaves_the_run_for_the_next_message(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    said = call(tenant.person, "aos_agent.cancel_turn", tenant.id, run, "wrong question")
    assert said == {"turn_state": "cancelled"}
    with refused("AO002"):
        tenant.respond(lease, say("too late"))
    assert call(tenant.person, "aos_agent.cancel_turn", tenant.id, run) is None
    following = tenant.open(run, "the right question", p_worker="w1")
    assert tenant.respond(following, say("the right answer"))["next"] == "done"


def test_a_turn_that_is_named_is_cancelled_only_while_it_is_open(tenant: Tenant) -> None:
    run = tenant.start_run()
    first = tenant.open(run, p_worker="w1")
    tenant.respond(first, say("done"))
    second = tenant.open(run, p_worker="w1")

    def cancel(turn: dict[str, Any]) -> Any:
        return call(tenant.person, "aos_agent.cancel_turn", tenant.id, run, None, turn["turn_id"])

    assert cancel(first) is None
    assert tenant.run_row(run)["turn_state"] == "running"
    assert cancel(second) == {"turn_state": "cancelled"}
    assert cancel(second) is None
    assert tenant.faults(run) == []


def test_a_fork_has_the_transcript_and_a_life_of_its_own(tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.respond(tenant.open(run, "one", p_worker="w1"), say("first"))
    tenant.respond(tenant.open(run, "two", p_worker="w1"), say("second"))
    fork = call(tenant.person, "aos_agent.fork_run", tenant.id, run, 3)
    assert fork["steps"] == 2
    forked = UUID(fork["run_id"])
    lease = tenant.open(forked, "another two", p_worker="w1")
    tenant.respond(lease, say("another second"))
    texts = [text for _, text in tenant.transcript(forked)]
    assert texts == ["one", "first", "another two", "another second"]
    assert len(tenant.transcript(run)) == 4
    assert tenant.faults(run) == tenant.faults(forked) == []


def test_a_fork_has_the_limits_that_its_origin_was_given(tenant: Tenant) -> None:
    run = tenant.start_run()
    given = {"max_usd": 2, "max_tokens": 5000, "max_steps": 77, "max_seconds": 600}
    call(tenant.person, "aos_agent.resume_run", tenant.id, run,
         **{f"p_{name}": value for name, value in given.items()})  # fmt: skip
    fork = call(tenant.person, "aos_agent.fork_run", tenant.id, run)
    row = tenant.run_row(UUID(fork["run_id"]))
    assert {name: row[name] for name in given} == given
    assert tenant.database.value(
        "select is_metered from aos_core.run where run_id = %s", UUID(fork["run_id"])
    )


@pytest.mark.parametrize(
    "message",
    [{}, {"role": "user"}, {"role": "assistant", "blocks": []}, {"role": "user", "blocks": {}}],
)
def test_a_message_of_the_wrong_shape_is_refused(tenant: Tenant, message: dict[str, Any]) -> None:
    run = tenant.start_run()
    with refused("AO006"):
        call(tenant.person, "aos_agent.open_turn", tenant.id, run, message)
    lease = tenant.open(run, p_worker="w1")
    wrong = message if message.get("role") != "assistant" else user("not an answer")
    with refused("AO006"):
        tenant.respond(lease, wrong)
    assert tenant.respond(lease, say("fine"))["next"] == "done"


def test_text_that_jsonb_cannot_hold_changes_nothing(tenant: Tenant) -> None:
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    for text in ("a\x00b", "\ud800"):
        with pytest.raises((psycopg.Error, UnicodeEncodeError)):
            tenant.respond(lease, say(text))
    assert tenant.respond(lease, say("clean"))["next"] == "done"
