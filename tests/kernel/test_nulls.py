"""Every function that somebody may call, with nothing for one parameter: an answer in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from kernels import META, SEALED, Connection, KernelDatabase, ask, say, user
from tenancy import admit, fill

MEANT = frozenset(f"AO0{n:02}" for n in range(1, 12)) | {"42501"}
SPEC = {"systemPrompt": "x", "model": "offline", "persona": "expert", "builtin": "web_search",
        "type": "user", "roles": [], "displayName": "x"}  # fmt: skip
SPECS: dict[str, Any] = {
    "aos_auth.apply_secret": {"data": {"k": {"sealed": SEALED}}},
    "aos_core.apply_budget": {"scope": "tenant", "period": "day", "limits": {"maxTokens": 10}},
    "aos_skills.apply_policy": {"skills": ["x"], "decision": "deny"},
    "aos_skills.apply_mcpserver": {"url": "https://x.example"},
    "aos_agent.apply_schedule": {"agent": "bot", "schedule": "@daily", "input": "x"},
    "aos_core.assert_schedule": {"agent": "bot", "schedule": "@daily", "input": "x"},
    "aos_meta.apply_model": {"provider": "offline", "model": "x"},
}
NAMES = {
    "aos_persona.delete_persona": "expert", "aos_agent.delete_agent": "clerk",
    "aos_skills.delete_skill": "send_mail", "aos_rag.delete_collection": "notes",
    "aos_auth.delete_secret": "keys", "aos_auth.rewrap_secret": "keys",
    "aos_skills.delete_mcpserver": "tickets",
    "aos_agent.delete_schedule": "nightly", "aos_agent.suspend_schedule": "nightly",
    "aos_agent.run_schedule": "nightly",
    "aos_skills.delete_policy": "watchful", "aos_core.delete_budget": "wide",
    "aos_auth.delete_principal": "dev", "aos_auth.delete_tenant": "nulls",
    "aos_auth.erase_tenant": "nulls", "aos_agent.served_tenant": "nulls",
    "aos_core.erase_whole_tenant": "nulls",
}  # fmt: skip
MESSAGES = {
    "aos_agent.open_run": user("x"),
    "aos_agent.open_turn": user("x"),
    "aos_agent.record_response": say("x"),
    "aos_agent.steer_turn": user("x"),
}


@dataclass(frozen=True)
class Parameter:
    """One parameter of a function: its name, its type, and whether a call may leave it out."""

    name: str
    type: str
    optional: bool


@dataclass(frozen=True)
class Function:
    name: str
    callers: frozenset[str]
    parameters: tuple[Parameter, ...]


def public(database: KernelDatabase) -> list[Function]:
    """List what people, administrators and the worker may call, from the catalog."""
    rows = database.rows(
        "select format('%I.%I', n.nspname, p.proname), array(select r from unnest("
        " array['aos_worker', 'aos_viewer', 'aos_auditor', 'aos_developer', 'aos_admin']) r"
        " where has_function_privilege(r, p.oid, 'execute')), coalesce(p.proargnames, '{}'),"
        " array(select t::regtype::text from unnest(p.proargtypes) with ordinality x (t, n)"
        " order by n), p.pronargs - p.pronargdefaults"
        " from pg_proc p join pg_namespace n on n.oid = p.pronamespace"
        " where n.nspname ~ '^aos_' and p.prorettype <> 'trigger'::regtype order by 1"
    )
    return [
        Function(name, frozenset(callers), tuple(
            Parameter(one, kind, place >= required)
            for place, (one, kind) in enumerate(zip(names, types, strict=False))
        ))
        for name, callers, names, types, required in rows if callers
    ]  # fmt: skip


@dataclass(frozen=True)
class World:
    """A tenant with something of everything, and who calls: values by parameters' names."""

    database: KernelDatabase
    connections: dict[str, Connection]
    peoples: dict[str, Any]
    workers: dict[str, Any]
    skill: UUID
    row: str
    """A run, as a text of its type."""

    def caller(self, function: Function) -> str:
        names = {"aos_worker": "aos_worker", "aos_developer": "iso_admin",
                 "aos_auditor": "iso_auditor", "aos_admin": "aos_installer"}  # fmt: skip
        return next(login for group, login in names.items() if group in function.callers)

    def lawful(self, function: Function) -> dict[str, Any]:
        """Return a value for each parameter that a call must give."""
        known = self.workers if self.caller(function) == "aos_worker" else self.peoples
        own = {"p_spec": SPECS.get(function.name, SPEC), "p_name": NAMES.get(function.name, "x"),
               "p_what": "an approval is decided",
               "p_message": MESSAGES.get(function.name)}  # fmt: skip
        if function.name == "aos_agent.replay_summary":
            own["p_step"] = 1
        if function.name in ("aos_skills.change_grants", "aos_skills.own_sql_role"):
            own["p_skill"] = self.skill
        if function.name == "aos_core.reservation_usd":
            own["p_run"] = self.row
        return {
            one.name: {**known, **own}[one.name]
            for one in function.parameters if not one.optional
        }  # fmt: skip

    def said(self, function: Function, given: dict[str, Any]) -> psycopg.Error | None:
        """Call a function, take back what it did, and return the error, if there was one."""
        types = {one.name: one.type for one in function.parameters}
        arguments = sql.SQL(", ").join(
            sql.SQL("{} => %s::{}").format(sql.Identifier(name), sql.SQL(types[name]))
            for name in given
        )
        query = sql.SQL("select * from {}({})").format(
            sql.Identifier(*function.name.split(".")), arguments
        )
        values = [Jsonb(v) if v is not None and types[name] == "jsonb" else v
                  for name, v in given.items()]  # fmt: skip
        connection = self.connections[self.caller(function)]
        try:
            with connection.transaction(force_rollback=True):
                connection.execute(query, values)
        except psycopg.Error as error:
            return error
        return None


