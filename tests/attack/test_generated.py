"""Statements and kernel calls that nobody thought of: made up of parts of attacks, at random.

AOS_ATTACKS=100000 sets how many statements (and how many calls) are tried; a few hundred otherwise.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from attack.attacks import ATTACKS
from attack.scene import Scene
from kernels import Connection

EXAMPLES = int(os.environ.get("AOS_ATTACKS", "300"))
BATCH = 12
FOREVER = re.compile(r"sleep|advisory|recursive|1000000|00000000|stubborn|repeat|lo_", re.I)
# Statements of attacks
# (a message of the server may quote the statement: the word itself must not stand in it)
PARTS = [s.replace("canary", "anary") for a in ATTACKS for s in a.steps if not FOREVER.search(s)]
TABLES = [
    "shop.orders", "shop.order_view", "shop.wages", "shop.loot", "aos_core.step", "aos_core.run",
    "aos_core.approval", "aos_auth.sql_identity", "aos_core.transcript", "pg_settings",
    "pg_cursors", "aos_agent.next_ready()", "generate_series(1, 3)",
    "(values (1, 'x')) v (id, item)",
]  # fmt: skip
COLUMNS = ["*", "item", "count(*)", "tenant_id", "current_user", "row_to_json(t)", "t::text",
           "set_config('aos.kernel_tenant', '<victim>', false)", "shop.plunder()",
           "set_config('search_path', 'shop, pg_catalog', false)"]  # fmt: skip
TAILS = ["", ";", " --", " /* x", " */", "'", '"', "$$", ") x", "; reset role", " returning *",
         " for update", " limit 1", "\n; select 1", " union all select null", "\\"]  # fmt: skip
CONDITIONS = [
    "true",
    "tenant_id = '<victim>'",
    "item ~ 'anary'",
    "id = 4",
    "t is not null",
    "1 / id > 0",
]
LONG = settings(
    max_examples=max(1, EXAMPLES // BATCH),
    deadline=None,
    database=None,
    derandomize="AOS_ATTACKS" not in os.environ,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


@st.composite
def statements(draw: st.DrawFn) -> str:
    """Return a statement of one of five makes."""
    table, where = draw(st.sampled_from(TABLES)), draw(st.sampled_from(CONDITIONS))
    column = draw(st.sampled_from(COLUMNS))
    one = draw(st.sampled_from(PARTS))
    made = draw(
        st.sampled_from([
            f"select {column} from {table} t where {where}",
            f"update {table} t set item = 'x' where {where}",
            f"delete from {table} t where {where}",
            f"with x as materialized ({one}) select {column} from x, {table} t",
            f"insert into {table} select * from {draw(st.sampled_from(TABLES))} t",
            f"select shop.run_all({quote(one)}, {quote(draw(st.sampled_from(PARTS)))})",
            one,
        ])
    )  # fmt: skip
    made += draw(st.sampled_from(TAILS))
    cut = draw(st.integers(0, 20))
    if cut == 0:
        at = draw(st.integers(0, len(made)))
        made = made[:at] + draw(st.text(max_size=5)) + made[at:]
    return made


def quote(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def test_a_statement_that_nobody_thought_of_gets_nothing(scene: Scene) -> None:
    tried = 0

    @LONG
    @given(st.lists(statements(), min_size=BATCH, max_size=BATCH))
    def attempt(made: list[str]) -> None:
        nonlocal tried
        tried += len(made)
        found = [one for one in scene.volley(made) if not one.startswith("own role changed")]
        assert found == []  # its own role is what is left without hardening, see OWN_ROLE

    attempt()
    assert tried >= min(EXAMPLES, BATCH)


def functions(scene: Scene) -> list[tuple[str, list[str]]]:
    """Return every function of the kernel, with its parameters' types."""
    return [
        (name, types)
        for name, types in scene.database.rows(
            "select format('%I.%I', n.nspname, p.proname), array(select t::regtype::text from"
            " unnest(p.proargtypes) with ordinality x (t, n) order by n) from pg_proc p"
            " join pg_namespace n on n.oid = p.pronamespace where n.nspname ~ '^aos_'"
            " and p.prorettype <> 'trigger'::regtype and p.prokind = 'f'"
            " and p.proname not in ('drop_events_before', 'watch_run', 'watch_live',"
            " 'watch_tenant') order by 1"
        )
    ]


