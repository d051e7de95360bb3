"""The scene of an attack: a thief's tenant, a victim's, canaries in every table, and the checker.

The thief's statements go the way of the product: `WorkerClient.execute_call`, on its connection for
SQL skills, with its cleanup and its watchdog. The checker is a superuser on another connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg

from aosctl.db.leases import Lease, pending_calls
from aosctl.db.sandbox import GRACE_SECONDS
from aosctl.db.worker import WorkerClient
from aosctl.errors import AosError
from aosctl.messages import sanitise
from attack.attacks import OWN, SECRETS, STEAL, Attack
from kernels import Connection, KernelDatabase, apply, ask, make_tenant
from tenancy import fill

SHOP = Path(__file__).with_name("shop.sql").read_text()
HARNESS = Path(__file__).with_name("harness.sql").read_text()
BEGINNINGS = ("select", "with", "values", "table")
CHANGES = (*BEGINNINGS, "insert", "update", "delete")
PROBES = (STEAL, SECRETS, "update aos_core.approval set state = 'approved' returning 1")
IMPATIENCE_SECONDS = 0.2
"""How long a statement that was cancelled may take to end where its session may be ended too."""
EVERYTHING = ["select", "insert", "update", "delete"]
GRANTS = [
    {
        "schema": "shop",
        "tables": ["orders", "order_view", "guc_orders", "queued", "rearmed"],
        "privileges": EVERYTHING,
    },
    {"schema": "shop", "tables": ["attempts", "control"], "privileges": ["select"]},
]


@dataclass(frozen=True)
class Said:
    """What came back of one call: `ok` None when nothing was recorded."""

    ok: bool | None
    text: str


class Scene:
    """A database with two tenants, one of which attacks."""

    def __init__(self, database: KernelDatabase) -> None:
        self.database = database
        self.victim = fill(database, "victim")
        self.thief = make_tenant(database, "thief")
        self.checker: Connection = database.connect("aos_superuser")
        self.cleaner: Connection = database.connect("aos_superuser")
        self.cleaner.execute("set session_replication_role = replica")
        self._furnish()
        self.needles = ["canary", "63616e617279", *self.plant()]
        self.client = WorkerClient(database.cluster.dsn("aos_worker", database.name), "thief")
        self.names = self._names()
        self._views: set[str] = set()
        self.checker.execute(
            "select harness.make_fingerprint(%s, %s)", (self.victim.id, self.names["<role>"])
        )
        self._forget(self._ask(["select 1"]).run_id)
        self.clean_session = self.session()

    def _furnish(self) -> None:
        """Make the shop, and give the thief's skills what they may have there."""
        admin = self.database.superuser
        admin.execute(
            "do $$ begin create role shopkeeper nologin in role aos_viewer;"
            " exception when duplicate_object then null; end $$"
        )
        admin.execute(SHOP.encode())
        admin.execute(HARNESS.encode())
        for skill, touches in (("sql_query", []), ("sql_execute", ["change"])):
            apply(admin, "aos_skills.apply_skill", self.thief.id, skill, {
                "builtin": skill, "approval": "never", "maxRows": 40, "maxBytes": 20000,
                "touches": touches,
                "sql": {"searchPath": ["shop"], "grants": GRANTS},
            })  # fmt: skip
        # What no attack may reach, though the thief's own tenant has a skill that does.
        apply(admin, "aos_skills.apply_skill", self.thief.id, "payroll", {
            "builtin": "sql_execute", "approval": "always", "touches": ["change"],
            "sql": {"searchPath": ["shop"], "grants": [
                {"schema": "shop", "tables": ["wages"], "privileges": EVERYTHING}]},
        })  # fmt: skip
        admin.execute("insert into shop.victim values (%s)", (self.victim.id,))
        admin.execute("insert into shop.guc_orders values (%s, 1, 'believed')", (self.victim.id,))
        admin.execute("insert into shop.wages values ('canary', 1)")
        admin.execute(
            "insert into aos_meta.model_rate (model_id, minute)"
            " select model_id, now() from aos_meta.llm_model_registry limit 1"
        )
        admin.execute("insert into shop.orders values (%s, 4, 'canary 4')", (self.victim.id,))
        self.victim.tenant.open(self.victim.tenant.start_run(), "a canary in a message")
        self.own_approval = self.thief.approval(
            self.thief.asked("send_mail", {"query": "a canary of its own"}, "clerk").call
        )[0]

    def plant(self) -> list[str]:
        """Put a canary into a row of every table; return the ids of rows without any text."""
        ids: list[str] = []
        for table in self.database.tables():
            row = self.cleaner.execute(
                "select harness.plant(%s::regclass, %s)", (table, self.victim.id)
            ).fetchone()
            assert row is not None and row[0], f"{table} holds no canary"
            ids += [name for name in row[0] if name != "canary"]
        return ids

    def _names(self) -> dict[str, str]:
        def identity(tenant: UUID, skill: str | None = None) -> str:
            return str(self.database.value("select aos_auth.sql_role(%s, %s)", tenant, skill))

        victim = self.victim
        return {
            "<victim>": str(victim.id), "<own>": str(self.thief.id),
            "<role>": identity(self.thief.id, "sql_execute"), "<other_role>": identity(victim.id),
            "<reader>": identity(self.thief.id, "sql_query"),
            "<sibling>": identity(self.thief.id, "payroll"),
            "<run>": str(victim.run), "<turn>": str(victim.turn), "<call>": str(victim.call),
            "<approval>": str(self.own_approval), "<guc>": "shop.guc_orders",
        }  # fmt: skip

    def strike(
        self, attack: Attack, mode: str, endings: Sequence[str] = ("ROLLBACK", "COMMIT")
    ) -> list[str]:
        """Carry one attack out, once an ending; return what is wrong after it, if anything.

        The calls that were rolled back are the very ones that run again and commit.
        """
        statements = self._formed([self._named(s, mode) for s in (*attack.steps, STEAL)], mode)
        neighbour = self._neighbour(attack, mode)
        lease = self._ask([*statements, neighbour], attack.skill)
        wrong: list[str] = []
        for ending in endings:
            wrong += [
                f"{ending}: {fault}" for fault in self._end(attack, mode, ending, statements, lease)
            ]
        left = self._own_rows()
        wrong += self.found("what was left behind", left)
        if str(self.victim.id) in left:
            wrong.append(f"the victim's id in what was left behind: {left[:300]}")
        self.checker.execute("select harness.restock(%s)", (self.thief.id,))
        said = self._execute(lease, lease.calls[-1])
        if not said.ok or "pen" not in said.text:
            wrong.append(f"the neighbour {neighbour!r} gives {said.text[:300]}")
        wrong += self.found("the neighbour", said.text)
        if (session := self.session()) != self.clean_session:
            wrong.append(f"the session is not clean: {session}")
        self._forget(lease.run_id)
        return wrong

    def _end(
        self, attack: Attack, mode: str, ending: str, statements: list[str], lease: Lease
    ) -> list[str]:
        """Run the calls of an attack with one ending, and compare the database before and after."""
        except_run = lease.run_id if ending == "COMMIT" else None
        before = self._fingerprint(except_run)
        wrong: list[str] = []
        self.checker.execute("update harness.ending set name = %s", (ending,))
        for statement, call in zip(statements, lease.calls, strict=False):
            wrong += self._attempt(lease, call, statement, attack, ending)
        self.checker.execute("update harness.ending set name = 'COMMIT'")
        after = self._fingerprint(except_run)
        allowed = attack.residue if mode != "direct" else attack.residue & {"large objects"}
        if ending == "ROLLBACK":
            allowed = frozenset()
        return wrong + [
            f"{name} changed"
            for name in after
            if after[name] != before[name] and name not in allowed
        ]

    def _neighbour(self, attack: Attack, mode: str) -> str:
        """Return the lawful statement in the same mode; only a direct one may end as it likes."""
        statement = self._named(attack.neighbour, mode)
        if mode != "direct" and ("--" in statement or ";" in statement):
            statement = OWN
        return self._formed([statement], mode)[0]

    def _attempt(
        self, lease: Lease, call: Any, statement: str, attack: Attack, ending: str
    ) -> list[str]:
        """Run one call of the thief, and see that effect and record belong together."""
        own = self._own_rows()
        # What need not be ended has all the time to end by itself, on a busy machine too.
        grace = IMPATIENCE_SECONDS if attack.ends else GRACE_SECONDS
        said = self._execute(lease, call, attack.seconds, grace)
        wrong = self.found(statement, said.text)
        if said.ok is not True and self._own_rows() != own:
            wrong.append(f"{statement!r} failed and left an effect: {said.text[:200]}")
        row = self.checker.execute(
            "select harness.record(%s, %s)", (lease.run_id, call.call_id)
        ).fetchone()
        recorded = row[0] if row else None
        expected = "none" if ending == "ROLLBACK" else "whole"
        if (recorded == "none") != (said.ok is None):
            wrong.append(f"{statement!r}: the worker heard {said}, its record is {recorded}")
        if recorded != expected and not (attack.ends and recorded == "none"):
            wrong.append(f"{statement!r}: its record is {recorded}: {said.text[:300]}")
        return wrong

    def _execute(
        self,
        lease: Lease,
        call: Any,
        seconds: float = 20.0,
        grace_seconds: float = IMPATIENCE_SECONDS,
    ) -> Said:
        self.client._sql.grace_seconds = grace_seconds
        try:
            moved = self.client.execute_call(lease, call, seconds)
        except AosError as error:
            return Said(None, f"{type(error).__name__}: {error.message} {error.hint or ''}")
        return Said(moved.ok, moved.result_text)

    def volley(self, statements: Sequence[str]) -> list[str]:
        """Run statements one after another; return what is wrong after them, if anything."""
        named = [self._named(statement, "direct") for statement in statements]
        lease = self._ask([sanitise(one) for one in named])
        before = self._fingerprint(lease.run_id)
        wrong: list[str] = []
        for statement, call in zip(named, lease.calls, strict=True):
            said = self._execute(lease, call, 2.0)
            wrong += self.found(statement, said.text)
        wrong += self.found(f"what was left behind by {named}", self._own_rows())
        after = self._fingerprint(lease.run_id)
        wrong += [f"{name} changed by {named}" for name in after if after[name] != before[name]]
        self.checker.execute("select harness.restock(%s)", (self.thief.id,))
        last = self.run(OWN)
        if not last.ok or "pen" not in last.text:
            wrong.append(f"after {named}: {last}")
        if (session := self.session()) != self.clean_session:
            wrong.append(f"the session is not clean after {named}: {session}")
        self._forget(lease.run_id)
        return wrong

    def of_the_victim(self) -> dict[str, str]:
        """Return the digests of everything but what holds the thief's own id."""
        return self._fingerprint(self.thief.id)

    def run(self, statement: str, skill: str = "sql_execute") -> Said:
        """Let the thief run one statement, and forget the run."""
        lease = self._ask([statement], skill)
        try:
            return self._execute(lease, lease.calls[0])
        finally:
            self._forget(lease.run_id)

    def _ask(self, statements: list[str], skill: str = "sql_execute") -> Lease:
        """Open a turn in which the model asks for these statements."""
        run = self.thief.start_run("clerk")
        open = self.thief.open(run, p_worker="thief")
        name = "query" if skill == "sql_query" else "statement"
        answer = self.thief.respond(open, ask(*((skill, {name: s}) for s in statements)))
        return Lease(
            self.thief.id, run, UUID(open["turn_id"]), 1, UUID(open["lease"]),
            answer["last_step"], answer["next"], pending_calls(answer["calls"]), 0, 60,
        )  # fmt: skip

    def _named(self, statement: str, mode: str) -> str:
        table = "shop.order_view" if mode == "view" else "shop.orders"
        statement = statement.replace("<orders>", table)
        for name, value in self.names.items():
            statement = statement.replace(name, value)
        return statement

    def _formed(self, steps: list[str], mode: str) -> list[str]:
        """Return the statements to send, so that the steps happen in this mode."""
        if mode == "function":
            probes = [self._named(probe, mode) for probe in PROBES] if len(steps) > 1 else []
            words = ", ".join(map(quoted, [*steps, *probes]))
            return [f"select shop.run_all({words})"]
        if mode == "cte":
            return [_in_expression(step) for step in steps]
        if mode == "view":
            return [self._through_view(step) for step in steps]
        return steps

    def _through_view(self, step: str) -> str:
        """Make a view of a query; else one that runs the statement when it is read."""
        name = f"v{abs(hash(step))}"
        if step in self._views:
            return f"select * from shop.{name}"
        admin = self.database.superuser
        if step.lower().startswith(BEGINNINGS) and ";" not in step:
            try:
                admin.execute(f"create view shop.{name} as {step}".encode())
                admin.execute(f"alter view shop.{name} owner to shopkeeper".encode())
                roles = f'"{self.names["<role>"]}", "{self.names["<reader>"]}"'
                admin.execute(f"grant select on shop.{name} to {roles}".encode())
                self._views.add(step)
                return f"select * from shop.{name}"
            except psycopg.Error as error:  # whatever can't be a view
                assert "canary" not in str(error)
        admin.execute(
            "insert into shop.attempt values (%s, %s) on conflict do nothing", (name, step)
        )
        return f"select said from shop.attempts where name = '{name}'"

    def _fingerprint(self, except_run: UUID | None) -> dict[str, str]:
        row = self.checker.execute(
            "select harness.fingerprint(%s)", (str(except_run) if except_run else "-",)
        ).fetchone()
        assert row is not None
        return dict(row[0])

    def _own_rows(self) -> str:
        row = self.checker.execute("select harness.own_rows(%s)", (self.thief.id,)).fetchone()
        return str(row[0]) if row else ""

    def session(self) -> dict[str, Any]:
        """Look at the connection of SQL skills, as the next call would find it."""
        self.client._sql.settle()
        row = self.client._sql.connection.execute("select harness.session()").fetchone()
        assert row is not None and isinstance(row[0], dict)
        return row[0]

    def found(self, where: str, text: str) -> list[str]:
        return [f"{n} in {where!r}: {text[:300]}" for n in self.needles if n in text]

    def _forget(self, run: UUID) -> None:
        """Remove the run and restore what is the thief's, so that all attacks begin alike."""
        self.cleaner.execute(
            "select harness.forget(%s, %s, %s)", (run, self.thief.id, self.names["<role>"])
        )

    def free_the_victim(self) -> None:
        """Take back what a thief did that was let: the leases of the victim's turns."""
        self.cleaner.execute(
            "update aos_core.run set lease_expires_at = null, lease_hash = null"
            " where tenant_id = %s",
            (self.victim.id,),
        )
        self.cleaner.execute(
            "update aos_core.turn_queue set ready_at = aos_core.now() where tenant_id = %s",
            (self.victim.id,),
        )

    def close(self) -> None:
        self.client.close()


def _in_expression(step: str) -> str:
    """Put a statement into a common table expression that is read once."""
    if step.lower().startswith(CHANGES[4:]) and "returning" not in step.lower():
        step += " returning 1 as one"
    return f"with a as materialized ({step}\n) select * from a"


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
