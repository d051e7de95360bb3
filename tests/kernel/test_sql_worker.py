"""A worker that is a shell script: the SQL functions are the whole contract."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from uuid import UUID

import pytest
from psycopg import conninfo

from aosctl.db.pgbin import bundled
from kernels import KernelDatabase, Tenant, apply, call, user

WORKER = Path(__file__).with_name("worker.sh")


@pytest.fixture(scope="module", autouse=True)
def orders(kernel_database: KernelDatabase, tenant: Tenant) -> None:
    kernel_database.superuser.execute(
        "create schema shop; create table shop.orders (id integer primary key, item text);"
        " insert into shop.orders values (1, 'pen'), (2, 'ink')"
    )
    grants = [{"schema": "shop", "tables": ["*"], "privileges": ["select", "delete"]}]
    for skill in ("sql_query", "sql_execute"):
        apply(kernel_database.superuser, "aos_skills.apply_skill", tenant.id, skill, {
            "builtin": skill, "sql": {"searchPath": ["shop"], "grants": grants},
        })  # fmt: skip


def work(database: KernelDatabase) -> list[str]:
    """Let the worker drive every turn that is ready; return its last words on each."""
    where = conninfo.conninfo_to_dict(database.cluster.dsn("aos_worker", database.name))
    environment = {f"PG{name.upper()}": str(value) for name, value in where.items()}
    environment["PGDATABASE"] = environment.pop("PGDBNAME")
    programs = bundled().program("psql").parent  # psql of the wheel speaks to every version
    environment["PATH"] = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run(
        ["/bin/sh", str(WORKER)], env=environment, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")
    return [line.split(": ")[1] for line in done.stdout.splitlines()]


def test_it_drives_turns_with_a_tool_of_its_own_and_one_of_the_kernel(tenant: Tenant) -> None:
    runs: list[UUID] = []
    for text in ("How do I optimize a join?", "select id, item from orders order by id"):
        runs.append(tenant.start_run("clerk"))
        tenant.open(runs[-1], text)
    assert work(tenant.database) == ["done", "done"]
    searched, queried = (tenant.transcript(run) for run in runs)
    assert [role for role, _ in searched] == ["user", "assistant", "tool", "assistant"]
    assert searched[-1][1] == 'The tool said: {"results": ["Joins, explained"]}'
    assert [text for _, text in queried[1:2]] == ["sql_query"]
    assert '"rows": [[1, "pen"], [2, "ink"]]' in queried[-1][1]
    for run in runs:
        assert tenant.run_row(run)["turn_state"] == "completed"
        assert tenant.faults(run) == []


def test_it_stops_at_an_approval_and_goes_on_after_it(tenant: Tenant) -> None:
    run = tenant.start_run("clerk")
    tenant.open(run, "delete from orders where id = 2")
    assert work(tenant.database) == ["wait"]
    assert work(tenant.database) == []
    (waiting,) = tenant.person.execute(
        "select call_id from aos_core.approval_status where state = 'pending'"
    ).fetchone() or (None,)
    tenant.decide(waiting, "approved")
    assert work(tenant.database) == ["done"]
    assert tenant.database.rows("select id from shop.orders") == [(1,)]
    assert '"row_count": 1' in tenant.transcript(run)[-1][1]


def test_it_reads_a_message_into_the_turn_that_waited(tenant: Tenant) -> None:
    run = tenant.start_run("clerk")
    tenant.open(run, "delete from orders where id = 1")
    assert work(tenant.database) == ["wait"]
    (waiting,) = tenant.person.execute(
        "select call_id from aos_core.approval_status where state = 'pending'"
    ).fetchone() or (None,)
    call(tenant.person, "aos_agent.steer_turn", tenant.id, run, user("select 5 as five"))
    tenant.decide(waiting, "denied")
    assert work(tenant.database) == ["done"]
    assert [role for role, _ in tenant.transcript(run)] == [
        "user", "assistant", "tool", "user", "assistant", "tool", "assistant",
    ]  # fmt: skip
    assert '"rows": [[5]]' in tenant.transcript(run)[-1][1]
    assert tenant.run_row(run)["last_turn"] == 1 and tenant.faults(run) == []
