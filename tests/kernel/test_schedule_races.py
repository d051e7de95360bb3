"""Many workers that see the same slot: one run. Real processes, each with its own connection."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any
from uuid import UUID

import pytest

from kernels import KernelDatabase, Tenant, apply, call

PROCESSES, SLOTS = 8, 12
# Fires slot after slot as fast as it can, in an order of its own.
RACER = """
import random, sys, psycopg
from datetime import datetime, timedelta
dsn, tenant, schedule, first, slots = sys.argv[1:]
begin = datetime.fromisoformat(first)
print("ready", flush=True)
sys.stdin.readline()
with psycopg.connect(dsn, autocommit=True) as connection:
    for n in range(int(slots)):
        slot = begin + timedelta(minutes=n)
        query = "select aos_agent.fire_schedule(%s, %s, %s, %s) ->> 'status'"
        given = (tenant, schedule, slot, slot + timedelta(minutes=1))
        print(n, connection.execute(query, given).fetchone()[0], flush=True)
"""


@pytest.fixture
def schedule(tenant: Tenant) -> UUID:
    name = f"race_{datetime.now().microsecond}"
    apply(tenant.person, "aos_agent.apply_schedule", tenant.id, name, {
        "agent": "bot", "schedule": "* * * * *", "input": "go",
    })  # fmt: skip
    row = tenant.database.rows(
        "update aos_agent.schedule_state t set after_at = now() - interval '1 hour'"
        " from aos_agent.schedule s where s.schedule_id = t.schedule_id and s.tenant_id = %s"
        " and s.name = %s returning t.schedule_id",
        tenant.id,
        name,
    )
    return UUID(str(row[0][0]))


def first_slot(database: KernelDatabase) -> datetime:
    found: datetime = database.value("select date_trunc('minute', now()) - interval '50 minutes'")
    return found


def runs(database: KernelDatabase, schedule: UUID) -> list[tuple[Any, ...]]:
    return database.rows(
        "select x.slot_at, r.name from aos_agent.schedule_slot x join aos_core.run r using (run_id)"
        " where x.schedule_id = %s order by 1",
        schedule,
    )


def test_many_processes_that_see_the_same_slots_make_one_run_of_each(
    tenant: Tenant, schedule: UUID
) -> None:
    database = tenant.database
    begin = first_slot(database)
    command = [
        sys.executable, "-c", RACER, database.cluster.dsn("aos_worker", database.name),
        str(tenant.id), str(schedule), begin.isoformat(), str(SLOTS),
    ]  # fmt: skip
    racers = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    for racer in racers:
        assert racer.stdout is not None and racer.stdout.readline() == "ready\n"
    said: list[str] = []
    for racer in racers:
        assert racer.stdin is not None
        racer.stdin.write("\n")
        racer.stdin.flush()
    for racer in racers:
        out, _ = racer.communicate(timeout=60)
        assert racer.returncode == 0
        said += out.splitlines()
    assert len(said) == PROCESSES * SLOTS
    fired = [line for line in said if line.endswith(" fired")]
    assert {line.split()[1] for line in said} <= {"fired", "repeated"}
    # One that was behind may find that a later slot has counted: then nobody begins it, ever.
    assert len(fired) == len({line.split()[0] for line in fired}) == len(runs(database, schedule))
    assert f"{SLOTS - 1} fired" in fired
    ((events,),) = database.rows(
        "select count(*) from aos_core.event_log e join aos_agent.schedule s"
        " on s.tenant_id = e.tenant_id and s.name = e.data ->> 'name'"
        " where e.kind = 'schedule.fired' and s.schedule_id = %s",
        schedule,
    )
    assert events == len(fired)


def test_one_slot_at_the_same_moment_on_many_connections(tenant: Tenant, schedule: UUID) -> None:
    database = tenant.database
    slot = first_slot(database)
    connections = [database.connect("aos_worker") for _ in range(PROCESSES)]
    for n in range(SLOTS):
        together = Barrier(PROCESSES)

        def fire(connection: Any, at: datetime, together: Barrier) -> str:
            together.wait()
            given = (tenant.id, schedule, at, at + timedelta(minutes=1))
            return str(call(connection, "aos_agent.fire_schedule", *given)["status"])

        at = slot + timedelta(minutes=n)
        with ThreadPoolExecutor(PROCESSES) as pool:
            said = list(pool.map(lambda one: fire(one, at, together), connections))  # noqa: B023 - ends before the next
        assert sorted(said) == ["fired"] + ["repeated"] * (PROCESSES - 1)
    assert len(runs(database, schedule)) == SLOTS
    for connection in connections:
        connection.close()


def test_firing_applying_and_killing_at_once_never_wait_for_each_other_in_a_circle(
    tenant: Tenant, schedule: UUID
) -> None:
    """Each goes its own way through the tenant's state, the schedule's and the runs."""
    database = tenant.database
    begin = first_slot(database)
    name = database.value("select name from aos_agent.schedule where schedule_id = %s", schedule)
    worker, person, killer = (
        database.connect("aos_worker"),
        database.connect("aos_superuser"),
        database.connect("aos_superuser"),
    )

    def fire() -> None:
        for n in range(40):
            slot = begin + timedelta(minutes=n)
            call(worker, "aos_agent.fire_schedule", tenant.id, schedule, slot, None)

    def change() -> None:
        for n in range(40):
            apply(person, "aos_agent.apply_schedule", tenant.id, name, {
                "agent": "bot", "schedule": "* * * * *", "input": f"go {n}",
                "concurrencyPolicy": ("Allow", "Replace")[n % 2],
            })  # fmt: skip
            call(person, "aos_agent.run_schedule", tenant.id, name)

    def kill() -> None:
        for _ in range(40):
            for (run,) in killer.execute(
                "select run_id from aos_core.run where tenant_id = %s and state = 'active' limit 1",
                (tenant.id,),
            ).fetchall():
                call(killer, "aos_agent.cancel_run", tenant.id, run)

    with ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for work in (fire, change, kill)]:
            done.result()
    assert tenant.faults(tenant.id) == []
