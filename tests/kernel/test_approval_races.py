"""Approvals under attack by time: whoever comes first wins, and nothing else ever runs.

A long run, about two minutes: `APPROVAL_RACES=1000 pytest tests/kernel/test_approval_races.py`.
"""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest

from kernels import Asked, Connection, KernelDatabase, Tenant, apply, call, make_tenant

RACES = int(os.environ.get("APPROVAL_RACES", "32"))
DELETE = "delete from orders where id = %s"
CHANGE = "update orders set item = '%s%s' where id = %s"
ROWS = "select md5(string_agg(o::text, ',' order by id)) from shop.orders o"
LOST = {"AO001", "AO002", "AO003", "AO005", "AO008"}
"""What a contender is told who came too late."""


@pytest.fixture(scope="module")
def arena(kernel_database: KernelDatabase) -> Tenant:
    kernel_database.superuser.execute(
        "create schema shop; create table shop.orders (id integer primary key, item text);"
        " insert into shop.orders select n, 'x' from generate_series(1, 2002) n"
    )
    tenant = make_tenant(kernel_database)
    apply(kernel_database.superuser, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "risk": "high", "sql": {"searchPath": ["shop"], "grants": [
            {"schema": "shop", "tables": ["*"], "privileges": ["select", "update", "delete"]}]},
    })  # fmt: skip
    return tenant


def ask(tenant: Tenant, statement: str, previewed: bool) -> Asked:
    asked = tenant.asked("sql_execute", {"statement": statement}, "clerk")
    if previewed:
        tenant.preview(asked.call)
    return asked


def won(act: Callable[[], Any]) -> Any:
    """Return what a contender got; None when it was told that it is too late."""
    try:
        return act()
    except psycopg.Error as error:
        assert error.sqlstate in LOST, f"{error.sqlstate}: {error}"
        return None


class Contenders:
    """Connections for everybody who fights over an approval."""

    def __init__(self, tenant: Tenant) -> None:
        self.tenant = tenant
        people = [tenant.database.connect("test_developer", tenant.id) for _ in range(4)]
        self.approver, self.denier, self.killer, self.editor = people
        self.worker = tenant.database.connect("aos_worker")
        self.pool = ThreadPoolExecutor(6)

    def race(self, asked: Asked, shift: Callable[[], None] | None) -> dict[str, Any]:
        """Let all begin at once; return what each of them got."""
        approval = self.tenant.approval(asked.call)[0]
        acts: dict[str, Callable[[], Any]] = {
            "approve": lambda: self.decide(self.approver, approval, "approved"),
            "deny": lambda: self.decide(self.denier, approval, "denied"),
            "kill": lambda: call(self.killer, "aos_agent.cancel_run", self.tenant.id, asked.run),
            "execute": lambda: self.execute(asked),
        }
        if shift:
            acts["expire"] = shift
        barrier = threading.Barrier(len(acts))

        def run(act: Callable[[], Any]) -> Any:
            barrier.wait()
            return won(act)

        running = {name: self.pool.submit(run, act) for name, act in acts.items()}
        return {name: future.result(60) for name, future in running.items()}

    def decide(self, who: Connection, approval: Any, decision: str) -> Any:
        return call(who, "aos_agent.decide_approval", self.tenant.id, approval, decision)

    def execute(self, asked: Asked) -> Any:
        """Claim and carry out as soon as somebody has approved."""
        for _ in range(30):
            lease = call(self.worker, "aos_agent.claim_turn", self.tenant.id, "w9", 60, asked.run)
            if lease and lease["next"] == "calls":
                return call(
                    self.worker, "aos_agent.execute_sql_call", self.tenant.id, asked.call,
                    lease["lease"],
                )  # fmt: skip
            if lease or self.tenant.call_state(asked.call) != "awaiting_approval":
                return None
        return None


