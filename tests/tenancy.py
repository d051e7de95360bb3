"""Two tenants with rows in every table, and the people of one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from aosctl.db.rights import create_login
from kernels import (
    META,
    SEALED,
    Connection,
    KernelDatabase,
    Tenant,
    add_schedule,
    apply,
    ask,
    call,
    make_tenant,
    say,
)

# caller: its group in the database, and its role as a principal of tenant A
PEOPLE: dict[str, tuple[str | None, str | None]] = {
    "iso_nobody": (None, None),
    "iso_stranger": ("aos_developer", None),
    "iso_viewer": ("aos_viewer", "viewer"),
    "iso_developer": ("aos_developer", "developer"),
    "iso_admin": ("aos_developer", "admin"),
    "iso_auditor": ("aos_auditor", "auditor"),
    "iso_both": ("aos_developer", "developer"),
    "iso_expired": ("aos_developer", "developer"),
}


@dataclass(frozen=True)
class Filled:
    """A tenant with rows everywhere, and the ids of some of them."""

    tenant: Tenant
    run: UUID
    turn: UUID
    call: UUID
    approval: UUID
    allowance: UUID
    agent: UUID
    persona: UUID
    principal: UUID
    collection: UUID

    @property
    def id(self) -> UUID:
        return self.tenant.id


def run_of(database: KernelDatabase, lease: dict[str, Any]) -> UUID:
    """Return the run whose turn is leased."""
    return UUID(str(database.value(
        "select run_id from aos_core.turn where turn_id = %s", lease["turn_id"]
    )))  # fmt: skip


def fill(database: KernelDatabase, name: str) -> Filled:
    """Make a tenant that has a row in every table of tenants."""
    tenant = make_tenant(database, name)
    admin = database.superuser
    call(admin, "aos_auth.apply_tenant", name, META, {
        "displayName": name, "webhook": {"url": "http://localhost:1", "secretEnv": "X",
                                         "events": ["approval.pending", "run.failed"]},
    })  # fmt: skip
    apply(admin, "aos_rag.apply_collection", tenant.id, "notes", {
        "documents": [{"title": f"Of {name}", "text": "secret"}],
    })  # fmt: skip
    call(admin, "aos_rag.index_collection", tenant.id, "notes")
    admin.execute(
        "insert into aos_rag.embedding (tenant_id, chunk_id, collection_id, model, dimensions,"
        " embedding) select tenant_id, chunk_id, collection_id, 'x', 2, '{1,2}' from aos_rag.chunk"
        " where tenant_id = %s",
        (tenant.id,),
    )
    admin.execute(
        "insert into aos_rag.embedding_charge (tenant_id, collection_id, model, tokens)"
        " select tenant_id, collection_id, 'x', 5 from aos_rag.collection where tenant_id = %s",
        (tenant.id,),
    )
    apply(admin, "aos_core.apply_budget", tenant.id, "wide", {
        "scope": "tenant", "period": "day", "limits": {"maxTokens": 10**9},
    })  # fmt: skip
    apply(admin, "aos_skills.apply_policy", tenant.id, "watchful", {
        "skills": ["nothing_*"], "decision": "deny",
    })  # fmt: skip
    apply(admin, "aos_auth.apply_secret", tenant.id, "keys", {"data": {"api": {"sealed": SEALED}}})
    apply(admin, "aos_skills.apply_mcpserver", tenant.id, "tickets", {"url": "https://x.example"})
    add_schedule(tenant)
    remembered = tenant.start_run()
    lease = tenant.open(remembered, p_worker="w1")
    answer = tenant.respond(lease, ask(("memory_store", {"key": "k", "value": name})))
    tenant.execute(answer["calls"][0]["call_id"], lease)
    tenant.open(remembered, "waits in the inbox")
    asked = tenant.asked("send_mail", {"query": name}, "clerk")
    finished = tenant.start_run()
    tenant.respond(tenant.open(finished, p_worker="w1"), say(name))
    waits = tenant.open(tenant.start_run(), p_worker="w1")
    call(tenant.person, "aos_agent.watch_live", tenant.id, run_of(database, waits))
    piece = (tenant.id, waits["turn_id"], waits["lease"], uuid4(), 2, 0, name)
    call(tenant.worker, "aos_agent.write_live", *piece)
    database.superuser.execute(
        "insert into aos_core.event_checkpoint values (%s, %s, 1, 'x', now())",
        (tenant.id, uuid4()),
    )
    database.superuser.execute(
        "insert into aos_core.allowance (tenant_id, run_id, approval_id, skill, tool_version,"
        " asked_by, params, granted_by, granted_at) values (%s, %s, %s, 'send_mail', 'x', '{}',"
        " '[]', 'user:dev', now())",
        (tenant.id, asked.run, tenant.approval(asked.call)[0]),
    )
    database.superuser.execute(
        "insert into aos_core.left_out values (%s, %s, 1, 1, now())", (tenant.id, finished)
    )
    database.superuser.execute(
        "insert into aos_core.delegation (tenant_id, call_id, run_id, child_run_id, root_run_id,"
        " depth, reserved_steps, began_at, ended_at)"
        " values (%s, %s, %s, %s, %s, 1, 1, now(), now())",
        (tenant.id, asked.call, asked.run, finished, asked.run),
    )
    database.superuser.execute(
        "insert into aos_core.tombstone values (%s, %s, now(), 'x', 1, 'x')", (tenant.id, name)
    )

    def one(query: str) -> UUID:
        return UUID(str(database.value(query, tenant.id)))

    return Filled(
        tenant,
        asked.run,
        UUID(asked.lease["turn_id"]),
        asked.call,
        tenant.approval(asked.call)[0],
        one("select allowance_id from aos_core.allowance where tenant_id = %s"),
        one("select agent_id from aos_agent.agent where tenant_id = %s and name = 'bot'"),
        one("select persona_id from aos_persona.persona where tenant_id = %s"),
        one("select principal_id from aos_auth.principal where tenant_id = %s"),
        one("select collection_id from aos_rag.collection where tenant_id = %s"),
    )


def admit(database: KernelDatabase, tenant: Tenant, other: Tenant) -> None:
    """Make every caller a login, and a principal of the tenant where it is to be one."""
    for login, (group, role) in PEOPLE.items():
        if group is None:
            if not database.value("select true from pg_roles where rolname = %s", login):
                database.superuser.execute(f"create role {login} login".encode())
        elif role is None:
            database.person(login, group)
        elif not database.value("select true from pg_roles where rolname = %s", login):
            create_login(database.superuser, login, [role], None)
        for place in (tenant, other) if login == "iso_both" else (tenant,):
            if role is not None:
                apply(database.superuser, "aos_auth.apply_principal", place.id, login, {
                    "type": "user", "dbRole": login, "roles": [role],
                })  # fmt: skip
    database.superuser.execute(
        "update aos_auth.role_grant g set expires_at = aos_core.now() - interval '1 second'"
        " from aos_auth.principal p where p.principal_id = g.principal_id and p.name = %s",
        ("iso_expired",),
    )


def select(connection: Connection, tenant: UUID | None, kernel_tenant: UUID | None = None) -> None:
    """Set what a session can set; `kernel_tenant` is the kernel's own, set by an attacker."""
    connection.execute(
        "select set_config('aos.tenant_id', %s, false), set_config('aos.kernel_tenant', %s, false)",
        (str(tenant or ""), str(kernel_tenant or "")),
    )
