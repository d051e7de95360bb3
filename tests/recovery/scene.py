"""What is recovered: a durable cluster, a tenant with outside skills, runs with written answers."""

from __future__ import annotations

import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID, uuid4

import psycopg

from aosctl.db.embedded import INSTALLER
from aosctl.db.install import install
from kernels import META, apply, call, user
from postgres import Cluster
from recovery.journal import Journal
from recovery.naive import TABLE

T = TypeVar("T")
PATIENCE_SECONDS = 60.0
BUSINESS = """
create schema biz;
create table biz.effect (
  id bigint generated always as identity, key text not null,
  xid text not null default pg_current_xact_id()::text);
create function biz.act(p_key text) returns integer language sql as $$
  insert into biz.effect (key) select p_key from pg_sleep(0.03) returning 1 $$;
insert into aos_skills.builtin_skill (name, runner, effect, risk, description, input_schema)
select name, 'worker', effect, 'low', name, '{"type": "object", "required": ["note"],
  "properties": {"note": {"type": "string"}}}'::jsonb
from (values ('post_note', 'unsafe'), ('put_note', 'idempotent')) v (name, effect);
create table biz.full_disk ();
create function biz.refuse_when_full() returns trigger language plpgsql security definer as $$
begin
  if exists (select from biz.full_disk) then
    raise exception 'could not extend file: No space left on device' using errcode = '53100';
  end if;
  return new;
end $$;
create trigger full_disk before insert on aos_core.event_log
  for each row execute function biz.refuse_when_full();
"""
SQL = {
    "grants": [{"schema": "biz", "tables": ["effect"], "privileges": ["insert", "select"]}],
}
SKILLS = {
    "sql_write": ("sql_execute", "never"),
    "careful": ("sql_execute", "always"),
    "post_note": ("post_note", "never"),
    "put_note": ("put_note", "never"),
}
PLANS = (
    (("sql_write",),),
    (("post_note",),),
    (("sql_write", "put_note"),),
    (("careful",),),
    (("put_note",), ("sql_write", "post_note")),
)
"""What a turn's answers ask for, before the last one."""
SETTINGS = {"shared_buffers": "64MB", "max_connections": "200"}
_numbers = itertools.count(1)


@dataclass(frozen=True)
class Run:
    """A run, its number and how many of its turns have been sent."""

    tenant: UUID
    run: UUID
    number: int
    turns: int


