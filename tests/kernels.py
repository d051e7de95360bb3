"""A kernel in a database of its own, the people and workers who use it, and its clock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.types.json import Jsonb

from postgres import Cluster

Connection = psycopg.Connection[tuple[Any, ...]]
SCHEMAS = (
    "aos_auth",
    "aos_meta",
    "aos_persona",
    "aos_skills",
    "aos_core",
    "aos_agent",
    "aos_rag",
    "aos_sandbox",
)
META = {"labels": {}, "annotations": {}}
SEALED = f"aos1.{'0' * 16}.{'A' * 80}.{'A' * 40}.{'A' * 22}"
"""What has the form of a sealed value; nothing opens it."""
_numbers = itertools.count(1)


@contextmanager
def refused(
    sqlstate: str, match: str | None = None
) -> Iterator[pytest.ExceptionInfo[psycopg.Error]]:
    """Expect that the database refuses with exactly this SQLSTATE."""
    with pytest.raises(psycopg.Error, match=match) as caught:
        yield caught
    error = caught.value
    assert error.sqlstate == sqlstate, f"{error.sqlstate}: {error}"


def call(connection: Connection, function: str, *args: Any, **named: Any) -> Any:
    """Call one function of the kernel and return its result; dicts and lists go as jsonb."""
    marks = [sql.SQL("%s") for _ in args]
    marks += [sql.SQL("{} => %s").format(sql.Identifier(name)) for name in named]
    statement = sql.SQL("select {}({})").format(
        sql.Identifier(*function.split(".")), sql.SQL(", ").join(marks)
    )
    values = [Jsonb(v) if isinstance(v, dict | list) else v for v in (*args, *named.values())]
    row = connection.execute(statement, values).fetchone()
    return row[0] if row else None


def user(text: str) -> dict[str, Any]:
    """Return a user's message."""
    return {"v": 1, "role": "user", "blocks": [{"t": "text", "text": text}]}


def say(text: str) -> dict[str, Any]:
    """Return a final answer."""
    return {"v": 1, "role": "assistant", "blocks": [{"t": "text", "text": text}]}


