"""What the gate reads of a skill stands in the permission's row, and is never older than it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg import sql

from kernels import META, Connection, Tenant, apply, call, make_tenant, refused

# The definition once more: what the row must hold, by other functions than its own.
DIFFERENT = """
select r.role_name, r.skill_name from aos_skills.role_skill r
left join aos_skills.effective_skill(r.tenant_id, r.skill_name) e on true
where r.tenant_id = %s and (
  (r.builtin, r.runner, r.effect, r.tool_version, r.max_rows, r.max_bytes, r.search_path,
   r.why_asked, r.is_low, r.scope_id, r.taints, r.marks & 2 = 2)
  is distinct from
  (e.builtin, e.runner, e.effect, e.tool_version, e.max_rows, e.max_bytes, e.search_path,
   case when e.approval = 'always' then 'the skill always needs approval'
        when e.approval = 'risk' and e.risk = 'high' then 'the skill''s risk is high' end,
   e.risk = 'low', e.scope_id, nullif('untrusted' = any (e.touches), false),
   coalesce(e.touches && array['change', 'egress'], false))
  or (r.texts is not null) is distinct from coalesce(not exists (
       select from jsonb_each(e.input_schema -> 'properties') p
       where p.value ->> 'type' is distinct from 'string' or p.value ? 'enum'), false)
         and e.name is not null
  or r.texts is not null and to_jsonb(r.texts) <> coalesce(e.input_schema -> 'required', '[]')
  or (r.marks & 1 = 1) <> exists (
       select from aos_skills.policy p where p.tenant_id = r.tenant_id
       and r.role_name = any (p.roles || case when '*' = any (p.roles) then r.role_name end)
       and (r.skill_name = any (p.skills)
            or p.decision <> 'allow' and r.builtin = any (p.skills))))
