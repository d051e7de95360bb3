"""Tools of MCP servers: what the worker is told, and what it may shut."""

from __future__ import annotations

from typing import Any

import pytest

from kernels import Asked, KernelDatabase, Tenant, apply, call, make_tenant, refused

PIN = "sha256:" + "0" * 64
SERVER = {"url": "https://x.example/mcp", "auth": {"bearer": {"secretRef": "token"}}}


@pytest.fixture
def desk(kernel_database: KernelDatabase, request: pytest.FixtureRequest) -> Tenant:
    made = make_tenant(kernel_database, f"mcp_{abs(hash(request.node.name)) % 10**9}")
    apply(kernel_database.superuser, "aos_skills.apply_mcpserver", made.id, "srv", SERVER)
    own(made)
    apply(kernel_database.superuser, "aos_agent.apply_agent", made.id, "caller", {
        "persona": "expert", "skills": ["srv.echo"],
    })  # fmt: skip
    return made


def own(tenant: Tenant, **more: Any) -> str:
    """Apply the skill of the server's tool."""
    spec = {
        "description": "x", "input": {"type": "object"}, "effect": "read", "risk": "low",
        "touches": [], "mcp": {"server": "srv", "tool": "echo", "pin": PIN}, **more,
    }  # fmt: skip
    return apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, "srv.echo", spec)


def disabled(tenant: Tenant) -> Any:
    query = "select disabled from aos_skills.skill where tenant_id = %s and name = 'srv.echo'"
    return tenant.database.value(query, tenant.id)


def shut(tenant: Tenant, asked: Asked, reason: str = "it changed") -> Any:
    given = (tenant.id, asked.call, asked.lease["lease"], reason)
    return call(tenant.worker, "aos_agent.disable_skill", *given)


def test_the_worker_gets_the_server_and_its_secrets_with_the_settings(desk: Tenant) -> None:
    asked = desk.asked("srv.echo", {}, "caller")
    take = ("aos_agent.call_settings", desk.id, asked.call, asked.lease["lease"])
    with refused("AO001", 'this tenant has no secret "token"'):
        call(desk.worker, *take)
    settings = desk.database.value("select aos_skills.settings_of(%s, 'srv.echo')", desk.id)
    owner = settings.pop("owner")
    assert settings == {"server": SERVER, "tool": "echo", "pin": PIN}
    assert owner == str(
        desk.database.value(
            "select mcpserver_id from aos_skills.mcpserver where tenant_id = %s", desk.id
        )
    )


def test_a_skill_that_is_shut_is_refused_and_offered_no_more_until_it_is_applied(
    desk: Tenant,
) -> None:
    asked = desk.asked("srv.echo", {}, "caller")
    assert shut(desk, asked) == {"disabled": True}
    assert disabled(desk) == "it changed"
    with refused("AO004"):
        take = ("aos_agent.call_settings", desk.id, asked.call, asked.lease["lease"])
        call(desk.worker, *take)
    later = desk.asked("srv.echo", {}, "caller").answer["calls"][0]
    assert later["status"] == "denied"
    assert "is disabled: it changed" in str(later)
    assert own(desk) == "configured"
    assert disabled(desk) is None
    assert desk.asked("srv.echo", {}, "caller").answer["calls"][0]["status"] != "denied"


def test_only_the_running_call_of_the_skill_under_its_lease_shuts_it(desk: Tenant) -> None:
    asked = desk.asked("srv.echo", {}, "caller")
    other = desk.asked("web_search", {"query": "x"})
    with refused("AO003"):
        call(desk.worker, "aos_agent.disable_skill", desk.id, asked.call, None, "mine")
    with refused("AO003"):
        lease = other.lease["lease"]
        call(desk.worker, "aos_agent.disable_skill", desk.id, asked.call, lease, "mine")
    with refused("AO006"):
        shut(desk, asked, "")
    assert shut(desk, other) == {"disabled": False}, "a built-in is not the tenant's to shut"
    desk.result(asked.call, asked.lease, {"ok": True})
    with refused("AO002"):
        shut(desk, asked)
    assert disabled(desk) is None


def test_a_call_shuts_no_version_that_somebody_applied_since(desk: Tenant) -> None:
    asked = desk.asked("srv.echo", {}, "caller")
    own(desk, description="approved anew")
    assert shut(desk, asked) == {"disabled": False}
    assert disabled(desk) is None


def test_a_change_of_the_server_is_one_of_its_skills(desk: Tenant) -> None:
    version = "select tool_version from aos_skills.effective_skill(%s, 'srv.echo')"
    before = desk.database.value(version, desk.id)
    admin = desk.database.superuser
    changed = {**SERVER, "url": "https://other.example"}
    again = apply(admin, "aos_skills.apply_mcpserver", desk.id, "srv", SERVER)
    assert (again, desk.database.value(version, desk.id)) == ("unchanged", before)
    assert apply(admin, "aos_skills.apply_mcpserver", desk.id, "srv", changed) == "configured"
    assert desk.database.value(version, desk.id) != before


def test_what_is_used_stays_and_what_is_named_has_to_be_there(desk: Tenant) -> None:
    admin = desk.database.superuser
    with refused("AO005", 'mcpserver "srv" still has skills: srv.echo'):
        call(admin, "aos_skills.delete_mcpserver", desk.id, "srv")
    with refused("AO001", 'mcpserver "none" not found'):
        own(desk, mcp={"server": "none", "tool": "echo"})
    for wrong in ({}, {"url": "https://x", "command": ["x"]}):
        with refused("AO006", "takes either command or url"):
            apply(admin, "aos_skills.apply_mcpserver", desk.id, "wrong", wrong)
