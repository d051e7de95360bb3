"""Each trigger dropped or disabled: what it refuses happens, or what it does is left undone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from aosctl.db.doctor import guards
from aosctl.db.doctor.rule import Setting
from kernels import KernelDatabase
from probes import Caller, Reach, outcomes

STATES = ("active", "paused", "completed", "failed", "cancelled", "queued", "running", "limited",
          "awaiting_approval", "awaiting_input", "pending", "approved", "denied", "succeeded",
          "outcome_unknown", "consumed", "expired")  # fmt: skip
# What triggers leave behind: events, versions, identities, marks, meters, what is to be told.
LEFT = """(select concat_ws(' ', (select count(*) from aos_core.event_log),
  (select count(*) from aos_persona.persona_version), (select count(*) from aos_auth.role),
  (select count(*) from aos_auth.sql_identity), (select sum(version) from aos_persona.persona),
  (select sum(config_version) from aos_core.tenant_state),
  (select count(*) from aos_core.notification), (select count(*) from aos_core.meter),
  (select count(*) from aos_core.budget_usage), (select sum(marks) from aos_skills.role_skill),
  (select count(*) from aos_skills.role_skill where taints),
  (select md5(string_agg(concat_ws(' ', role_name, skill_name, effect, max_rows, why_asked), ','
   order by tenant_id, role_name, skill_name)) from aos_skills.role_skill),
  (select min(ready_at) from aos_core.turn_queue),
  (select max(generation) from aos_skills.skill),
  (select md5(string_agg(concat_ws(' ', owner, generation), ',')) from aos_agent.schedule),
  (select count(*) from aos_agent.schedule_state)))"""
# How each kind of row is made anew; the rest comes from defaults and triggers.
MADE = {
    "aos_auth.tenant": "(name) values ('new_corp')",
    "aos_auth.principal": "(tenant_id, display_name) select tenant_id, 'New' from aos_auth.tenant",
    "aos_persona.persona": "(tenant_id, name, system_prompt, model_id) select tenant_id, 'new',"
    " 'x', model_id from aos_persona.persona limit 1",
    "aos_core.run": "(tenant_id, agent_id) select tenant_id, agent_id from aos_agent.agent limit 1",
}


# What leaves an agent with all three of the Rule of Two, by the table whose change does it: first
# what is lawful, then the change.
ALL_THREE = {
    "aos_skills.skill": (
        "update aos_agent.agent set skills = '{web_search,sql_query,sql_execute}'",
        "update aos_skills.skill set approval = 'never' where name = 'sql_execute'",
    ),
    "aos_agent.agent": (
        "update aos_agent.agent set skills = '{sql_execute}';"
        " update aos_skills.skill set approval = 'never' where name = 'sql_execute'",
        "update aos_agent.agent set skills = '{web_search,sql_query,sql_execute}'",
    ),
    "aos_skills.role_skill": (
        "update aos_agent.agent set skills = '{sql_execute}';"
        " delete from aos_skills.role_skill where skill_name = 'sql_execute';"
        " update aos_skills.skill set approval = 'never', risk = 'low' where name = 'sql_execute';"
        " update aos_agent.agent set skills = null",
        "insert into aos_skills.role_skill (tenant_id, role_name, skill_name)"
        " select tenant_id, 'agent', 'sql_execute' from aos_auth.tenant",
    ),
    "aos_rag.collection": (
        "update aos_agent.agent set skills = '{sql_execute}';"
        " update aos_skills.skill set approval = 'never' where name = 'sql_execute';"
        " update aos_agent.agent set skills = '{rag_search,sql_query,sql_execute}',"
        " collections = '{notes}'",
        "update aos_rag.collection set trust = 'untrusted'",
    ),
    "aos_rag.document": (
        "update aos_agent.agent set skills = '{sql_execute}';"
        " update aos_skills.skill set approval = 'never' where name = 'sql_execute';"
        " update aos_agent.agent set skills = '{rag_search,sql_query,sql_execute}',"
        " collections = '{notes}'",
        "update aos_rag.document set trust = 'untrusted'",
    ),
    "aos_skills.policy": (
        "update aos_agent.agent set skills = '{web_search,sql_query,sql_execute}'",
        "insert into aos_skills.policy (tenant_id, name, skills, decision)"
        " select tenant_id, 'lax', '{sql_execute}', 'allow' from aos_auth.tenant",
    ),
}
# An owner goes, and what is remembered of it.
FORGOTTEN = (
    "do $$ begin {made};"
    " insert into aos_core.session_memory (tenant_id, owner_id, principal_id, key, value)"
    " select tenant_id, {owner}, 'gone', '1' from {table} where name = 'gone';"
    " delete from {table} where name = 'gone';"
    " perform 1 / (not exists (select from aos_core.session_memory where key = 'gone'))::integer;"
    " end $$"
)
# What triggers of one table refuse, correct or answer, and the common deeds don't show.
PECULIAR = {
    "aos_rag.collection": (
        "do $$ declare v_index text; begin"
        " select 'hnsw_' || replace(collection_id::text, '-', '') into v_index"
        " from aos_rag.collection limit 1;"
        " execute format('create index %I on aos_rag.embedding (chunk_id)', v_index);"
        " delete from aos_rag.collection;"
        " perform 1 / (to_regclass('aos_rag.' || v_index) is null)::integer; end $$",
    ),
    "aos_agent.agent": (
        "do $$ begin insert into aos_agent.agent (tenant_id, name, persona_id)"
        " select tenant_id, 'gone', persona_id from aos_persona.persona limit 1;"
        " insert into aos_skills.skill (tenant_id, name, kind, implementation, input_schema,"
        " effect, risk, description) select tenant_id, 'hands_on', 'agent',"
        """ '{"agent": {"name": "gone"}}', '{}', 'transactional', 'high', 'x'"""
        " from aos_agent.agent where name = 'gone'; set constraints all immediate;"
        " delete from aos_agent.agent where name = 'gone'; end $$",
        FORGOTTEN.format(
            made="insert into aos_agent.agent (tenant_id, name, persona_id)"
            " select tenant_id, 'gone', persona_id from aos_persona.persona limit 1",
            owner="agent_id, '00000000-0000-0000-0000-000000000000'",
            table="aos_agent.agent",
        ),
    ),
    "aos_meta.llm_model_registry": (
        "do $$ begin update aos_meta.llm_model_registry set fallbacks = '{nobody}'"
        " where model_name = 'offline'; set constraints all immediate; end $$",
    ),
    "aos_auth.principal": (
        "do $$ begin set local session authorization iso_admin; insert into aos_auth.principal"
        " (tenant_id, name, db_role) select tenant_id, 'new', 'iso_nobody'"
        " from unnest(aos_auth.tenants_with_role('admin')) tenant_id;"
        " reset session authorization; end $$",
        FORGOTTEN.format(
            made="insert into aos_auth.principal (tenant_id, name, display_name)"
            " select tenant_id, 'gone', 'Gone' from aos_auth.tenant limit 1",
            owner="gen_random_uuid(), principal_id",
            table="aos_auth.principal",
        ),
    ),
    "aos_auth.role_grant": (
        "do $$ begin update aos_auth.role_grant set granted_by = 'x'; perform 1 / ("
        "select count(*) from aos_auth.role_grant where granted_by <> 'x'); end $$",
    ),
    "aos_core.approval": (
        "insert into aos_core.approval (tenant_id, call_id, run_id, skill, args, digest, reason,"
        " requested_at, expires_at) select tenant_id, gen_random_uuid(), run_id, skill, args,"
        " digest, reason, requested_at, expires_at from aos_core.approval limit 1",
    ),
    "aos_core.budget": (
        "insert into aos_core.budget (tenant_id, name, scope, period, max_tokens)"
        " select tenant_id, 'new', 'tenant', 'total', 5 from aos_auth.tenant",
        "do $$ begin update aos_core.turn_queue set ready_at = 'infinity';"
        " delete from aos_core.meter; insert into aos_core.meter (tenant_id, run_id, turn_id,"
        " waits_for) select q.tenant_id, q.run_id, q.turn_id, b.budget_id"
        " from aos_core.turn_queue q join aos_core.budget b on b.tenant_id = q.tenant_id;"
        " delete from aos_core.budget_share; delete from aos_core.budget_usage;"
        " delete from aos_core.budget; end $$",
    ),
    "aos_skills.skill": (
        "do $$ begin insert into aos_skills.skill (tenant_id, name, kind, implementation,"
        " input_schema, effect, risk, description) select tenant_id, 'hands_on', 'agent',"
        """ '{"agent": {"name": "nobody"}}', '{}', 'transactional', 'high', 'x'"""
        " from aos_auth.tenant; set constraints all immediate; end $$",
        "insert into aos_skills.skill (tenant_id, name, builtin, generation)"
        " select tenant_id, 'fresh', 'web_search', 7 from aos_auth.tenant",
        "update aos_skills.skill set touches = '{untrusted}'",
        'update aos_skills.skill set grants = \'[{"schema": "shop", "tables": ["orders"],'
        ' "privileges": ["select"]}]\'',
        "insert into aos_skills.skill (tenant_id, name, builtin, grants)"
        ' select tenant_id, \'greedy\', \'sql_query\', \'[{"schema": "nowhere", "tables": [],'
        ' "privileges": []}]\' from aos_auth.tenant',
        "do $$ begin create schema given; create table given.t (n int);"
        ' update aos_skills.skill set grants = \'[{"schema": "given", "tables": ["t"],'
        ' "privileges": ["select"]}]\'; update aos_skills.skill set grants = \'[]\'; end $$',
        # What was given is taken back before the transaction ends.
        "do $$ declare v_role name; begin create schema given; create table given.t (n int);"
        ' update aos_skills.skill set grants = \'[{"schema": "given", "tables": ["t"],'
        ' "privileges": ["select"]}]\';'
        " for v_role in select db_role from aos_auth.sql_identity loop"
        " execute format('revoke select on given.t from %I', v_role); end loop;"
        " set constraints all immediate; set constraints all deferred; end $$",
    ),
    "aos_skills.mcpserver": (
        "do $$ begin insert into aos_skills.skill (tenant_id, name, kind, implementation,"
        " input_schema, effect, risk, description, generation) select tenant_id, 'tickets.x',"
        " 'mcp', '{\"mcp\": {\"server\": \"tickets\", \"tool\": \"x\"}}', '{}', 'read', 'low',"
        " 'x', 500 from aos_auth.tenant;"
        ' update aos_skills.mcpserver set spec = \'{"command": ["x"]}\'; end $$',
    ),
    "aos_agent.schedule": (
        "insert into aos_agent.schedule (tenant_id, agent_id, name, schedule, input, owner)"
        " select tenant_id, agent_id, 'new', '@daily', 'x', 'user:nobody'"
        " from aos_agent.agent limit 1",
        "update aos_agent.schedule set owner = 'user:nobody'",
        "do $$ begin insert into aos_agent.schedule (tenant_id, agent_id, name, schedule, input)"
        " select tenant_id, agent_id, 'new', '@daily', 'x' from aos_agent.agent limit 1;"
        " delete from aos_agent.schedule; end $$",
    ),
    "aos_skills.role_skill": ("update aos_skills.role_skill set marks = 9",),
    "aos_skills.builtin_skill": (
        "update aos_skills.builtin_skill set max_rows = 7 where name = 'web_search'",
    ),
    "aos_skills.policy": (
        "insert into aos_skills.policy (tenant_id, name, skills, decision)"
        " select tenant_id, 'fresh', '{web_search}', 'deny' from aos_auth.tenant",
        "insert into aos_skills.policy (tenant_id, name, skills, decision, conditions)"
        " select tenant_id, 'odd', '{web_search}', 'deny', '{\"bogus\": 1}' from aos_auth.tenant",
    ),
}
AT_ONCE = "set constraints all immediate; set constraints all deferred;"


class Mutation(NamedTuple):
    """A trigger that is broken, and the table, or partition, that it guards."""

    name: str
    statement: str
    table: str


def mutations(database: KernelDatabase) -> Iterator[Mutation]:
    """Yield every trigger of the live catalog, partitions' copies included, each way to break it.

    A partition's copy can't be dropped alone.
    """
    rows = database.rows(
        "select quote_ident(t.tgname), t.tgrelid::regclass::text, t.tgparentid = 0 from pg_trigger"
        " t where not t.tgisinternal and t.tgrelid::regclass::text like 'aos\\_%%' order by 2, 1"
    )
    for name, table, own in rows:
        label = f"{name} on {table}"
        if own:
            yield Mutation(f"{label}: dropped", f"drop trigger {label}", table)
        for how in ("disable", "enable replica"):
            change = f"alter table {table} {how} trigger {name}"
            yield Mutation(f"{label}: {how}", change, table)


class Deeds:
    """What a superuser, whom no policy binds, does to a table, and what is left of it."""

    def __init__(self, database: KernelDatabase) -> None:
        self._connection = database.superuser
        columns = database.rows(
            "select c.oid::regclass::text, array_agg(a.attname::text order by a.attnum)"
            " from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
            " and not a.attisdropped and a.attgenerated = '' where c.relkind in ('r', 'p')"
            " and c.relnamespace::regnamespace::text like 'aos\\_%%' group by 1"
        )
        self._columns: dict[str, list[str]] = dict(columns)

    def of(self, table: str) -> list[str]:
        columns = self._columns[table]
        see = f"select {LEFT}"
        if "generation" in columns:
            see = f"select {LEFT} || ' ' || coalesce(sum(generation), 0) from {table}"
        return outcomes(self._connection, Caller("superuser"), list(self._deeds(table)), see)

    def _deeds(self, table: str) -> Iterator[str]:
        columns = self._columns[table]
        yield f"truncate {table} cascade"
        yield f"delete from {table}"
        yield f"update {table} set {columns[-1]} = {columns[-1]}"
        for column, value in (("labels", "'{\"a\": \"b\"}'"), ("system_prompt", "'x'"),
                              ("granted_by", "'x'"), ("allowed_params", "'{\"a\": [1]}'"),
                              ("kind", "'x'")):  # fmt: skip
            if column in columns:
                yield f"update {table} set {column} = {value}"
        if "state" in columns:
            yield from (f"update {table} set state = '{state}'" for state in STATES)
        if table in MADE:
            yield f"insert into {table} {MADE[table]}"
        yield from PECULIAR.get(table, ())
        if table in ALL_THREE:
            lawful, last = ALL_THREE[table]
            yield f"do $$ begin {lawful}; {AT_ONCE} {last}; {AT_ONCE} end $$"


@pytest.fixture(scope="module")
def deeds(subject: KernelDatabase) -> Deeds:
    return Deeds(subject)


def test_append_only_tables_refuse_even_a_superuser(deeds: Deeds, reach: Reach) -> None:
    with reach.connection.transaction(force_rollback=True):
        for table in ("aos_core.event_log", "aos_persona.persona_version"):
            assert deeds.of(table)[:3] == ["AO010"] * 3


def test_every_broken_trigger_is_noticed(subject: KernelDatabase, deeds: Deeds) -> None:
    """By the doctor, and by what is done to the table that the trigger guards.

    The guard of the event log's parent has a twin on every partition, and TRUNCATE fires those too.
    """
    connection = subject.superuser
    every = list(mutations(subject))
    with connection.transaction(force_rollback=True):
        healthy = {table: deeds.of(table) for table in {mutation.table for mutation in every}}
    untold, unfelt = [], []
    for mutation in every:
        with connection.transaction(force_rollback=True):
            connection.execute(mutation.statement.encode())
            doubled = mutation.name.startswith("append_only_truncate on aos_core.event_log:")
            if not doubled and deeds.of(mutation.table) == healthy[mutation.table]:
                unfelt.append(mutation.name)
            connection.execute("set local search_path = pg_catalog")
            setting = Setting(connection)
            told = [found.object for rule in guards.RULES for found in rule.check(setting)]
            if not any(mutation.table in name for name in told):
                untold.append(mutation.name)
    assert (untold, unfelt) == ([], [])
    assert len(every) > 80