order by 1, 2"""
GRANT = [{"schema": "facts", "tables": ["t"], "privileges": ["select"]}]
# Settings of a skill, each applied over the one before: together they change all of its row.
SETTINGS: tuple[dict[str, Any], ...] = (
    {"builtin": "sql_query"},
    {"builtin": "sql_query", "risk": "high"},
    {"builtin": "sql_query", "risk": "high", "approval": "never"},
    {"builtin": "sql_query", "approval": "always"},
    {"builtin": "sql_query", "maxRows": 3, "maxBytes": 99},
    {"builtin": "sql_query", "sql": {"searchPath": ["facts"]}},
    {"builtin": "sql_query", "sql": {"grants": GRANT}},
    {"builtin": "sql_query", "sql": {"grants": []}},
    {"builtin": "sql_query", "touches": ["untrusted"]},
    {"builtin": "sql_query", "touches": ["egress"]},
    {"builtin": "sql_query", "description": "another"},
    {"builtin": "sql_execute", "approval": "always"},
    {"builtin": "memory_store", "roles": ["agent", "clerk"]},
    {"builtin": "rag_search", "roles": ["clerk"]},
)


def different(tenant: Tenant) -> list[tuple[Any, ...]]:
    """Name the permissions whose row is not what the skill says."""
    return tenant.database.rows(DIFFERENT, tenant.id)


def outdated(tenant: Tenant) -> list[tuple[Any, ...]]:
    return tenant.database.rows("select * from aos_skills.outdated_permissions()")


def give(tenant: Tenant, **spec: Any) -> str:
    return apply(
        tenant.database.superuser, "aos_skills.apply_skill", tenant.id, "mine",
        {"roles": ["agent"], **spec},
    )  # fmt: skip


def rule(tenant: Tenant, **spec: Any) -> str:
    return apply(
        tenant.database.superuser, "aos_skills.apply_policy", tenant.id, "rule",
        {"skills": ["mine"], "decision": "ask", **spec},
    )  # fmt: skip


def test_every_change_of_a_skill_reaches_its_permissions(fresh_tenant: Tenant) -> None:
    admin = fresh_tenant.database.superuser
    call(admin, "aos_agent.delete_agent", fresh_tenant.id, "bot")
    admin.execute("create schema if not exists facts; create table if not exists facts.t (n int)")
    seen = set()
    for settings in SETTINGS:
        assert give(fresh_tenant, **settings) in ("created", "configured")
        assert different(fresh_tenant) == [], settings
        seen |= set(fresh_tenant.database.rows(
            "select r::text from aos_skills.role_skill r where skill_name = 'mine'"
            " and tenant_id = %s", fresh_tenant.id,
        ))  # fmt: skip
    assert len(seen) > len(SETTINGS)  # each said something else
    call(admin, "aos_skills.delete_skill", fresh_tenant.id, "mine")
    assert different(fresh_tenant) == [] == outdated(fresh_tenant)


def test_every_change_of_a_policy_reaches_the_permissions(fresh_tenant: Tenant) -> None:
    give(fresh_tenant, builtin="web_search")
    for spec in ({}, {"roles": ["clerk"]}, {"skills": ["mine", "web_search"], "decision": "deny"}):
        rule(fresh_tenant, **spec)
        assert different(fresh_tenant) == [] == outdated(fresh_tenant), spec
    call(fresh_tenant.database.superuser, "aos_skills.delete_policy", fresh_tenant.id, "rule")
    assert different(fresh_tenant) == []


def test_rows_written_by_hand_hold_what_the_skill_says(fresh_tenant: Tenant) -> None:
    """By a developer, who may write skills and permissions without any function."""
    person = fresh_tenant.person
    call(person, "aos_agent.delete_agent", fresh_tenant.id, "bot")
    for statement in (
        "insert into aos_skills.skill (tenant_id, name, builtin)"
        " values (%(t)s, 'own', 'sql_query')",
        "insert into aos_skills.role_skill (tenant_id, role_name, skill_name, why_asked, is_low,"
        " builtin) values (%(t)s, 'agent', 'own', null, true, 'web_search')",
        "insert into aos_skills.role_skill (tenant_id, role_name, skill_name, builtin)"
        " values (%(t)s, 'agent', 'later', 'sql_execute')",
        "insert into aos_skills.skill (tenant_id, name, builtin)"
        " values (%(t)s, 'later', 'sql_execute')",
        "update aos_skills.skill set risk = 'low', approval = 'never' where name = 'later'",
        "update aos_skills.role_skill set why_asked = null, is_low = true, scope_id = null,"
        " texts = '{}', tool_version = 'x', effect = 'read', builtin = 'memory_recall',"
        " max_rows = 1000000, search_path = '{pg_temp}'",
        "update aos_skills.role_skill set skill_name = 'sql_execute' where skill_name = 'own'"
        " and not exists (select from aos_skills.role_skill where skill_name = 'sql_execute')",
        "delete from aos_skills.skill where name in ('own', 'later')",
    ):
        person.execute(statement.encode(), {"t": fresh_tenant.id})
        assert different(fresh_tenant) == [], statement


def test_a_built_in_that_changes_tells_every_tenant(fresh_tenant: Tenant) -> None:
    admin = fresh_tenant.database.superuser
    with admin.transaction(force_rollback=True):
        admin.execute(
            "update aos_skills.builtin_skill set risk = 'high', max_rows = 1, effect = 'unsafe'"
        )
        assert admin.execute(DIFFERENT.encode(), (fresh_tenant.id,)).fetchall() == []
        reached = admin.execute(
            "select count(*), count(*) filter (where max_rows = 1 and why_asked is not null)"
            " from aos_skills.role_skill where builtin is not null"
        ).fetchone()
        assert reached is not None and reached[0] == reached[1] > 5
    with admin.transaction(force_rollback=True):
        admin.execute("grant select, update on aos_skills.builtin_skill to aos_developer")
        admin.execute("set local role aos_developer")
        with refused("AO010", "the built-in skills change with the kernel alone"):
            admin.execute("update aos_skills.builtin_skill set risk = 'low'")


@pytest.mark.parametrize(
    ("broken", "change"),
    [
        ("alter table aos_skills.skill disable trigger marks", {"approval": "always"}),
        ("alter table aos_skills.role_skill disable trigger marks", {"approval": "always"}),
        ("alter table aos_skills.role_skill disable trigger marks", {"sql": {"grants": GRANT}}),
        ("alter table aos_skills.skill disable trigger marks", {"touches": ["untrusted"]}),
    ],
)
def test_without_its_trigger_a_row_is_old_and_the_doctor_sees_it(
    fresh_tenant: Tenant, broken: str, change: dict[str, Any]
) -> None:
    admin = fresh_tenant.database.superuser
    give(fresh_tenant, builtin="sql_query")
    with admin.transaction(force_rollback=True):
        admin.execute("create schema if not exists facts")
        admin.execute("create table if not exists facts.t (n int)")
        admin.execute(broken.encode())
        give(fresh_tenant, builtin="sql_query", **change)
        wanted = [("agent", "mine")]
        assert admin.execute(DIFFERENT.encode(), (fresh_tenant.id,)).fetchall() == wanted
        found = admin.execute("select role_name, skill_name from aos_skills.outdated_permissions()")
        assert found.fetchall() == wanted
        admin.execute("set constraints all immediate")
        admin.execute(broken.replace("disable", "enable").encode())
        admin.execute("set local role aos_kernel")
        renewed = admin.execute(
            "select aos_skills.renew_permissions(%s), aos_skills.renew_permissions(%s)",
            (fresh_tenant.id, fresh_tenant.id),
        ).fetchone()
        assert renewed == (1, 0)


def test_what_is_renewed_is_one_skill_s_of_one_tenant_and_the_session_stays_as_it_was(
    fresh_tenant: Tenant,
) -> None:
    admin = fresh_tenant.database.superuser
    other = make_tenant(fresh_tenant.database)
    asked = "select aos_skills.renew_permissions(%s, %s)"
    bound = "select current_setting('aos.kernel_tenant', true)"
    with admin.transaction(force_rollback=True):
        admin.execute("alter table aos_skills.role_skill disable trigger marks")
        admin.execute(
            "update aos_skills.role_skill set is_low = not is_low"
            " where skill_name in ('sql_query', 'web_search')"
        )
        admin.execute("set constraints all immediate")
        admin.execute("alter table aos_skills.role_skill enable trigger marks")
        admin.execute("select set_config('aos.kernel_tenant', %s, true)", (str(other.id),))
        left = []
        for skill in ("memory_store", "web_search", None, None):
            (renewed,) = admin.execute(asked, (fresh_tenant.id, skill)).fetchone() or (None,)
            wrong = admin.execute(DIFFERENT.encode(), (fresh_tenant.id,)).fetchall()
            left.append((renewed, {name for _, name in wrong}))
        assert left == [
            (0, {"sql_query", "web_search"}),
            (1, {"sql_query"}),
            (1, set()),
            (0, set()),
        ]
        assert admin.execute(DIFFERENT.encode(), (other.id,)).fetchall() != []
        assert admin.execute(bound).fetchone() == (str(other.id),)


def test_an_old_row_that_nobody_renews_would_open_the_gate(fresh_tenant: Tenant) -> None:
    """Why all of this is tested: the gate believes the row."""
    admin = fresh_tenant.database.superuser
    assert gate(fresh_tenant, admin) == "approve"
    with admin.transaction(force_rollback=True):
        admin.execute(
            "alter table aos_skills.role_skill disable trigger marks; update aos_skills.role_skill"
            " set why_asked = null where skill_name = 'sql_execute'"
        )
        assert gate(fresh_tenant, admin) == "allow"


def gate(tenant: Tenant, admin: Connection) -> str:
    """Ask the gate for a statement that changes rows."""
    with admin.transaction():
        admin.execute("select set_config('aos.kernel_tenant', %s, true)", (str(tenant.id),))
        row = admin.execute(
            "select decision from aos_skills.gate(%s, 'agent', '{sql_execute}', 'sql_execute',"
            " '{\"statement\": \"select 1\"}', 'bot', null)", (tenant.id,)
        ).fetchone()  # fmt: skip
    assert row is not None
    return str(row[0])


@pytest.mark.parametrize(
    ("args", "fits"),
    [
        ({"query": "x"}, True),
        ({}, False),
        ({"query": ["x"]}, False),
        ({"query": 1}, False),
        ({"query": None}, False),
        ({"query": "x", "more": "y"}, False),
        ({"query": {"a": "x"}}, False),
    ],
)
def test_the_gate_knows_the_usual_arguments(
    fresh_tenant: Tenant, args: dict[str, Any], fits: bool
) -> None:
    """A list of texts is no text."""
    asked = fresh_tenant.asked("web_search", args)
    assert (asked.answer["calls"][0]["status"] == "running") is fits


ARGUMENTS = (
    {"query": "x"}, {}, {"query": None}, {"query": 1}, {"query": "x", "more": "y"}, ["query"],
    [{"query": "x"}], "query", "", 1, None,
)  # fmt: skip
SAID = """
select u.decision is not null, to_jsonb(u) = to_jsonb(g)
from aos_skills.gate(%(tenant)s, 'agent', %(skills)s, 'mine', %(args)s, 'bot', %(taint)s) g
left join aos_skills.usual_gate(%(tenant)s, 'agent', %(skills)s, 'mine', %(args)s) u on true"""


@pytest.mark.parametrize("limited", [None, "allowed_params", "denied_params"])
@pytest.mark.parametrize("ruled", [False, True])
def test_the_usual_gate_says_what_the_gate_says_or_nothing(
    fresh_tenant: Tenant, limited: str | None, ruled: bool
) -> None:
    """A call that it lets pass is judged by nothing else."""
    admin = fresh_tenant.database.superuser
    call(admin, "aos_agent.delete_agent", fresh_tenant.id, "bot")
    admin.execute("create schema if not exists facts; create table if not exists facts.t (n int)")
    usual = 0
    for spec in ({"builtin": "web_search"}, *SETTINGS[:-1]):
        give(fresh_tenant, **spec)
        if ruled:
            rule(fresh_tenant, decision="deny")
        if limited:
            admin.execute(
                sql.SQL(
                    "update aos_skills.role_skill set {} = %s where skill_name = 'mine'"
                ).format(sql.Identifier(limited)),
                ('{"query": ["x"]}',),
            )
        for args in ARGUMENTS:
            for skills in (None, ["mine"], ["another"], []):
                for taint in (None, "web_search, step 2"):
                    given = {"tenant": fresh_tenant.id, "args": json.dumps(args)}
                    given |= {"skills": skills, "taint": taint}
                    ((said, same),) = admin.execute(SAID.encode(), given).fetchall()
                    assert same or not said, (spec, given)
                    usual += said
    assert (usual > 0) is (not limited and not ruled)


def test_a_tenant_that_is_new_has_whole_permissions(fresh_tenant: Tenant) -> None:
    admin = fresh_tenant.database.superuser
    call(admin, "aos_auth.apply_tenant", "facts_corp", META, {})
    made = fresh_tenant.database.value(
        "select tenant_id from aos_auth.tenant where name = 'facts_corp'"
    )
    assert fresh_tenant.database.rows(DIFFERENT, made) == []
    count = "select count(*) from aos_skills.role_skill where tenant_id = %s"
    assert fresh_tenant.database.value(count, made) > 3
