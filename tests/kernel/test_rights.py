"""Who may do what, until when: roles of principals, and an answer to "may I?" that is true."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest

from aosctl.cli.auth import VERBS
from kernels import META, SEALED, Connection, KernelDatabase, apply, call, refused, user
from tenancy import Filled, admit, fill, select

GROUPLESS = "iso_groupless"
CALLERS = ("iso_viewer", "iso_developer", "iso_admin", "iso_auditor", "iso_expired", GROUPLESS)
SPEC = {"systemPrompt": "x", "model": "offline", "persona": "expert", "builtin": "web_search",
        "type": "user", "roles": [], "provider": "offline"}  # fmt: skip
SPECS: dict[str, dict[str, Any]] = {
    "policy": {"skills": ["nothing_*"], "decision": "deny"},
    "budget": {"scope": "tenant", "period": "day", "limits": {"maxTokens": 10**9}},
    "secret": {"data": {"api": {"sealed": SEALED}}},
    "mcpserver": {"command": ["true"]},
    "schedule": {"agent": "bot", "schedule": "@daily", "input": "x"},
}


@pytest.fixture(scope="module")
def here(kernel_database: KernelDatabase) -> Filled:
    filled = fill(kernel_database, "rights_here")
    other = fill(kernel_database, "rights_there")
    admit(kernel_database, filled.tenant, other.tenant)
    if not kernel_database.value("select true from pg_roles where rolname = %s", GROUPLESS):
        kernel_database.superuser.execute(f"create role {GROUPLESS} login".encode())
    apply(kernel_database.superuser, "aos_auth.apply_principal", filled.id, GROUPLESS, {
        "type": "user", "dbRole": GROUPLESS, "roles": ["admin"],
    })  # fmt: skip
    return filled


@pytest.fixture(scope="module")
def there(kernel_database: KernelDatabase, here: Filled) -> UUID:
    found = kernel_database.value(
        "select tenant_id from aos_auth.tenant where name = %s", "rights_there"
    )
    return UUID(str(found))


def actions(filled: Filled) -> dict[tuple[str, str], tuple[str, list[Any]]]:
    """Name a statement for every verb and kind; one that changes nothing is an error too."""
    tenant = filled.id
    read = "select * from {} limit 1"
    views = {
        "tenant": "aos_auth.tenant_resource", "principal": "aos_auth.principal_resource",
        "model": "aos_meta.model_resource", "persona": "aos_persona.persona_resource",
        "skill": "aos_skills.skill_resource", "agent": "aos_agent.agent_resource",
        "collection": "aos_rag.collection_resource", "run": "aos_core.run_status",
        "approval": "aos_core.approval_status", "event": "aos_core.event",
        "allowance": "aos_core.allowance_status",
        "secret": "aos_auth.secret_resource", "policy": "aos_skills.policy_resource",
        "mcpserver": "aos_skills.mcpserver_resource",
        "schedule": "aos_agent.schedule_resource",
        "budget": "aos_core.budget_resource",
    }  # fmt: skip
    found: dict[tuple[str, str], tuple[str, list[Any]]] = {
        ("get", kind): (read.format(view), []) for kind, view in views.items()
    }
    schemas = {"principal": "aos_auth", "persona": "aos_persona", "skill": "aos_skills",
               "agent": "aos_agent", "collection": "aos_rag", "secret": "aos_auth",
               "policy": "aos_skills", "budget": "aos_core", "mcpserver": "aos_skills",
               "schedule": "aos_agent"}  # fmt: skip
    there = {"principal": "dev", "persona": "expert", "skill": "send_mail", "agent": "clerk",
             "collection": "notes", "secret": "keys", "policy": "watchful",
             "budget": "wide", "mcpserver": "tickets", "schedule": "nightly"}  # fmt: skip
    for kind, schema in schemas.items():
        given = f"select {schema}.apply_{kind}(%s, 'fresh', %s, %s)"
        found["apply", kind] = given, [tenant, META, SPECS.get(kind, SPEC)]
        found["delete", kind] = f"select {schema}.delete_{kind}(%s, %s)", [tenant, there[kind]]
    for kind, schema, name in (("tenant", "aos_auth", "no_such"), ("model", "aos_meta", "no_such")):
        found["apply", kind] = f"select {schema}.apply_{kind}('fresh', %s, %s)", [META, SPEC]
        found["delete", kind] = f"select {schema}.delete_{kind}(%s)", [name]
    found["chat", "agent"] = "select aos_agent.start_run(%s, 'bot')", [tenant]
    found["kill", "run"] = "select aos_agent.cancel_run(%s, %s)", [tenant, filled.run]
    found["fork", "run"] = "select aos_agent.fork_run(%s, %s)", [tenant, filled.run]
    found["replay", "run"] = "select aos_agent.replay_run(%s, %s)", [tenant, filled.run]
    found["steer", "run"] = (
        "select aos_agent.steer_turn(%s, %s, %s)",
        [tenant, filled.run, user("x")],
    )
    found["resolve", "run"] = (
        "select aos_agent.resolve_call(%s, %s, 'retry')",
        [tenant, filled.call],
    )
    found["verify", "event"] = "select 1 from aos_core.audit_counts(%s)", [tenant]
    found["export", "event"] = "select * from aos_core.audit_streams(%s)", [tenant]
    found["export", "tenant"] = "select aos_core.export_rows(%s, 'aos_agent.agent')", [tenant]
    found["approve", "approval"] = (
        "select aos_agent.decide_approval(%s, %s, 'denied')", [tenant, filled.approval],
    )  # fmt: skip
    found["delete", "allowance"] = (
        "select aos_agent.revoke_allowance(%s, %s)", [tenant, filled.allowance],
    )  # fmt: skip
    return found


DENIED = {"42501", "AO004", "AO001"}  # what one may not see is not there


def works(connection: Connection, statement: str, args: list[Any]) -> bool:
    """Tell whether rights let a statement through, which may then fail; take it back."""
    from psycopg.types.json import Jsonb

    values = [Jsonb(value) if isinstance(value, dict) else value for value in args]
    try:
        with connection.transaction(force_rollback=True):
            found = connection.execute(statement.encode(), values or None).fetchall()
    except psycopg.Error as error:
        return error.sqlstate not in DENIED
    return bool(found)


@pytest.mark.parametrize("who", CALLERS)
def test_can_i_says_what_is_so(kernel_database: KernelDatabase, here: Filled, who: str) -> None:
    session = kernel_database.connect(who, here.id)
    asked = kernel_database.connect("iso_admin", here.id)
    for (verb, kind), (statement, args) in actions(here).items():
        answer = call(asked, "aos_auth.can_i", here.id, verb, kind, who)
        assert answer["reason"]
        if (who, verb, kind) == ("iso_expired", "get", "model"):
            continue  # models belong to no tenant: whoever is in a group of people reads them
        assert works(session, statement, args) is answer["allowed"], (verb, kind, answer)
        if who != GROUPLESS:
            own = call(session, "aos_auth.can_i", here.id, verb, kind)
            assert own == answer, "the same answer about oneself"


def test_every_verb_and_kind_of_the_kernel_is_tried(
    kernel_database: KernelDatabase, here: Filled
) -> None:
    verbs = (*VERBS, "fly")
    kinds = {kind for _, kind in actions(here)}
    known = kernel_database.rows(
        "select v, k from unnest(%s::text[]) v, unnest(%s::text[]) k"
        " where aos_auth.needed_role(v, k) is not null", list(verbs), sorted(kinds),
    )  # fmt: skip
    assert set(known) == set(actions(here))


def test_can_i_names_the_grant_that_is_missing(
    kernel_database: KernelDatabase, here: Filled
) -> None:
    admin = kernel_database.connect("iso_admin", here.id)

    def why(verb: str, kind: str, who: str) -> str:
        return str(call(admin, "aos_auth.can_i", here.id, verb, kind, who)["reason"])

    assert why("apply", "agent", "iso_viewer") == (
        'user "iso_viewer" lacks the role "developer": it has viewer'
    )
    assert why("apply", "agent", "iso_developer") == 'user "iso_developer" has the role developer'
    assert 'its role "developer" expired at 20' in why("apply", "agent", "iso_expired")
    assert why("get", "run", GROUPLESS) == (
        f'the login "{GROUPLESS}" is no member of aos_viewer: grant aos_viewer to {GROUPLESS}'
    )
    assert why("apply", "tenant", "iso_admin") == "it takes an administrator: a member of aos_admin"


def test_can_i_tells_nothing_of_other_tenants_and_other_people(
    kernel_database: KernelDatabase, here: Filled, there: UUID
) -> None:
    developer = kernel_database.connect("iso_developer", here.id)
    with refused("AO004", "lacks the role"):
        call(developer, "aos_auth.can_i", here.id, "get", "run", "iso_admin")
    unknown = UUID(int=7)
    for tenant in (there, unknown):
        with refused("AO001", "not found"):
            call(developer, "aos_auth.can_i", tenant, "get", "run")
    admin = kernel_database.connect("iso_admin", here.id)
    with refused("AO001", 'principal "nobody" not found'):
        call(admin, "aos_auth.can_i", here.id, "get", "run", "nobody")
    with refused("AO006", 'nothing is there to "fly"'):
        call(admin, "aos_auth.can_i", here.id, "fly", "run")


def test_a_role_is_given_until_a_moment_and_taken(
    kernel_database: KernelDatabase, here: Filled
) -> None:
    admin = kernel_database.connect("iso_admin", here.id)
    viewer = kernel_database.connect("iso_viewer", here.id)
    soon = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=8)
    give = ("aos_auth.grant_role", here.id, "iso_viewer", "auditor")
    assert call(admin, *give, None) == "granted"
    assert call(admin, *give, soon) == "changed"
    assert call(admin, *give, soon) == "unchanged"
    spec, status = kernel_database.rows(
        "select spec, status from aos_auth.principal_resource where name = 'iso_viewer'"
        " and tenant_id = %s", here.id,
    )[0]  # fmt: skip
    assert spec["roleExpiry"] == {"auditor": soon.strftime("%Y-%m-%dT%H:%M:%SZ")}
    assert (spec["roles"], status) == (["auditor", "viewer"], {})
    kernel_database.move_clock("9 hours")
    try:
        answer = call(viewer, "aos_auth.can_i", here.id, "get", "event")
        assert answer["allowed"], "the other role is left"
        status = kernel_database.value(
            "select status from aos_auth.principal_resource where name = 'iso_viewer'"
            " and tenant_id = %s", here.id,
        )  # fmt: skip
        assert status == {"expiredRoles": ["auditor"]}
        with refused("AO006", "would have expired"):
            call(admin, *give, soon)
    finally:
        kernel_database.move_clock()
    call(admin, "aos_auth.revoke_role", here.id, "iso_viewer", "auditor")
    with refused("AO001", 'has no role "auditor"'):
        call(admin, "aos_auth.revoke_role", here.id, "iso_viewer", "auditor")
    kinds = kernel_database.rows(
        "select kind from aos_core.event_log where tenant_id = %s and kind like 'role_grant%%'"
        " and data ->> 'role' = 'auditor' and data ->> 'principal_id' = (select principal_id::text"
        " from aos_auth.principal where tenant_id = %s and name = 'iso_viewer') order by seq",
        here.id, here.id,
    )  # fmt: skip
    assert [kind for (kind,) in kinds] == [
        "role_grant.created", "role_grant.changed", "role_grant.deleted",
    ]  # fmt: skip


@pytest.mark.parametrize("who", ["iso_viewer", "iso_developer", "iso_auditor", "iso_expired"])
def test_only_an_admin_of_the_tenant_gives_and_takes_roles(
    kernel_database: KernelDatabase, here: Filled, who: str
) -> None:
    session = kernel_database.connect(who, here.id)
    for function, args in (("grant_role", ("admin", None)), ("revoke_role", ("admin",))):
        with pytest.raises(psycopg.Error) as caught:
            call(session, f"aos_auth.{function}", here.id, who, *args)
        assert caught.value.sqlstate in DENIED


def test_an_admin_gives_no_roles_elsewhere(
    kernel_database: KernelDatabase, here: Filled, there: UUID
) -> None:
    admin = kernel_database.connect("iso_admin", here.id)
    for selected in (here.id, there, None):
        select(admin, selected)
        with refused("AO004", "lacks the role"):
            call(admin, "aos_auth.grant_role", there, "dev", "admin", None)
    select(admin, here.id)
    assert call(admin, "aos_auth.grant_role", here.id, "iso_viewer", "auditor", None) == "granted"
    call(admin, "aos_auth.revoke_role", here.id, "iso_viewer", "auditor")


def test_a_manifest_counts_whole_with_the_ends_of_its_roles(
    kernel_database: KernelDatabase, here: Filled
) -> None:
    admin = kernel_database.superuser
    spec = {"type": "user", "roles": ["viewer", "auditor"],
            "roleExpiry": {"auditor": "2099-01-01T00:00:00Z"}}  # fmt: skip

    def outcome(changed: dict[str, Any]) -> Any:
        return apply(admin, "aos_auth.apply_principal", here.id, "whole", changed)

    assert outcome(spec) == "created"
    assert outcome(spec) == "unchanged"
    assert outcome({**spec, "roleExpiry": {}}) == "configured"
    assert outcome({**spec, "roleExpiry": {}}) == "unchanged"
    assert outcome({**spec, "roles": ["viewer"], "roleExpiry": {}}) == "configured"
    with refused("AO006", "names a role that it does not have"):
        outcome({**spec, "roles": ["viewer"]})


def test_the_roles_that_somebody_has_are_read_in_the_caller_s_own_statement(here: Filled) -> None:
    """No call for each principal: what every function asks first is planned as one."""
    admin = here.tenant.database.superuser
    with admin.transaction(force_rollback=True):
        admin.execute("set local role aos_lookup")
        plan = admin.execute(
            "explain (costs off) select exists (select from aos_auth.roles_held(p.tenant_id,"
            " p.principal_id) h where h.role_name = any (aos_auth.roles_that_include('viewer')))"
            " from aos_auth.principal p"
        ).fetchall()
    text = "\n".join(line for (line,) in plan)
    assert "role_grant" in text and "Function Scan" not in text


def test_both_ways_to_ask_which_role_includes_which_agree(kernel_database: KernelDatabase) -> None:
    assert kernel_database.rows(
        "select held, asked from unnest(%s::text[]) held, unnest(%s::text[]) asked"
        " where aos_auth.role_includes(held, asked)"
        "   is distinct from (held = any (aos_auth.roles_that_include(asked)))",
        ["viewer", "developer", "auditor", "admin", "agent"],
        ["viewer", "developer", "auditor", "admin"],
    ) == []  # fmt: skip