def ask(*calls: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Return an answer that asks for tools: (skill, arguments) each."""
    blocks = [
        {"t": "call", "id": f"c{n}", "name": skill, "args_raw": "{}", "args": args}
        for n, (skill, args) in enumerate(calls, 1)
    ]
    return {"v": 1, "role": "assistant", "blocks": blocks}


@dataclass
class KernelDatabase:
    """One database with a kernel; closes its connections at the end."""

    cluster: Cluster
    name: str
    _open: list[Connection] = field(default_factory=list)
    _superuser: Connection | None = None

    def connect(self, role: str, tenant: UUID | None = None) -> Connection:
        """Connect as a role, in autocommit mode, with a tenant selected when one is named."""
        connection = psycopg.connect(self.cluster.dsn(role, self.name), autocommit=True)
        self._open.append(connection)
        if tenant is not None:
            select_tenant(connection, tenant)
        return connection

    @property
    def superuser(self) -> Connection:
        if self._superuser is None:
            self._superuser = self.connect("aos_superuser")
        return self._superuser

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        """Read as the superuser, who sees everything."""
        return self.superuser.execute(query.encode(), args or None).fetchall()

    def value(self, query: str, *args: Any) -> Any:
        found = self.rows(query, *args)
        return found[0][0] if found else None

    def move_clock(self, by: str = "0 seconds") -> None:
        """Set the kernel's clock off from the real one by an interval; nothing sleeps."""
        self.superuser.execute(
            sql.SQL(
                "create or replace function aos_core.now() returns timestamptz language sql"
                " volatile parallel safe as {}"
            ).format(sql.Literal(f"select pg_catalog.clock_timestamp() + interval '{by}'"))
        )

    def person(self, login: str, group: str) -> str:
        """Make a login role of one of the groups (aos_viewer …); it exists once in the cluster."""
        if not self.value("select true from pg_roles where rolname = %s", login):
            self.superuser.execute(
                sql.SQL("create role {} login in role {}").format(
                    sql.Identifier(login), sql.Identifier(group)
                )
            )
        return login

    def tables(self) -> list[str]:
        """Name every table of the kernel that holds rows of its own."""
        return [
            row[0]
            for row in self.rows(
                "select format('%%I.%%I', n.nspname, c.relname) from pg_class c"
                " join pg_namespace n on n.oid = c.relnamespace"
                " where n.nspname = any (%s) and c.relkind in ('r', 'p') and not c.relispartition"
                " order by 1",
                list(SCHEMAS),
            )
        ]

    def fingerprint(self) -> dict[str, str]:
        """Digest every table; equal before and after means that nothing was written."""
        return {
            table: self.value(
                f"select md5(coalesce(string_agg(t::text, '' order by t::text), '')) from {table} t"  # noqa: S608 - our own names
            )
            for table in self.tables()
        }

    def places(self, words: str) -> set[str]:
        """Name the tables in which `words` stand."""
        found = set()
        for table in self.tables():
            query = sql.SQL("select from {} t where t::text like {} limit 1").format(
                sql.Identifier(*table.split(".")), sql.Literal(f"%{words}%")
            )
            if self.superuser.execute(query).rowcount:
                found.add(table)
        return found

    def close(self) -> None:
        for connection in self._open:
            connection.close()
        self._open.clear()
        self._superuser = None

    def drop(self) -> None:
        """Remove the database: its 500 files at once, not with those of all others at the end."""
        self.close()
        statement = sql.SQL("drop database {} with (force)").format(sql.Identifier(self.name))
        with psycopg.connect(self.cluster.dsn(), autocommit=True) as connection:
            connection.execute(statement)


def select_tenant(connection: Connection, tenant: UUID | None) -> None:
    connection.execute("select set_config('aos.tenant_id', %s, false)", (str(tenant or ""),))


@dataclass(frozen=True)
class Tenant:
    """A tenant with one agent, a developer's login and a worker's connection."""

    database: KernelDatabase
    id: UUID
    name: str
    person: Connection
    worker: Connection

    def start_run(self, agent: str = "bot") -> UUID:
        return UUID(call(self.person, "aos_agent.start_run", self.id, agent)["run_id"])

    def open(self, run: UUID, text: str = "hello", **named: Any) -> dict[str, Any]:
        """Send a message; with p_worker the turn is leased at once."""
        result: dict[str, Any] = call(
            self.person, "aos_agent.open_turn", self.id, run, user(text), **named
        )
        return result

    def claim(self, worker: str = "w1", seconds: int = 60, run: UUID | None = None) -> Any:
        return call(self.worker, "aos_agent.claim_turn", self.id, worker, seconds, run)

    def respond(self, lease: dict[str, Any], message: dict[str, Any], **named: Any) -> Any:
        return call(
            self.worker,
            "aos_agent.record_response",
            self.id,
            lease["turn_id"],
            lease["lease"],
            message,
            **named,
        )

    def execute(self, call_id: Any, lease: dict[str, Any]) -> Any:
        return call(self.worker, "aos_agent.execute_sql_call", self.id, call_id, lease["lease"])

    def result(self, call_id: Any, lease: dict[str, Any], value: Any, ok: bool = True) -> Any:
        return call(
            self.worker,
            "aos_agent.record_call_result",
            self.id,
            call_id,
            lease["lease"],
            Jsonb(value),
            ok,
        )

    def asked(self, skill: str, args: dict[str, Any], agent: str = "bot") -> Asked:
        """Start a run whose model has asked for one tool."""
        run = self.start_run(agent)
        lease = self.open(run, p_worker="w1")
        answer = self.respond(lease, ask((skill, args)))
        return Asked(run, lease, answer, UUID(answer["calls"][0]["call_id"]))

    def run_row(self, run: UUID) -> dict[str, Any]:
        """Read a run and its last turn as the superuser."""
        cursor = self.database.superuser.execute(
            "select r.*, r.state as run_state, t.turn_id, t.state as turn_state, t.attempts,"
            " t.error, s.reserved_usd from aos_core.run r"
            " join aos_core.run_status s on s.tenant_id = r.tenant_id and s.run_id = r.run_id"
            " left join aos_core.turn t on t.tenant_id = r.tenant_id"
            " and t.run_id = r.run_id and t.number = r.last_turn where r.run_id = %s",
            (run,),
        )
        row = cursor.fetchone()
        assert row is not None and cursor.description is not None
        return dict(zip([column.name for column in cursor.description], row, strict=True))

    def call_state(self, call_id: UUID) -> str:
        return str(
            self.database.value("select state from aos_core.tool_call where call_id = %s", call_id)
        )

    def approval(self, call_id: UUID) -> tuple[UUID, str]:
        """Return the newest approval of a call and its state."""
        row = self.database.rows(
            "select approval_id, state from aos_core.approval where call_id = %s"
            " order by requested_at desc, approval_id desc limit 1",
            call_id,
        )[0]
        return row[0], row[1]

    def why_asked(self, call_id: UUID) -> str:
        """Return the reason of the newest approval of a call."""
        approval = self.approval(call_id)[0]
        asked = "select reason from aos_core.approval where approval_id = %s"
        return str(self.database.value(asked, approval))

    def preview(self, call_id: UUID) -> dict[str, Any]:
        """Let the worker preview a call that waits, as often as the kernel wants it tried."""
        lease = call(self.worker, "aos_agent.claim_preview", self.id, call_id)["lease"]
        while True:
            made = call(self.worker, "aos_agent.preview_call", self.id, call_id, lease)
            if "again" not in made:
                return dict(made["preview"])

    def decide(self, call_id: UUID, decision: str, reason: str | None = None) -> Any:
        return call(
            self.person,
            "aos_agent.decide_approval",
            self.id,
            self.approval(call_id)[0],
            decision,
            reason,
        )

    def transcript(self, run: UUID) -> list[tuple[str, str]]:
        """Return role and text of each step, in order; calls as their names."""
        return [
            (role, " ".join(_text(block) for block in message["blocks"]))
            for role, message in self.database.rows(
                "select role, message from aos_core.step where run_id = %s order by seq", run
            )
        ]

    def events(self, stream: UUID) -> list[str]:
        return [
            row[0]
            for row in self.database.rows(
                "select kind from aos_core.event_log where stream_id = %s order by seq", stream
            )
        ]

    def faults(self, stream: UUID) -> list[tuple[int, str]]:
        return self.database.rows(
            "select seq, fault from aos_core.verify_stream(%s, %s)", self.id, stream
        )


@dataclass(frozen=True)
class Asked:
    """A run whose model has asked for one tool, and what the kernel said to that."""

    run: UUID
    lease: dict[str, Any]
    answer: dict[str, Any]
    call: UUID


def _text(block: dict[str, Any]) -> str:
    if block["t"] == "result":
        return str(block["parts"][0]["text"])
    return str(block.get("text") or block.get("name") or block["t"])


def make_tenant(database: KernelDatabase, name: str = "") -> Tenant:
    """Make a tenant with agents: `bot` (low-risk skills) and `clerk` (also sql_execute)."""
    name = name or f"tenant_{next(_numbers)}"
    admin = database.superuser
    call(admin, "aos_auth.apply_tenant", name, META, {"displayName": name})
    tenant = UUID(
        str(database.value("select tenant_id from aos_auth.tenant where name = %s", name))
    )
    login = database.person("test_developer", "aos_developer")
    apply(admin, "aos_auth.apply_principal", tenant, "dev", {
        "type": "user", "displayName": "Dev", "dbRole": login, "roles": ["developer"],
    })  # fmt: skip
    apply(admin, "aos_persona.apply_persona", tenant, "expert", {
        "systemPrompt": "You know PostgreSQL.", "model": "offline",
    })  # fmt: skip
    for skill in ("sql_execute", "send_mail"):
        builtin = "sql_execute" if skill == "sql_execute" else "web_search"
        apply(admin, "aos_skills.apply_skill", tenant, skill, {"builtin": builtin, "risk": "high"})
    apply(admin, "aos_agent.apply_agent", tenant, "bot", {"persona": "expert"})
    apply(admin, "aos_agent.apply_agent", tenant, "clerk", {
        "persona": "expert",
        "skills": ["sql_query", "sql_execute", "send_mail", "web_search", "memory_store"],
    })  # fmt: skip
    return Tenant(
        database, tenant, name, database.connect(login, tenant), database.connect("aos_worker")
    )


def policy(tenant: Tenant, name: str = "rule", **spec: Any) -> str:
    """Apply a policy: without more, a person is asked before letters are sent."""
    given = {"skills": ["send_mail"], "decision": "ask", **spec}
    return apply(tenant.database.superuser, "aos_skills.apply_policy", tenant.id, name, given)


def let_change(tenant: Tenant, schema: str, grants: list[dict[str, Any]]) -> None:
    """Let agents change what is in a schema, as far as granted, if a person approves."""
    apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "approval": "always", "maxRows": 5,
        "sql": {"searchPath": [schema], "grants": grants},
    })  # fmt: skip