@dataclass
class Scene:
    """A database with a kernel on a cluster that can be crashed; reconnects for ever."""

    cluster: Cluster
    journal: Journal
    name: str = "recovery"
    _connection: psycopg.Connection[tuple[Any, ...]] | None = field(default=None)

    @property
    def admin(self) -> psycopg.Connection[tuple[Any, ...]]:
        """The superuser."""
        if self._connection is None or self._connection.closed:
            self._connection = psycopg.connect(self.cluster.dsn(dbname=self.name), autocommit=True)
        return self._connection

    def persist(self, act: Callable[[], T]) -> T:
        """Do it again while the server is away."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                return act()
            except (psycopg.OperationalError, psycopg.InterfaceError, RuntimeError) as error:
                if time.monotonic() > deadline:
                    raise
                if self._connection is not None and not isinstance(error, RuntimeError):
                    self._connection.close()
                time.sleep(0.05)

    def rows(self, query: str, *args: Any) -> list[tuple[Any, ...]]:
        return self.persist(lambda: self.admin.execute(query.encode(), args or None).fetchall())

    def value(self, query: str, *args: Any) -> Any:
        found = self.rows(query, *args)
        return found[0][0] if found else None

    def call(self, function: str, *args: Any, **named: Any) -> Any:
        return self.persist(lambda: call(self.admin, function, *args, **named))

    def make_tenant(self, name: str) -> UUID:
        """Make a tenant whose agents may use SKILLS."""
        admin = self.admin
        call(admin, "aos_auth.apply_tenant", name, META, {"displayName": name})
        tenant = UUID(
            str(self.value("select tenant_id from aos_auth.tenant where name = %s", name))
        )
        for skill, (builtin, approval) in SKILLS.items():
            spec: dict[str, Any] = {"builtin": builtin, "approval": approval, "roles": ["agent"]}
            if builtin == "sql_execute":
                spec |= {"sql": SQL}
            apply(admin, "aos_skills.apply_skill", tenant, skill, spec)
            if builtin == "sql_execute":
                role = self.value("select aos_auth.sql_role(%s, %s)", tenant, skill)
                admin.execute(f"grant usage on schema biz to {role}".encode())
                admin.execute(f"grant execute on function biz.act(text) to {role}".encode())
        return tenant

    def make_agent(self, tenant: UUID, plans: tuple[Any, ...] = PLANS) -> int:
        """Make the agent r1, r2, …, whose model knows one turn for each plan; return its number."""
        number = next(_numbers)
        name = f"r{number}"
        self.call("aos_meta.apply_model", name, META, {
            "provider": "script", "model": name, "script": script(number, plans),
            "pricing": {"inputUsdPerMtok": 1, "outputUsdPerMtok": 2},
        })  # fmt: skip
        self.persist(lambda: apply(self.admin, "aos_persona.apply_persona", tenant, name, {
            "systemPrompt": "You act.", "model": name,
        }))  # fmt: skip
        self.persist(lambda: apply(self.admin, "aos_agent.apply_agent", tenant, name, {
            "persona": name, "skills": sorted(SKILLS), "limits": {"maxSteps": 200},
        }))  # fmt: skip
        return number

    def start_run(self, tenant: UUID, plans: tuple[Any, ...] = PLANS) -> Run:
        """Start a run of an agent of its own, under the agent's name."""
        number = self.make_agent(tenant, plans)
        name = f"r{number}"
        self.call("aos_agent.start_run", tenant, name, "conversation", name)
        run = self.value("select run_id from aos_core.run where name = %s", name)
        return Run(tenant, run, number, 0)

    def begin(self, tenant: UUID, number: int) -> Run:
        """Start a run of an agent with its first message, sent until it is acknowledged."""
        text, key = f"go {number}.0", uuid4()
        begun = self.call("aos_agent.open_run", tenant, f"r{number}", user(text), key)
        self.journal.write("sent", run=begun["run_id"], text=text)
        return Run(tenant, UUID(begun["run_id"]), number, 1)

    def begun(self, tenant: UUID, number: int) -> list[Run]:
        """Return the runs of an agent, to which nobody has sent more than the first message."""
        found = self.rows("select run_id from aos_core.run where agent_name = %s", f"r{number}")
        for (run,) in found:
            self.journal.write("sent", run=str(run), text=f"go {number}.0")
        return [Run(tenant, run, number, 1) for (run,) in found]

    def send(
        self, run: Run, *, twice: bool = False, worker: str | None = None, lease: int = 60
    ) -> Run:
        """Send the next message, with a key; a lost acknowledgement sends it again.

        With `worker` its turn is leased at once.
        """
        text, key = f"go {run.number}.{run.turns}", uuid4()
        for _ in range(2 if twice else 1):
            self.call("aos_agent.open_turn", run.tenant, run.run, user(text), key, worker, lease)
        self.journal.write("sent", run=str(run.run), text=text)
        return Run(run.tenant, run.run, run.number, run.turns + 1)

    def state(self, run: Run) -> str:
        """Return the state of the run's last turn."""
        return str(self.value(
            "select t.state from aos_core.run r join aos_core.turn t"
            " on t.tenant_id = r.tenant_id and t.turn_id = r.last_turn_id where r.run_id = %s",
            run.run,
        ))  # fmt: skip

    def approve_all(self) -> int:
        """Approve whatever waits for it."""
        found = self.rows(
            "select tenant_id, approval_id from aos_core.approval where state = 'pending'"
        )
        for tenant, approval in found:
            self._decide("aos_agent.decide_approval", tenant, approval, "approved")
        return len(found)

    def resolve_all(self) -> int:
        """Say what became of the calls in doubt, as a person does who has looked at the other side.

        What is found there is a result; what is not, and whose worker is dead, may run again, or
        has failed; what a worker that stands still may yet send is waited for, then has failed.
        """
        found = self.rows(
            "select c.tenant_id, c.call_id, c.args, e.data ->> 'from', e.at < aos_core.now() - %s"
            " from aos_core.tool_call c"
            " join lateral (select e.data, e.at from aos_core.event_log e"
            "  where e.stream_id = c.run_id and e.kind = 'turn.reclaimed'"
            "  order by e.seq desc limit 1) e on true"
            " where c.state = 'outcome_unknown' and c.result_seq is null",
            timedelta(seconds=4),
        )
        sent = {line["key"] for line in self.journal.read("outside")} if found else set()
        done = 0
        for number, (tenant, call_id, args, worker, is_old) in enumerate(found):
            lives = is_alive(int(worker.rpartition(":")[2]))
            if str(call_id) in sent:
                value = {"sent": args["note"], "by": "a person"}
                self._decide("aos_agent.resolve_call", tenant, call_id, "result", value)
            elif lives and not is_old:
                continue
            else:
                action = "retry" if number % 2 and not lives else "fail"
                self._decide("aos_agent.resolve_call", tenant, call_id, action)
            done += 1
        return done

    def _decide(self, function: str, *args: Any) -> None:
        try:
            self.call(function, *args)
        except psycopg.Error as error:
            if error.sqlstate not in ("AO002", "AO008"):  # a repeated decision
                raise

    def move_clock(self, by: str = "0 seconds") -> None:
        """Set the kernel's clock off from the real one."""
        body = f"select pg_catalog.clock_timestamp() + interval '{by}'"
        statement = (
            "create or replace function aos_core.now() returns timestamptz language sql volatile"
            f" parallel safe as $now$ {body} $now$"
        )
        self.persist(lambda: self.admin.execute(statement.encode()))

    def fill_disk(self, seconds: float) -> None:
        """Let no event be written for some time, as on a full disk."""
        with psycopg.connect(self.cluster.dsn(dbname=self.name), autocommit=True) as connection:
            connection.execute("insert into biz.full_disk default values")
            time.sleep(seconds)
            connection.execute("delete from biz.full_disk")

    def crash(self) -> None:
        """End the postmaster with SIGKILL, and start it again."""
        pid = self.cluster.server.pid
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + PATIENCE_SECONDS
        while is_alive(pid) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.cluster.halted()
        self.cluster.resume()

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def script(number: int, plans: tuple[Any, ...]) -> list[dict[str, Any]]:
    """Write a model's answers; each call has a key of its own, found in tables and logs."""
    entries: list[dict[str, Any]] = []
    usage = {"in": 1000, "out": 100}
    for turn, plan in enumerate(plans):
        for answer, skills in enumerate(plan):
            calls = []
            for place, skill in enumerate(skills):
                key = f"{number}.{turn}.{answer}.{place}"
                args = {"note": key}
                if SKILLS[skill][0] == "sql_execute":
                    args = {"statement": f"select biz.act('{key}')"}
                calls.append({"name": skill, "args": args})
            entries.append({"text": "Let me see to that.", "calls": calls, "usage": usage})
        entries.append({"text": f"Done with {number}.{turn}.", "usage": usage})
    return entries


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def scene(folder: Path, major: int = 18) -> Iterator[Scene]:
    """Start a durable cluster with a kernel and the business schema."""
    with Cluster(major, durable=True, settings=SETTINGS) as cluster:
        made = Scene(cluster, Journal(folder))
        with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
            connection.execute(f"create database {made.name} owner {INSTALLER}".encode())
        with psycopg.connect(cluster.dsn(INSTALLER, made.name), autocommit=True) as connection:
            install(connection)
        made.admin.execute(BUSINESS.encode())
        made.admin.execute(TABLE.encode())
        yield made
        made.close()
