"""Fill a kernel through its own functions: what a backup, a dump and an upgrade have to carry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kernels import (
    META,
    SEALED,
    KernelDatabase,
    Tenant,
    add_schedule,
    apply,
    ask,
    call,
    make_tenant,
    say,
)

SHOP = """
create schema if not exists shop;
create table if not exists shop.orders (
  tenant_id uuid not null, id integer generated always as identity primary key, item text not null);
"""
AWKWARD = "tab\there, backslash \\ and \\N, line\nbreak, quote ', Grüße \U0001f418"


@dataclass(frozen=True)
class Filled:
    """A tenant with one run in each state that matters."""

    tenant: Tenant
    finished: UUID
    waiting: UUID
    """Its turn waits for the approval of `pending`."""
    pending: UUID
    queued: UUID
    """Its turn has been asked for and is claimed by nobody."""
    running: UUID
    """Its turn is leased by a worker; a second message waits."""


def populate(database: KernelDatabase, name: str) -> Filled:
    """Make a tenant with manifests, runs in four states, memory, approvals and events."""
    tenant = make_tenant(database, name)
    _more_manifests(tenant)
    finished = tenant.start_run()
    lease = tenant.open(finished, AWKWARD, p_worker="w1")
    answer = tenant.respond(lease, ask(("memory_store", {"key": "k", "value": AWKWARD})))
    tenant.execute(answer["calls"][0]["call_id"], lease)
    tenant.respond(lease, say("noted"))
    asked = tenant.asked("sql_execute", {"statement": "delete from shop.orders"}, "clerk")
    queued = tenant.start_run()
    tenant.open(queued)
    running = tenant.start_run()
    tenant.open(running, p_worker="w1")
    tenant.open(running, "one more thing")
    return Filled(tenant, finished, asked.run, asked.call, queued, running)


def _more_manifests(tenant: Tenant) -> None:
    """Add what make_tenant has not: a second persona version, documents, a model, table grants."""
    admin = tenant.database.superuser
    admin.execute(SHOP)
    call(admin, "aos_meta.apply_model", f"model-{tenant.name}", META, {"provider": "offline"})
    spec: dict[str, Any] = {"systemPrompt": AWKWARD, "model": f"model-{tenant.name}"}
    apply(admin, "aos_persona.apply_persona", tenant.id, "expert", spec)
    apply(admin, "aos_rag.apply_collection", tenant.id, "notes", {
        "documents": [{"title": "One", "text": AWKWARD}, {"title": "Two", "text": "join"}],
    })  # fmt: skip
    apply(admin, "aos_auth.apply_secret", tenant.id, "keys", {"data": {"api": {"sealed": SEALED}}})
    apply(admin, "aos_skills.apply_mcpserver", tenant.id, "tickets", {"url": "https://x.example"})
    add_schedule(tenant)
    apply(admin, "aos_skills.apply_skill", tenant.id, "sql_query", {
        "builtin": "sql_query",
        "sql": {"searchPath": ["shop"], "grants": [
            {"schema": "shop", "tables": ["orders"], "columns": ["item"],
             "privileges": ["select"]},
        ]},
    })  # fmt: skip
    apply(admin, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "risk": "high", "sql": {"grants": [
            {"schema": "shop", "tables": ["orders"], "privileges": ["delete"]},
        ]},
    })  # fmt: skip
