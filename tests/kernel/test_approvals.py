"""Approvals: a person decides on exactly one call, once, in time; and one of two deciders wins."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest

from kernels import Asked, KernelDatabase, Tenant, apply, ask, call, make_tenant, refused, say

Clock = Callable[[str], None]
DELETE = ("sql_execute", {"statement": "delete from shop.orders where id = 1"})
MAIL = ("send_mail", {"query": "to everybody"})


@pytest.fixture(scope="module", autouse=True)
def shop(kernel_database: KernelDatabase, tenant: Tenant) -> None:
    """A business table that the SQL skills of the tenant may use."""
    kernel_database.superuser.execute(
        "create schema shop; create table shop.orders (id integer primary key, item text)"
    )
    grant_orders(tenant)


def grant_orders(tenant: Tenant) -> None:
    grants = [{"schema": "shop", "tables": ["*"], "privileges": ["select", "insert", "delete"]}]
    apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "risk": "high", "sql": {"searchPath": ["shop"], "grants": grants},
    })  # fmt: skip


@pytest.fixture
def orders(kernel_database: KernelDatabase) -> Iterator[Callable[[], int]]:
    """Two orders; call it to count them."""
    kernel_database.superuser.execute("insert into shop.orders values (1, 'pen'), (2, 'ink')")
    yield lambda: int(kernel_database.value("select count(*) from shop.orders"))
    kernel_database.superuser.execute("delete from shop.orders")


def test_a_high_risk_call_waits_and_runs_once_it_is_approved(
    tenant: Tenant, orders: Callable[[], int]
) -> None:
    asked = tenant.asked(*DELETE, agent="clerk")
    assert asked.answer["next"] == "wait"
    assert asked.answer["calls"][0]["status"] == "awaiting_approval"
    row = tenant.run_row(asked.run)
    assert (row["turn_state"], row["lease_hash"]) == ("awaiting_approval", None)
    assert tenant.claim(run=asked.run) is None
    assert tenant.decide(asked.call, "approved")["state"] == "approved"
    lease = tenant.claim(run=asked.run)
    assert lease["next"] == "calls" and lease["calls"][0]["status"] == "approved"
    assert orders() == 2
    done = tenant.execute(asked.call, lease)
    assert (done["ok"], done["result"]["row_count"], orders()) == (True, 1, 1)
    assert tenant.approval(asked.call)[1] == "consumed"
    assert tenant.respond(lease, say("deleted"))["next"] == "done"
    assert tenant.events(asked.run) == [
        "run.created",
        "turn.opened",
        "model.answered",
        "approval.approved",
        "turn.claimed",
        "tool.result",
        "turn.completed",
    ]
    assert tenant.faults(asked.run) == []


def test_a_call_is_not_carried_out_before_it_is_approved(
    tenant: Tenant, orders: Callable[[], int]
) -> None:
    run = tenant.start_run("clerk")
    lease = tenant.open(run, p_worker="w1")
    calls = tenant.respond(lease, ask(DELETE, MAIL, ("web_search", {"query": "x"})))["calls"]
    delete, mail, search = (each["call_id"] for each in calls)
    with refused("AO002", "awaiting_approval"):
        tenant.execute(delete, lease)
    with refused("AO002", "awaiting_approval"):
        call(tenant.worker, "aos_agent.start_call", tenant.id, mail, lease["lease"])
    with refused("AO002", "awaiting_approval"):
        tenant.result(mail, lease, {"sent": True})
    assert orders() == 2
    assert tenant.result(search, lease, {"results": []})["next"] == "wait"


def test_a_denial_and_its_reason_reach_the_model(tenant: Tenant, orders: Callable[[], int]) -> None:
    asked = tenant.asked(*DELETE, agent="clerk")
    tenant.decide(asked.call, "denied", "that order is not ours")
    assert tenant.call_state(asked.call) == "denied"
    role, text = tenant.transcript(asked.run)[-1]
    assert role == "tool" and "denied by user:dev: that order is not ours" in text
    lease = tenant.claim(run=asked.run)
    assert lease["next"] == "model" and lease["calls"] == []
    with refused("AO002"):
        tenant.execute(asked.call, lease)
    assert tenant.respond(lease, say("I leave it alone"))["next"] == "done"
    assert orders() == 2


def test_a_worker_runs_an_approved_call_of_its_own_after_starting_it(tenant: Tenant) -> None:
    asked = tenant.asked(*MAIL, agent="clerk")
    tenant.decide(asked.call, "approved")
    lease = tenant.claim(run=asked.run)
    with refused("AO002"):
        tenant.result(asked.call, lease, {"sent": True})
    started = call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, lease["lease"])
    assert started == {"status": "running"}
    assert tenant.approval(asked.call)[1] == "consumed"
    assert tenant.result(asked.call, lease, {"sent": True})["next"] == "model"


def test_an_approval_that_nobody_decides_expires_as_denied(
    kernel_database: KernelDatabase, clock: Clock
) -> None:
    tenant = make_tenant(kernel_database)
    asked = tenant.asked(*MAIL, agent="clerk")
    clock("25 hours")
    assert kernel_database.value(
        "select overdue from aos_core.approval_status where call_id = %s", asked.call
    )
    with refused("AO008", "expired"):
        tenant.decide(asked.call, "approved")
    ready = tenant.worker.execute("select tenant_id from aos_agent.next_ready(1000)").fetchall()
    assert (tenant.id,) in ready  # a worker that only asks next_ready finds it
    lease = tenant.claim()
    assert lease["run_id"] == str(asked.run) and lease["next"] == "model"
    assert (tenant.call_state(asked.call), tenant.approval(asked.call)[1]) == ("expired",) * 2
    assert "expired before anybody decided" in tenant.transcript(asked.run)[-1][1]
    assert tenant.events(asked.run)[-2:] == ["approval.expired", "turn.claimed"]


def test_an_approval_that_expires_before_the_call_runs_is_asked_again(
    tenant: Tenant, clock: Clock, orders: Callable[[], int]
) -> None:
    asked = tenant.asked(*DELETE, agent="clerk")
    tenant.decide(asked.call, "approved")
    clock("25 hours")
    lease = tenant.claim(run=asked.run)
    said = tenant.execute(asked.call, lease)
    assert (said["status"], said["next"]) == ("awaiting_approval", "wait")
    assert orders() == 2
    assert tenant.approval(asked.call)[1] == "pending"
    assert tenant.why_asked(asked.call).startswith("its time was over before the approved call")
    tenant.decide(asked.call, "approved")
    assert tenant.execute(asked.call, tenant.claim(run=asked.run))["ok"]
    assert orders() == 1


@pytest.mark.parametrize("asked_for", [DELETE, MAIL], ids=["the kernel's", "the worker's"])
def test_a_skill_that_changed_after_the_approval_is_asked_again(
    kernel_database: KernelDatabase, orders: Callable[[], int], asked_for: Any
) -> None:
    tenant = make_tenant(kernel_database)
    grant_orders(tenant)
    asked = tenant.asked(*asked_for, agent="clerk")
    tenant.decide(asked.call, "approved")
    first = tenant.approval(asked.call)[0]
    kernel_database.superuser.execute(
        "update aos_skills.skill set version = version + 1 where tenant_id = %s", (tenant.id,)
    )
    lease = tenant.claim(run=asked.run)

    def run_it(lease: dict[str, Any]) -> Any:
        if asked_for is DELETE:
            return tenant.execute(asked.call, lease)
        return call(tenant.worker, "aos_agent.start_call", tenant.id, asked.call, lease["lease"])

    assert run_it(lease)["status"] == "awaiting_approval"
    assert orders() == 2
    assert tenant.run_row(asked.run)["turn_state"] == "awaiting_approval"
    assert tenant.approval(asked.call)[0] != first
    assert tenant.why_asked(asked.call).startswith("the skill changed before the approved call")
    assert tenant.events(asked.run)[-1] == "approval.requested"
    tenant.decide(asked.call, "approved")
    assert run_it(tenant.claim(run=asked.run)).get("status") != "awaiting_approval"
    assert tenant.approval(asked.call)[1] == "consumed"


def test_a_skill_taken_from_the_agent_after_the_approval_does_not_run(
    kernel_database: KernelDatabase, orders: Callable[[], int]
) -> None:
    tenant = make_tenant(kernel_database)
    grant_orders(tenant)
    asked = tenant.asked(*DELETE, agent="clerk")
    tenant.decide(asked.call, "approved")
    kernel_database.superuser.execute(
        "update aos_agent.agent set skills = '{}' where tenant_id = %s", (tenant.id,)
    )
    said = tenant.execute(asked.call, tenant.claim(run=asked.run))
    assert not said["ok"] and "may not use" in said["result"]["error"]
    assert orders() == 2
    assert tenant.approval(asked.call)[1] == "cancelled"


def test_an_approval_is_used_once(tenant: Tenant, orders: Callable[[], int]) -> None:
    asked = tenant.asked(*DELETE, agent="clerk")
    tenant.decide(asked.call, "approved")
    lease = tenant.claim(run=asked.run)
    first = tenant.execute(asked.call, lease)
    tenant.database.superuser.execute("insert into shop.orders values (1, 'again')")
    again = tenant.execute(asked.call, lease)
    assert again["repeated"] and again["result"] == first["result"]
    assert orders() == 2
    same = tenant.respond(lease, ask(DELETE))  # the same statement is a new question
    assert same["calls"][0]["status"] == "awaiting_approval"


@pytest.mark.parametrize("second", ["approved", "denied"])
@pytest.mark.parametrize("first", ["approved", "denied"])
def test_the_second_decider_is_told_who_was_first(tenant: Tenant, first: str, second: str) -> None:
    asked = tenant.asked(*MAIL, agent="clerk")
    tenant.decide(asked.call, first)
    with refused("AO008", f"already {first} by user:dev"):
        tenant.decide(asked.call, second)
    assert tenant.approval(asked.call)[1] == first


def test_no_decision_but_approved_and_denied_is_known(tenant: Tenant) -> None:
    asked = tenant.asked(*MAIL, agent="clerk")
    with refused("AO006"):
        tenant.decide(asked.call, "maybe")
    with refused("AO001"):
        call(tenant.person, "aos_agent.decide_approval", tenant.id, uuid4(), "approved")
    assert tenant.decide(asked.call, "approved")["state"] == "approved"


def principal(tenant: Tenant, login: str, kind: str, role: str, group: str) -> psycopg.Connection:
    """Make a principal of the tenant for a login of its own and connect as it."""
    database = tenant.database
    database.person(login, group)
    apply(database.superuser, "aos_auth.apply_principal", tenant.id, login, {
        "type": "user" if kind == "agent" else kind, "dbRole": login, "roles": [role],
    })  # fmt: skip
    database.superuser.execute(
        "update aos_auth.principal set principal_type = %s where tenant_id = %s and name = %s",
        (kind, tenant.id, login),
    )
    return database.connect(login, tenant.id)


def test_who_may_decide(tenant: Tenant) -> None:
    refusals = {
        ("test_agent", "agent", "developer", "aos_developer"): "AO001",  # nobody's principal
        ("test_looker", "user", "viewer", "aos_viewer"): "42501",  # no right on the function
        ("test_half", "user", "viewer", "aos_developer"): "AO004",  # no such role in the tenant
    }
    asked = tenant.asked(*MAIL, agent="clerk")
    approval = tenant.approval(asked.call)[0]
    for who, sqlstate in refusals.items():
        connection = principal(tenant, *who)
        with refused(sqlstate):
            call(connection, "aos_agent.decide_approval", tenant.id, approval, "approved")
    with refused("42501"):
        call(tenant.worker, "aos_agent.decide_approval", tenant.id, approval, "approved")
    assert tenant.approval(asked.call)[1] == "pending"
    service = principal(tenant, "test_service", "service", "developer", "aos_developer")
    service.execute("select set_config('aos.on_behalf_of', 'dev', false)")
    call(service, "aos_agent.decide_approval", tenant.id, approval, "approved")
    assert tenant.database.value(
        "select decided_by from aos_core.approval where approval_id = %s", approval
    ) == "service:test_service for user:dev"  # fmt: skip


def set_aside(tenant: Tenant) -> Asked:
    """A call that waits while the conversation goes on; a second turn is open and answered."""
    asked = tenant.asked(*DELETE, agent="clerk")
    following = tenant.open(asked.run, "something else meanwhile", p_worker="w1")
    assert following["status"] == "opened" and following["next"] == "model"
    tenant.respond(following, say("of course"))
    assert tenant.approval(asked.call)[1] == "pending"
    roles = [role for role, _ in tenant.transcript(asked.run)]
    assert roles == ["user", "assistant", "tool", "user", "assistant"]
    assert "awaiting approval" in tenant.transcript(asked.run)[2][1]
    return asked


def test_a_message_sets_the_waiting_turn_aside_and_a_later_approval_runs_the_call(
    tenant: Tenant, orders: Callable[[], int]
) -> None:
    asked = set_aside(tenant)
    tenant.decide(asked.call, "approved")
    lease = tenant.claim(run=asked.run)
    assert lease["next"] == "calls" and lease["calls"][0]["call_id"] == str(asked.call)
    assert tenant.execute(asked.call, lease)["ok"] and orders() == 1
    role, text = tenant.transcript(asked.run)[-1]
    assert role == "user" and "[approval] sql_execute was approved and has run" in text
    assert tenant.respond(lease, say("it is done"))["next"] == "done"
    assert tenant.faults(asked.run) == []


def test_a_later_denial_opens_a_turn_with_its_reason(
    tenant: Tenant, orders: Callable[[], int]
) -> None:
    asked = set_aside(tenant)
    tenant.decide(asked.call, "denied", "too dangerous")
    lease = tenant.claim(run=asked.run)
    assert lease["next"] == "model"
    role, text = tenant.transcript(asked.run)[-1]
    assert role == "user" and text.endswith("denied by user:dev: too dangerous")
    assert tenant.respond(lease, say("understood"))["next"] == "done"
    assert orders() == 2


def test_a_decision_during_a_later_turn_waits_for_its_end(tenant: Tenant) -> None:
    asked = set_aside(tenant)
    busy = tenant.open(asked.run, "and another thing", p_worker="w1")
    tenant.decide(asked.call, "approved")
    assert tenant.run_row(asked.run)["inbox_count"] == 1
    tenant.respond(busy, say("yes?"))
    lease = tenant.claim(run=asked.run)
    assert lease["next"] == "calls"
    tenant.execute(asked.call, lease)
    assert tenant.respond(lease, say("it is done"))["next"] == "done"


@pytest.mark.parametrize("decision", ["approved", "denied"])
def test_a_late_approval_that_is_asked_again_can_be_decided_again(
    kernel_database: KernelDatabase, decision: str
) -> None:
    tenant = make_tenant(kernel_database)
    grant_orders(tenant)
    asked = set_aside(tenant)
    tenant.decide(asked.call, "approved")
    kernel_database.superuser.execute(
        "update aos_skills.skill set version = version + 1 where tenant_id = %s", (tenant.id,)
    )
    assert tenant.execute(asked.call, tenant.claim())["status"] == "awaiting_approval"
    tenant.decide(asked.call, decision, "because")
    lease = tenant.claim()
    assert lease["next"] == ("calls" if decision == "approved" else "model")
    if decision == "approved":
        tenant.execute(asked.call, lease)
    assert tenant.transcript(asked.run)[-1][0] == "user"  # the tool has had its one result
    assert tenant.respond(lease, say("settled"))["next"] == "done"


def test_each_of_several_waiting_calls_is_decided_for_itself(tenant: Tenant) -> None:
    run = tenant.start_run("clerk")
    lease = tenant.open(run, p_worker="w1")
    calls = tenant.respond(lease, ask(MAIL, MAIL))["calls"]
    first, second = (UUID(each["call_id"]) for each in calls)
    tenant.decide(first, "denied")
    assert tenant.claim(run=run) is None
    assert tenant.run_row(run)["turn_state"] == "awaiting_approval"
    tenant.decide(second, "approved")
    lease = tenant.claim(run=run)
    assert [each["status"] for each in lease["calls"]] == ["approved"]


def race(tenant: Tenant, rounds: int, *rivals: Callable[[psycopg.Connection, Asked], Any]) -> Any:
    """Let rivals act on a waiting call at once; yield the call and who was refused, each round."""
    database = tenant.database
    connections = [database.connect("test_developer", tenant.id) for _ in rivals]
    barrier = threading.Barrier(len(rivals))

    def act(number: int, asked: Asked) -> str:
        barrier.wait()
        try:
            rivals[number](connections[number], asked)
        except psycopg.Error as error:
            return str(error.sqlstate)
        return "won"

    with ThreadPoolExecutor(len(rivals)) as pool:
        for _ in range(rounds):
            asked = tenant.asked(*MAIL, agent="clerk")
            ends = [pool.submit(act, number, asked) for number in range(len(rivals))]
            yield asked, tuple(end.result() for end in ends)


def test_of_an_approval_and_a_denial_at_once_exactly_one_wins(tenant: Tenant) -> None:
    def decide(decision: str) -> Callable[[psycopg.Connection, Asked], Any]:
        return lambda connection, asked: call(
            connection, "aos_agent.decide_approval", tenant.id,
            tenant.approval(asked.call)[0], decision,
        )  # fmt: skip

    for asked, ends in race(tenant, 25, decide("approved"), decide("denied")):
        assert sorted(ends) == ["AO008", "won"]
        expected = "approved" if ends[0] == "won" else "denied"
        assert tenant.approval(asked.call)[1] == tenant.call_state(asked.call) == expected
        assert tenant.faults(asked.run) == []


def test_an_approval_never_survives_the_run_that_is_killed_at_once(tenant: Tenant) -> None:
    approvals: dict[UUID, UUID] = {}

    def approve(connection: psycopg.Connection, asked: Asked) -> None:
        (found,) = connection.execute(
            "select approval_id from aos_core.approval_status where call_id = %s", (asked.call,)
        ).fetchone() or (None,)
        approvals[asked.run] = found
        call(connection, "aos_agent.decide_approval", tenant.id, found, "approved")

    def kill(connection: psycopg.Connection, asked: Asked) -> None:
        call(connection, "aos_agent.cancel_run", tenant.id, asked.run)

    seen = set()
    for asked, ends in race(tenant, 50, approve, kill):
        seen.add(ends)
        assert ends in {("won", "won"), ("AO008", "won")}
        events = tenant.events(asked.run)
        assert ("approval.approved" in events) == (ends[0] == "won")
        if ends[0] == "won":
            assert events.index("approval.approved") < events.index("run.cancelled")
        assert tenant.approval(asked.call)[1] == tenant.call_state(asked.call) == "cancelled"
        assert tenant.run_row(asked.run)["run_state"] == "cancelled"
        assert tenant.claim(run=asked.run) is None
        assert tenant.faults(asked.run) == []
    assert seen


def test_the_guides_loop_waits_for_the_decision_and_then_records_the_result(
    tenant: Tenant,
) -> None:
    for skill, args in (DELETE, MAIL):
        run = tenant.start_run("clerk")
        call(tenant.person, "aos_agent.add_user_message", run, "please")
        turn = call(tenant.person, "aos_agent.start_turn", run)
        process = ("aos_agent.process_tool_call", turn, skill, args)
        asked = call(tenant.person, *process)
        assert asked["status"] == "awaiting_approval"
        assert call(tenant.person, *process) == asked
        with refused("AO002"):
            call(tenant.person, "aos_agent.record_tool_result", turn, skill, {"result": "no"})
        with refused("AO002"):
            call(tenant.person, "aos_agent.finish_turn", turn, "no")
        tenant.decide(UUID(asked["call_id"]), "approved")
        approved = call(tenant.person, *process)
        assert (approved["status"], approved["call_id"]) == ("approved", asked["call_id"])
        call(tenant.person, "aos_agent.record_tool_result", turn, skill, {"result": "ok"})
        assert tenant.approval(UUID(asked["call_id"]))[1] == "consumed"
        call(tenant.person, "aos_agent.finish_turn", turn, "done")


def approve_for(tenant: Tenant, call_id: UUID, seconds: int, decision: str = "approved") -> Any:
    return call(
        tenant.person,
        "aos_agent.decide_approval",
        tenant.id,
        tenant.approval(call_id)[0],
        decision,
        None,
        None,
        seconds,
    )


def test_an_approval_with_an_end_of_its_own_runs_before_it_and_asks_again_after(
    tenant: Tenant, orders: Callable[[], int]
) -> None:
    in_time, too_late = (tenant.asked(*DELETE, agent="clerk") for _ in range(2))
    for asked in (in_time, too_late):
        before = tenant.database.rows(
            "select digest, expires_at from aos_core.approval where call_id = %s", asked.call
        )[0]
        approve_for(tenant, asked.call, 600)
        digest, expires = tenant.database.rows(
            "select digest, expires_at from aos_core.approval where call_id = %s", asked.call
        )[0]
        assert digest != before[0] and expires < before[1]
        recorded = tenant.database.value(
            "select data ->> 'digest' from aos_core.event_log"
            " where stream_id = %s and kind = 'approval.approved'",
            asked.run,
        )
        assert recorded == digest.hex()
    assert tenant.execute(in_time.call, tenant.claim(run=in_time.run))["ok"] is True
    assert orders() == 1
    tenant.database.move_clock("11 minutes")
    try:
        done = tenant.execute(too_late.call, tenant.claim(run=too_late.run))
        assert done["status"] == "awaiting_approval"
        assert tenant.approval(too_late.call)[1] == "pending"
    finally:
        tenant.database.move_clock()
    assert orders() == 1
    assert tenant.faults(too_late.run) == []


def test_an_end_can_only_come_earlier_and_is_covered_by_the_digest(tenant: Tenant) -> None:
    asked = tenant.asked(*DELETE, agent="clerk")
    was = tenant.database.value(
        "select expires_at from aos_core.approval where call_id = %s", asked.call
    )
    for seconds, decision in ((0, "approved"), (-5, "approved"), (600, "denied")):
        with refused("AO006"):
            approve_for(tenant, asked.call, seconds, decision)
    approve_for(tenant, asked.call, 2_000_000_000)
    end = "select expires_at from aos_core.approval where call_id = %s"
    assert tenant.database.value(end, asked.call) == was
    # The attack: an approval whose end is put off by hand does not hold; put back, it does.
    holds = (
        "select aos_core.approval_holds(tenant_id, call_id, tool_version)"
        " from aos_core.tool_call where call_id = %s"
    )
    assert tenant.database.value(holds, asked.call) is True
    longer = (
        "update aos_core.approval set expires_at = expires_at + %s::interval where call_id = %s"
    )
    tenant.database.superuser.execute(longer, ("1 day", asked.call))
    assert tenant.database.value(holds, asked.call) is False
    tenant.database.superuser.execute(longer, ("-1 day", asked.call))
    assert tenant.database.value(holds, asked.call) is True