def _due_schedule(database: KernelDatabase, tenant: UUID) -> tuple[UUID, datetime]:
    """Return a schedule that has been there for an hour, and a slot of it that has come."""
    ((plan, slot),) = database.rows(
        "update aos_agent.schedule_state set after_at = now() - interval '1 hour'"
        " where tenant_id = %s returning schedule_id, date_trunc('minute', now())",
        tenant,
    )
    return UUID(str(plan)), slot


@pytest.fixture(scope="module")
def world(kernel_database: KernelDatabase) -> Iterator[World]:
    filled = fill(kernel_database, "nulls")
    tenant = filled.tenant
    admit(kernel_database, tenant, tenant)
    connections = {
        "aos_worker": kernel_database.connect("aos_worker"),
        "aos_installer": kernel_database.connect("aos_installer"),
        "iso_admin": kernel_database.connect("iso_admin", tenant.id),
        "iso_auditor": kernel_database.connect("iso_auditor", tenant.id),
    }
    asked = tenant.start_run()
    lease = tenant.open(asked, p_worker="w1", p_lease_seconds=3600)
    calls = tenant.respond(lease, ask(("memory_recall", {"key": "k"})))["calls"]
    plan, slot = _due_schedule(kernel_database, tenant.id)
    fresh = tenant.start_run()
    common = {
        "p_tenant": tenant.id, "p_meta": META, "p_worker": "w1", "p_lease_seconds": 3600,
        "p_limit": 5, "p_stream": filled.run, "p_seq": 0, "p_role": "viewer", "p_verb": "get",
        "p_kind": "run", "p_principal": "dev", "p_agent": "bot", "p_skill": "web_search",
        "p_grants": [], "p_old": [], "p_new": [], "p_table": "aos_core.run", "p_text": "x",
        "p_patterns": ["x"], "p_decision": "denied", "p_builtin": "web_search",
        "p_confirm": "nulls", "p_query": "select 1", "p_look": 1,
        "p_data": {"api": SEALED}, "p_generation": 1, "p_webhook": {}, "p_args": {"query": "x"},
        "p_tool": "web_search", "p_result": {"result": "x"}, "p_action": "retry", "p_ok": True,
        "p_error": "x", "p_detail": "x", "p_at": "2026-01-01", "p_now": "2026-01-01",
        "p_before": "2001-01-01", "p_period": "day", "p_age": "1 hour", "p_inserted": True,
        "p_found": True, "p_expires_at": "2999-01-01", "p_streams": [], "p_seqs": [],
        "p_hashes": [], "p_tenants": [tenant.id], "p_timeout": "30000", "p_schema": "shop",
        "p_settings": {}, "p_reason": "x", "p_key": "x", "p_value": {"x": 1}, "p_keys": ["x"],
        "p_importance": 0.5, "p_updated_at": "2026-01-01",
        "p_embedding": {}, "p_collection": "notes",
        "p_collections": ["notes"], "p_document": {"source": "x", "title": "x", "content": "x"},
        "p_documents": [], "p_rows": [], "p_sources": ["x"], "p_model": "x", "p_dimensions": 3,
        "p_vectors": {}, "p_tokens": {},
    }  # fmt: skip
    peoples = {
        **common, "p_run": filled.run, "p_turn": filled.turn, "p_call": filled.call,
        "p_approval": filled.approval, "p_conversation": fresh, "p_scope": "run",
        "p_match": [], "p_suspend": True, "p_tokens": 1, "p_schedule": fresh,
        "p_allowance": filled.allowance, "p_digest": None,
        "p_left": 1, "p_context": 1, "p_max_output_tokens": 1, "p_input_usd": 1, "p_output_usd": 1,
        "p_cache_write_usd": 1,
    }  # fmt: skip
    workers = {
        **common, "p_run": asked, "p_turn": UUID(lease["turn_id"]), "p_lease": lease["lease"],
        "p_call": UUID(calls[0]["call_id"]), "p_notification": fresh, "p_token": fresh,
        "p_seconds": 60, "p_answer": fresh, "p_from": "gpt-4o", "p_step": 3, "p_begins": 0,
        "p_schedule": plan, "p_slot": slot, "p_next": slot + timedelta(days=1),
        "p_keep": 1, "p_why": "estimate",
    }  # fmt: skip
    made = "select skill_id from aos_skills.skill where tenant_id = %s and name = 'sql_execute'"
    skill = UUID(str(kernel_database.value(made, tenant.id)))
    kernel_database.superuser.execute("delete from aos_core.tombstone")  # else it goes only once
    row = kernel_database.value("select r::text from aos_core.run r where run_id = %s", filled.run)
    yield World(kernel_database, connections, peoples, workers, skill, row)


