"""Turns that are taken over, whom a worker serves, approvals that nobody waits for, resolutions."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernels import KernelDatabase, Tenant, ask, call, make_tenant, refused, say

USAGE = {"in": 1000, "out": 100}


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    return make_tenant(kernel_database)


def last_event(tenant: Tenant, run: UUID) -> tuple[str, dict[str, Any]]:
    row = tenant.database.rows(
        "select kind, data from aos_core.event_log where stream_id = %s order by seq desc limit 1",
        run,
    )[0]
    return row[0], row[1]


def ready(tenant: Tenant) -> bool:
    rows = tenant.worker.execute("select tenant_id from aos_agent.next_ready(1000)").fetchall()
    return (tenant.id,) in rows


def leave_behind(tenant: Tenant) -> None:
    """Let every lease run out."""
    tenant.database.move_clock("2 minutes")


@pytest.fixture(autouse=True)
def clock(kernel_database: KernelDatabase) -> Any:
    yield
    kernel_database.move_clock()


def test_a_turn_that_was_left_while_the_model_was_asked_names_the_lost_step(tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.open(run, p_worker="host:1")
    leave_behind(tenant)
    assert tenant.claim("host:2", run=run)["attempts"] == 2
    kind, data = last_event(tenant, run)
    assert kind == "turn.reclaimed"
    assert data.pop("lease_expired_at")
    assert data == {"turn": 1, "attempt": 2, "from": "host:1", "step": 2}  # offline costs nothing
    assert tenant.faults(run) == []


def test_what_the_lost_answer_may_have_cost_is_told(tenant: Tenant) -> None:
    tenant.database.superuser.execute(
        "update aos_core.run set input_usd_per_mtok = 1, output_usd_per_mtok = 2,"
        " max_output_tokens = 4000 where run_id = %s", (run := tenant.start_run(),),
    )  # fmt: skip
    lease = tenant.open(run, p_worker="host:1")
    tenant.respond(lease, ask(("memory_recall", {})), p_usage=USAGE)
    leave_behind(tenant)
    tenant.claim("host:2", run=run)
    kind, data = last_event(tenant, run)
    assert (kind, data["calls"]) == ("turn.reclaimed", 1)  # the answer had been stored
    assert "step" not in data and "may_have_cost_usd" not in data
    call_id = tenant.database.value("select call_id from aos_core.tool_call where run_id = %s", run)
    tenant.database.move_clock("4 minutes")
    lease = tenant.claim("host:3", run=run)
    tenant.execute(call_id, lease)
    tenant.database.move_clock("6 minutes")
    tenant.claim("host:4", run=run)
    kind, data = last_event(tenant, run)
    assert (kind, data["step"]) == ("turn.reclaimed", 4)
    assert data["may_have_cost_usd"] == pytest.approx((1100 + 2000 + 2 * 4000) / 1e6)


def test_a_turn_that_was_handed_back_or_never_taken_is_claimed(tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.open(run)
    lease = tenant.claim("host:1", run=run)
    assert last_event(tenant, run)[0] == "turn.claimed"
    call(tenant.worker, "aos_agent.release_turn", tenant.id, lease["turn_id"], lease["lease"])
    lease = tenant.claim("host:2", run=run)
    assert last_event(tenant, run) == ("turn.claimed", {"turn": 1, "attempt": 1})
    tenant.respond(lease, say("done"))


def test_the_guides_functions_tell_of_it_too(tenant: Tenant) -> None:
    run = tenant.start_run()
    tenant.open(run, p_worker="host:1")
    leave_behind(tenant)
    call(tenant.person, "aos_agent.start_turn", run)
    kind, data = last_event(tenant, run)
    assert (kind, data["from"], data["step"]) == ("turn.reclaimed", "host:1", 2)


def test_a_worker_finds_the_tenant_that_it_is_to_serve(tenant: Tenant) -> None:
    assert call(tenant.worker, "aos_agent.served_tenant", tenant.name) == tenant.id
    with refused("AO001", 'tenant "nobody" not found'):
        call(tenant.worker, "aos_agent.served_tenant", "nobody")
    with refused("42501"):
        tenant.worker.execute("select * from aos_auth.tenant")
    with refused("42501"):
        call(tenant.person, "aos_agent.served_tenant", tenant.name)


def test_an_overdue_approval_whose_turn_has_ended_is_found_and_settled(
    kernel_database: KernelDatabase,
) -> None:
    tenant = make_tenant(kernel_database)
    asked = tenant.asked("sql_execute", {"statement": "delete from x"}, "clerk")
    lease = tenant.open(asked.run, "never mind", p_worker="w1")  # sets the waiting turn aside
    tenant.respond(lease, say("as you like"))
    assert not ready(tenant)
    tenant.database.move_clock("25 hours")
    assert ready(tenant)
    lease = tenant.claim()
    assert lease["next"] == "model"
    assert tenant.call_state(asked.call) == "expired"
    assert tenant.transcript(asked.run)[-1] == (
        "user",
        "[approval] sql_execute was not run: the approval expired before anybody decided",
    )
    tenant.respond(lease, say("I see"))
    assert not ready(tenant)


def in_doubt(tenant: Tenant) -> tuple[UUID, UUID]:
    """Let a worker vanish in a call that must not be repeated; return its run and the call."""
    tenant.database.superuser.execute(
        "update aos_skills.builtin_skill set effect = 'unsafe' where name = 'web_search'"
    )
    try:
        asked = tenant.asked("web_search", {"query": "x"})
    finally:
        tenant.database.superuser.execute(
            "update aos_skills.builtin_skill set effect = 'read' where name = 'web_search'"
        )
    leave_behind(tenant)
    assert tenant.claim("w2", run=asked.run)["next"] == "wait"
    assert tenant.call_state(asked.call) == "outcome_unknown"
    return asked.run, asked.call


def resolve(tenant: Tenant, call_id: UUID, action: str, result: Any = None) -> Any:
    return call(tenant.person, "aos_agent.resolve_call", tenant.id, call_id, action, result)


@pytest.mark.parametrize(
    ("action", "result", "text"),
    [
        ("result", {"id": 17}, '{"id": 17}'),
        ("fail", {"error": "it bounced"}, '{"error": "it bounced"}'),
        ("fail", None, '{"error": "a person marked this call as failed"}'),
        ("result", None, "null"),
    ],
)
def test_a_resolution_is_what_the_model_reads(
    tenant: Tenant, action: str, result: Any, text: str
) -> None:
    run, call_id = in_doubt(tenant)
    assert resolve(tenant, call_id, action, result)["run_id"] == str(run)
    assert tenant.transcript(run)[-1] == ("tool", text)
    lease = tenant.claim(run=run)
    assert lease["next"] == "model"
    tenant.respond(lease, say("done"))
    assert tenant.faults(run) == []


def test_the_reason_of_a_failure_stands_in_the_log(tenant: Tenant) -> None:
    run, call_id = in_doubt(tenant)
    resolve(tenant, call_id, "fail", {"error": "it bounced"})
    kind, data = last_event(tenant, run)
    assert (kind, data["action"], data["reason"]) == ("call.resolved", "fail", "it bounced")


def test_a_resolution_after_the_turn_has_ended_is_read_with_the_next_message(
    tenant: Tenant,
) -> None:
    run, call_id = in_doubt(tenant)
    lease = tenant.open(run, "what now?", p_worker="w3")  # sets the waiting turn aside
    tenant.respond(lease, say("I wait"))
    with refused("AO002", "has ended"):
        resolve(tenant, call_id, "retry")
    resolve(tenant, call_id, "result", {"id": 17})
    assert tenant.call_state(call_id) == "succeeded"
    lease = tenant.open(run, "and now?", p_worker="w4")
    assert tenant.transcript(run)[-2:] == [
        ("user", '[resolved] web_search has run: {"id": 17}'),
        ("user", "and now?"),
    ]
    tenant.respond(lease, say("good"))
    assert tenant.faults(run) == []


def test_calls_of_one_answer_have_ids_in_their_order(tenant: Tenant) -> None:
    """A worker that takes over runs them in the order in which the model asked for them."""
    run = tenant.start_run()
    lease = tenant.open(run, p_worker="w1")
    keys = [f"k{n}" for n in range(20)]
    answer = tenant.respond(lease, ask(*(("memory_recall", {"key": key}) for key in keys)))
    assert [one["args"]["key"] for one in answer["calls"]] == keys
    found = tenant.database.rows(
        "select args ->> 'key' from aos_core.tool_call where run_id = %s order by call_id", run
    )
    assert [row[0] for row in found] == keys
