"""A run of one task ends with its turn, whoever drove that; a conversation's stays open."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernels import Tenant, ask, call, say

SEARCH = ("web_search", {"query": "x"})
MAIL = ("send_mail", {"query": "x"})  # asks a person


def start(tenant: Tenant, kind: str = "task", agent: str = "clerk") -> UUID:
    return UUID(call(tenant.person, "aos_agent.start_run", tenant.id, agent, kind)["run_id"])


def told(tenant: Tenant, run: UUID) -> list[Any]:
    """Return what the tenant's own chain says of the end of a run: kind, actor, seq, hash."""
    return tenant.database.rows(
        "select kind, actor, data ->> 'last_seq', data ->> 'last_hash' from aos_core.event_log"
        " where stream_id = %s and data ->> 'run_id' = %s and kind <> 'run.created'",
        tenant.id,
        str(run),
    )


@pytest.mark.parametrize(("kind", "state"), [("task", "completed"), ("conversation", "active")])
def test_an_answer_ends_a_task_and_no_conversation(tenant: Tenant, kind: str, state: str) -> None:
    run = start(tenant, kind)
    lease = tenant.open(run, p_worker="w1")
    calls = tenant.respond(lease, ask(SEARCH))["calls"]
    tenant.result(calls[0]["call_id"], lease, {"found": "it"})
    assert tenant.run_row(run)["run_state"] == "active"
    assert tenant.respond(lease, say("done"), p_seq=4)["next"] == "done"
    row = tenant.run_row(run)
    assert (row["run_state"], row["turn_state"]) == (state, "completed")
    assert (row["closed_at"] is not None) == (kind == "task")
    if kind == "task":
        head = (str(row["last_seq"]), bytes(row["last_hash"]).hex())
        assert told(tenant, run) == [("run.completed", "kernel", *head)]
    else:
        assert told(tenant, run) == []
    # A worker that lost the reply asks again and learns the same; nothing ends twice.
    assert tenant.respond(lease, say("done"), p_seq=4)["next"] == "done"
    assert tenant.events(run).count("run.completed") == (kind == "task")
    assert tenant.faults(run) == [] and tenant.faults(tenant.id) == []


@pytest.mark.parametrize(("kind", "state"), [("task", "failed"), ("conversation", "active")])
def test_a_turn_that_fails_ends_a_task_and_no_conversation(
    tenant: Tenant, kind: str, state: str
) -> None:
    run = start(tenant, kind)
    lease = tenant.open(run, p_worker="w1")
    call(
        tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], "broken"
    )
    row = tenant.run_row(run)
    assert (row["run_state"], row["turn_state"]) == (state, "failed")
    assert [kind for kind, *_ in told(tenant, run)] == ["run.failed"] * (kind == "task")
    assert tenant.faults(run) == []


def test_a_turn_that_is_put_off_ends_no_task(tenant: Tenant) -> None:
    run = start(tenant)
    lease = tenant.open(run, p_worker="w1")
    call(
        tenant.worker, "aos_agent.fail_turn", tenant.id, lease["turn_id"], lease["lease"], "busy", 5
    )
    assert tenant.run_row(run)["run_state"] == "active"


def test_a_task_that_a_person_stopped_may_be_told_more(tenant: Tenant) -> None:
    run = start(tenant)
    lease = tenant.open(run, p_worker="w1")
    call(tenant.person, "aos_agent.cancel_turn", tenant.id, run, "not so", lease["turn_id"])
    assert tenant.run_row(run)["run_state"] == "active"
    tenant.respond(tenant.open(run, "but so", p_worker="w1"), say("done"))
    assert tenant.run_row(run)["run_state"] == "completed"


def test_a_message_that_waits_is_answered_before_a_task_ends(tenant: Tenant) -> None:
    run = start(tenant)
    lease = tenant.open(run, p_worker="w1")
    assert tenant.open(run, "and this")["status"] == "queued"
    tenant.respond(lease, say("done"))
    assert tenant.run_row(run)["run_state"] == "active"
    tenant.respond(tenant.claim(run=run), say("done as well"))
    assert tenant.run_row(run)["run_state"] == "completed"


def test_a_parked_task_ends_when_a_worker_has_carried_out_what_was_decided(tenant: Tenant) -> None:
    run = start(tenant)
    lease = tenant.open(run, p_worker="w1")
    answer = tenant.respond(lease, ask(MAIL))
    assert (answer["next"], tenant.run_row(run)["run_state"]) == ("wait", "active")
    tenant.decide(answer["calls"][0]["call_id"], "denied")
    tenant.respond(tenant.claim(run=run), say("then not"))
    assert tenant.run_row(run)["run_state"] == "completed"


def test_a_task_with_a_question_left_behind_ends_after_its_outcome(tenant: Tenant) -> None:
    """The message sets the waiting turn aside; what is decided later is a turn of its own."""
    run = start(tenant)
    lease = tenant.open(run, p_worker="w1")
    asked = tenant.respond(lease, ask(MAIL))["calls"][0]["call_id"]
    tenant.respond(tenant.open(run, "meanwhile?", p_worker="w1"), say("meanwhile"))
    assert tenant.run_row(run)["run_state"] == "active"
    tenant.decide(asked, "denied")
    tenant.respond(tenant.claim(run=run), say("then not"))
    assert tenant.run_row(run)["run_state"] == "completed"
    assert tenant.faults(run) == []


def test_a_task_that_was_paused_in_its_last_step_ends(tenant: Tenant) -> None:
    run = start(tenant)
    lease = tenant.open(run, p_worker="w1")
    call(tenant.person, "aos_agent.pause_run", tenant.id, run)
    tenant.respond(lease, say("done"))
    assert tenant.run_row(run)["run_state"] == "completed"