def arguments(scene: Scene, types: list[str], data: st.DataObject) -> list[Any]:
    """Draw arguments: ids of the victim's and the thief's things, and things of no one."""
    victim = scene.victim
    ids = [victim.id, scene.thief.id, victim.run, victim.turn, victim.call, victim.approval,
           victim.agent, scene.own_approval, UUID(int=0), uuid4()]  # fmt: skip
    texts = ["approved", "victim", "thief", "bot", "x", "completed", "retry", "aos_kernel"]
    draws: dict[str, st.SearchStrategy[Any]] = {
        "uuid": st.sampled_from([str(one) for one in ids]),
        "jsonb": st.sampled_from(['{}', 'null', '{"v": 1, "role": "user", "blocks": []}', "[1]"]),
        "integer": st.sampled_from([0, 1, 60, -1, None]),
        "bigint": st.sampled_from([0, 1, -1, None]), "boolean": st.booleans(),
        "numeric": st.sampled_from([0, 1, None]),
        "bytea": st.sampled_from([b"", b"\0" * 32]), "text[]": st.sampled_from([["x"], []]),
        "timestamp with time zone": st.sampled_from(["2000-01-01", "infinity"]),
    }  # fmt: skip
    return [data.draw(draws.get(one, st.sampled_from(texts))) for one in types]


TAKING = {f"aos_agent.{name}" for name in (
    "claim_preview", "claim_turn", "next_ready", "take_notification")}  # fmt: skip
"""How a worker, which serves every tenant, gets work; with what it took it does the rest."""


@pytest.fixture(scope="module")
def strangers(scene: Scene) -> Iterator[dict[str, Connection]]:
    """A worker without any lease, a login in no group, a developer of the thief's tenant."""
    admin = scene.database.superuser
    admin.execute(
        "do $$ begin create role attack_nobody login; exception when duplicate_object then null;"
        " end $$"
    )
    yield {
        "worker": scene.database.connect("aos_worker"),
        "nobody": scene.database.connect("attack_nobody"),
        "developer": scene.database.connect("test_developer", scene.thief.id),
    }


def test_a_call_that_nobody_thought_of_reaches_no_other_tenant(
    scene: Scene, strangers: dict[str, Connection]
) -> None:
    """The developer is nobody in the victim's tenant; a worker may do nothing before it claims."""
    known = functions(scene)
    assert len(known) > 100
    scene.database.superuser.execute(
        "delete from aos_auth.role_grant where tenant_id = %s", (scene.victim.id,)
    )
    scene.database.superuser.execute(
        "delete from aos_auth.principal where tenant_id = %s and db_role = 'test_developer'",
        (scene.victim.id,),
    )
    before = scene.of_the_victim()
    outcomes: dict[str, int] = {}

    @settings(LONG, max_examples=EXAMPLES)
    @given(st.data())
    def attempt(data: st.DataObject) -> None:
        who = data.draw(st.sampled_from(sorted(strangers)))
        name, types = data.draw(st.sampled_from(known))
        if who == "worker" and name in TAKING:
            return
        if name == "aos_core.ensure_partitions":  # makes the coming months', for whoever asks
            return
        marks = ", ".join(f"%s::{one}" for one in types)
        given = arguments(scene, types, data)
        try:
            with strangers[who].transaction(force_rollback=data.draw(st.booleans())):
                strangers[who].execute(b"set local statement_timeout = '5s'")
                found = (
                    strangers[who]
                    .execute(
                        f"select x::text from {name}({marks}) x".encode(),
                        given,
                    )
                    .fetchall()
                )
        except psycopg.Error as error:
            outcomes[error.sqlstate or ""] = outcomes.get(error.sqlstate or "", 0) + 1
            said = str(error)
            for one in given:  # what the thief said is no news to it
                said = said.replace(str(one), "") if types and "-" in str(one) else said
            assert not scene.found("an error", said)
        else:
            outcomes["ok"] = outcomes.get("ok", 0) + 1
            assert not scene.found(f"{who} {name}", str(found))
        assert scene.of_the_victim() == before, (who, name)

    attempt()
    assert outcomes.get("ok") and outcomes.get("42501"), outcomes