# What is refused as things are, with every parameter given: its checks of these come before that.
REFUSED = {
    "aos_agent.delete_agent": "AO005", "aos_auth.delete_tenant": "AO005",
    "aos_agent.compact_run": "AO002", "aos_agent.compact_turn": "AO002",
    "aos_agent.fall_back": "AO002",
    "aos_agent.replay_summary": "AO002",
    "aos_persona.delete_persona": "AO005", "aos_skills.delete_skill": "AO005",
    "aos_agent.finish_turn": "AO002", "aos_agent.process_tool_call": "AO002",
    "aos_agent.record_tool_result": "AO002", "aos_agent.record_call_result": "AO002",
    "aos_agent.record_response": "AO002", "aos_agent.resolve_call": "AO002",
    "aos_agent.call_settings": "AO002", "aos_agent.disable_skill": "AO002",
    "aos_agent.start_call": "AO002", "aos_agent.start_turn": "AO002",
    "aos_agent.give_up_lease": "AO004", "aos_agent.look": "AO003",
    "aos_agent.preview_call": "AO003",
    "aos_agent.record_delivery": "AO003", "aos_auth.revoke_role": "AO001",
    "aos_meta.delete_model": "AO001", "aos_skills.own_sql_role": "AO005",
    "aos_rag.charge_embeddings": "AO005", "aos_rag.put_embeddings": "AO005",
}  # fmt: skip


def test_with_all_parameters_every_function_does_what_it_is_for(world: World) -> None:
    found = {one.name: world.said(one, world.lawful(one)) for one in public(world.database)}
    assert len(found) > 90
    assert {name: error.sqlstate for name, error in found.items() if error} == REFUSED


def test_nothing_for_a_parameter_is_answered_in_words(world: World) -> None:
    tried, unmeant = 0, []
    for function in public(world.database):
        given = world.lawful(function)
        for parameter in function.parameters:
            error = world.said(function, {**given, parameter.name: None})
            tried += 1
            if error is not None and error.sqlstate not in MEANT:
                unmeant.append((function.name, parameter.name, error.sqlstate, str(error)))
    assert unmeant == []
    assert tried > 200