def teach_letters(tenant: Tenant, *more: str) -> None:
    """Let `clerk` send letters, which must never be sent twice; give it other skills as well."""
    admin = tenant.database.superuser
    admin.execute(
        "insert into aos_skills.builtin_skill (name, description, runner, effect, risk,"
        " input_schema) select 'send_letter', 'x', 'worker', 'unsafe', 'low', input_schema"
        " from aos_skills.builtin_skill where name = 'web_search' on conflict do nothing"
    )
    admin.execute(
        "update aos_agent.agent set skills = skills || %s where tenant_id = %s and name = 'clerk'",
        (["send_letter", *more], tenant.id),
    )


def apply(
    connection: Connection, function: str, tenant: UUID, name: str, spec: dict[str, Any]
) -> str:
    """Apply one manifest of a tenant; return what the kernel says of it."""
    return str(call(connection, function, tenant, name, META, spec))


def add_schedule(tenant: Tenant) -> None:
    """Add a schedule of `bot`, with a slot that was missed."""
    admin = tenant.database.superuser
    apply(admin, "aos_agent.apply_schedule", tenant.id, "nightly", {
        "agent": "bot", "schedule": "0 3 * * *", "input": "Tidy up.",
    })  # fmt: skip
    admin.execute(
        "insert into aos_agent.schedule_slot (tenant_id, schedule_id, slot_at, outcome, decided_at)"
        " select tenant_id, schedule_id, '2026-01-01', 'missed', now() from aos_agent.schedule"
        " where tenant_id = %s",
        (tenant.id,),
    )


MakeKernel = Callable[..., KernelDatabase]
