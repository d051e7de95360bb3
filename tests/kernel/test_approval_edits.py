"""Edited arguments: judged as if the model had asked for them, and told to it; both are kept."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernels import Asked, KernelDatabase, Tenant, apply, call, make_tenant, refused, say

DELETE = {"statement": "delete from shop.orders where id = 1"}
OTHER = {"statement": "delete from shop.orders where id = 2"}


@pytest.fixture(scope="module")
def desk(kernel_database: KernelDatabase) -> Tenant:
    """A tenant whose agent may delete orders, if a person approves."""
    kernel_database.superuser.execute(
        "create schema shop; create table shop.orders (id integer primary key, item text)"
    )
    tenant = make_tenant(kernel_database)
    apply(kernel_database.superuser, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "risk": "high", "sql": {"searchPath": ["shop"], "grants": [
            {"schema": "shop", "tables": ["*"], "privileges": ["select", "delete"]}]},
    })  # fmt: skip
    return tenant


@pytest.fixture(autouse=True)
def orders(kernel_database: KernelDatabase, desk: Tenant) -> None:
    kernel_database.superuser.execute(
        "truncate shop.orders; insert into shop.orders values (1, 'pen'), (2, 'ink')"
    )


def edit(tenant: Tenant, asked: Asked, args: dict[str, Any], digest: str | None = None) -> Any:
    return call(
        tenant.person,
        "aos_agent.edit_call",
        tenant.id,
        tenant.approval(asked.call)[0],
        args,
        "one off",
        digest,
    )


def approvals(tenant: Tenant, call_id: UUID) -> list[tuple[str, Any, Any, bool]]:
    """Return state, arguments, who edited and whether it replaces another, the oldest first."""
    return tenant.database.rows(
        "select state, args, edited_by, edits_id is not null from aos_core.approval"
        " where call_id = %s order by approval_id",
        call_id,
    )


def test_what_was_edited_runs_and_the_model_is_told(desk: Tenant) -> None:
    asked = desk.asked("sql_execute", DELETE, "clerk")
    said = edit(desk, asked, OTHER)
    assert said["call_id"] == str(asked.call)
    assert approvals(desk, asked.call) == [
        ("cancelled", DELETE, None, False),
        ("pending", OTHER, "user:dev", True),
    ]
    assert desk.claim(run=asked.run) is None  # an edit is no approval
    desk.decide(asked.call, "approved")
    lease = desk.claim(run=asked.run)
    assert lease["calls"][0]["args"] == OTHER
    done = desk.execute(asked.call, lease)
    assert done["result"]["row_count"] == 1
    assert done["result"]["edited"]["arguments"] == OTHER
    assert done["result"]["edited"]["by"] == "user:dev"
    assert '"edited"' in desk.transcript(asked.run)[-1][1]
    assert desk.database.rows("select id from shop.orders") == [(1,)]
    assert desk.respond(lease, say("done"))["next"] == "done"
    assert desk.database.rows(
        "select args, original_args from aos_core.tool_call where call_id = %s", asked.call
    ) == [(OTHER, DELETE)]
    assert "approval.edited" in desk.events(asked.run) and desk.faults(asked.run) == []


def test_an_edited_call_needs_a_preview_of_its_own(desk: Tenant) -> None:
    asked = desk.asked("sql_execute", DELETE, "clerk")

    assert desk.preview(asked.call)["rows"][0]["before"]["item"] == "pen"
    edit(desk, asked, OTHER)
    approval = desk.approval(asked.call)[0]
    shown = "select preview from aos_core.approval where approval_id = %s"
    assert desk.database.value(shown, approval) is None
    assert desk.preview(asked.call)["rows"][0]["before"]["item"] == "ink"
    desk.decide(asked.call, "approved")
    desk.database.superuser.execute("update shop.orders set item = 'x' where id = 2")
    again = desk.execute(asked.call, desk.claim(run=asked.run))
    assert again["status"] == "awaiting_approval"
    assert approvals(desk, asked.call)[-1] == ("pending", OTHER, "user:dev", True)
    desk.decide(asked.call, "approved")
    assert desk.execute(asked.call, desk.claim(run=asked.run))["result"]["edited"]["by"]


def test_a_worker_runs_its_own_tool_with_what_was_edited(desk: Tenant) -> None:
    asked = desk.asked("send_mail", {"query": "to everybody"}, "clerk")
    edit(desk, asked, {"query": "to ann"})
    edit(desk, asked, {"query": "to bob"})  # twice
    desk.decide(asked.call, "approved")
    lease = desk.claim(run=asked.run)
    assert lease["calls"][0]["args"] == {"query": "to bob"}
    call(desk.worker, "aos_agent.start_call", desk.id, asked.call, lease["lease"])
    done = desk.result(asked.call, lease, ["sent"])
    assert done["result"]["result"] == ["sent"]
    assert done["result"]["edited"]["arguments"] == {"query": "to bob"}
    assert desk.database.value(
        "select original_args from aos_core.tool_call where call_id = %s", asked.call
    ) == {"query": "to everybody"}


# the arguments that a person tries: what refuses them
REFUSED = {
    "no such argument": {"statement": "select 1", "force": True},
    "not a text": {"statement": 1},
    "none": {},
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_edit_is_held_to_the_schema_of_the_skill(desk: Tenant, what: str) -> None:
    asked = desk.asked("sql_execute", DELETE, "clerk")
    with refused("AO006", "edited arguments are refused"):
        edit(desk, asked, REFUSED[what])
    assert approvals(desk, asked.call) == [("pending", DELETE, None, False)]
    assert edit(desk, asked, OTHER)["approval_id"]


def test_an_edit_cannot_turn_a_call_into_one_that_the_role_may_not_make(desk: Tenant) -> None:
    admin = desk.database.superuser
    asked = desk.asked("send_mail", {"query": "to ann"}, "clerk")
    admin.execute(
        'update aos_skills.role_skill set denied_params = \'{"query": ["to everybody"]}\''
        " where tenant_id = %s and skill_name = 'send_mail'",
        (desk.id,),
    )
    try:
        with refused("AO006", "may not call"):
            edit(desk, asked, {"query": "to everybody"})
        assert edit(desk, asked, {"query": "to bob"})["approval_id"]
    finally:
        admin.execute(
            "update aos_skills.role_skill set denied_params = '{}' where tenant_id = %s", (desk.id,)
        )


def test_only_what_is_pending_and_as_it_was_seen_is_edited(desk: Tenant) -> None:
    asked = desk.asked("sql_execute", DELETE, "clerk")
    with refused("AO006", "the same as before"):
        edit(desk, asked, DELETE)
    with refused("AO008", "changed since it was shown"):
        edit(desk, asked, OTHER, "00")
    with refused("42501"):
        call(desk.worker, "aos_agent.edit_call", desk.id, desk.approval(asked.call)[0], OTHER)
    first = desk.approval(asked.call)[0]
    edit(desk, asked, OTHER)
    with refused("AO008", "already cancelled by user:dev"):
        call(desk.person, "aos_agent.decide_approval", desk.id, first, "approved")
    desk.decide(asked.call, "approved")
    with refused("AO008", "already approved"):
        edit(desk, asked, DELETE)


def test_an_edit_does_not_prolong_the_time_to_decide(desk: Tenant) -> None:
    asked = desk.asked("sql_execute", DELETE, "clerk")
    edit(desk, asked, OTHER)
    assert desk.database.value(
        "select count(distinct expires_at) from aos_core.approval where call_id = %s", asked.call
    ) == 1  # fmt: skip


def test_the_guide_tells_what_was_edited(desk: Tenant) -> None:
    run = desk.start_run("clerk")
    person = desk.person
    call(person, "aos_agent.add_user_message", run, "send it")
    turn = call(person, "aos_agent.start_turn", run)
    asked = call(person, "aos_agent.process_tool_call", turn, "send_mail", {"query": "a"})
    assert asked["status"] == "awaiting_approval"
    approval = desk.approval(UUID(asked["call_id"]))[0]
    call(person, "aos_agent.edit_call", desk.id, approval, {"query": "b"})
    desk.decide(UUID(asked["call_id"]), "approved")
    again = call(person, "aos_agent.process_tool_call", turn, "send_mail", {"query": "a"})
    assert again == {"status": "approved", "call_id": asked["call_id"], "args": {"query": "b"}}