@pytest.mark.parametrize("previewed", [False, True], ids=["plain", "previewed"])
def test_of_approve_deny_kill_expiry_and_execution_one_wins(
    arena: Tenant, kernel_database: KernelDatabase, previewed: bool
) -> None:
    contenders = Contenders(arena)
    outcomes: dict[str, int] = {}
    for number in range(1, RACES + 1):
        order = number + (1000 if previewed else 0)
        asked = ask(arena, DELETE % order, previewed)
        expires = number % 4 == 0

        def expire(asked: Asked = asked) -> None:
            kernel_database.move_clock("25 hours")
            with suppress(psycopg.Error):
                call(arena.worker, "aos_agent.claim_turn", arena.id, "w1", 1, asked.run)

        try:
            got = contenders.race(asked, expire if expires else None)
        finally:
            if expires:
                kernel_database.move_clock()
        state = arena.approval(asked.call)[1]
        gone = not kernel_database.value("select count(*) from shop.orders where id = %s", order)
        assert not (got["approve"] and got["deny"])
        assert gone == (state == "consumed") == bool(got["execute"] and got["execute"].get("ok"))
        if gone:
            assert got["approve"] and arena.call_state(asked.call) == "succeeded"
        if got["deny"]:
            assert state == "denied" and not gone
        assert arena.faults(asked.run) == []
        steps = kernel_database.value(
            "select count(*) from aos_core.step where run_id = %s and role = 'tool'", asked.run
        )
        assert steps <= 1
        outcomes[state] = outcomes.get(state, 0) + 1
    assert len(outcomes) > 1, outcomes  # the races were races


def mutations(asked: Asked, other: Asked, chance: random.Random) -> list[tuple[str, list[Any]]]:
    """Ways in which somebody with the tables in hand may turn an approval to another call."""
    statement = CHANGE % ("x", "", chance.randrange(1, 2000)) + " or true"
    return [
        ("update aos_core.tool_call set args = jsonb_build_object('statement', %s::text)"
         " where call_id = %s", [statement, asked.call]),
        ("update aos_core.tool_call set args = jsonb_set(args, '{statement}', to_jsonb("
         "(args ->> 'statement') || %s::text)) where call_id = %s",
         [chance.choice([" ", " or true", "--", " returning id", "\n"]), asked.call]),
        ("update aos_core.tool_call set args = args || %s::jsonb where call_id = %s",
         ['{"force": true}', asked.call]),
        ("update aos_core.tool_call t set args = o.args from aos_core.tool_call o"
         " where t.call_id = %s and o.call_id = %s", [asked.call, other.call]),
        ("update aos_core.approval t set digest = o.digest from aos_core.approval o"
         " where t.call_id = %s and o.call_id = %s", [asked.call, other.call]),
        ("update aos_core.approval set expires_at = expires_at + interval '1 day'"
         " where call_id = %s", [asked.call]),
        ("update aos_core.approval set preview = coalesce(preview, '{}') || jsonb_build_object("
         "'digest', %s::text) where call_id = %s", [chance.randbytes(32).hex(), asked.call]),
        ("update aos_core.approval t set preview = o.preview from aos_core.approval o"
         " where t.call_id = %s and o.call_id = %s and o.preview is distinct from t.preview",
         [asked.call, other.call]),
    ]  # fmt: skip


@pytest.mark.parametrize("previewed", [False, True], ids=["plain", "previewed"])
def test_nothing_runs_under_a_digest_that_is_not_its_own(
    arena: Tenant, kernel_database: KernelDatabase, previewed: bool
) -> None:
    chance = random.Random(RACES)  # noqa: S311 - to be the same again
    admin = kernel_database.superuser
    kinds = len(mutations(*[ask(arena, "delete from orders where id = 0", False)] * 2, chance))
    for number in range(RACES):
        asked = ask(arena, CHANGE % ("n", number, 2002), previewed)
        other = ask(arena, CHANGE % ("m", number, 2001), True)
        for each in (asked, other):
            arena.decide(each.call, "approved")
        before = kernel_database.value(ROWS)
        query, values = mutations(asked, other, chance)[number % kinds]
        done = admin.execute(query.encode(), values)
        assert done.rowcount == 1
        said = won(lambda a=asked: arena.execute(a.call, arena.claim(run=a.run)))
        assert said is None or not said["ok"]
        assert kernel_database.value(ROWS) == before
        control = arena.execute(other.call, arena.claim(run=other.run))
        assert control["ok"] and control["result"]["row_count"] == 1
