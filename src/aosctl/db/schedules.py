"""Schedules: what a worker fires, slot by slot, and what people do with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from uuid import UUID

from aosctl.db.errors import translated
from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection


class Waiting(NamedTuple):
    """A schedule, and in how many seconds a worker is to look at it; 0: now."""

    tenant: UUID
    schedule: UUID
    seconds: float


class Plan(NamedTuple):
    """What is needed to work out a schedule's slots: those after `after`, as of `now`."""

    name: str
    expression: str
    zone: str
    generation: int
    after: datetime
    now: datetime


class _Word(NamedTuple):
    said: str


class Fired(NamedTuple):
    """What became of a slot: the kernel's word for it, the run, and why there is none."""

    status: str
    schedule: str
    run: str | None
    reason: str | None


def next_due(connection: Connection, limit: int, tenant: UUID | None = None) -> list[Waiting]:
    """List the schedules whose next slots come first (aos_agent.next_due)."""
    query = "select tenant_id, schedule_id, wait_seconds from aos_agent.next_due(%s, %s)"
    with translated():
        rows = connection.execute(query, (limit, tenant)).fetchall()
    return [Waiting(UUID(str(row[0])), UUID(str(row[1])), float(str(row[2]))) for row in rows]


def due_schedule(connection: Connection, tenant: UUID, schedule: UUID) -> Plan | None:
    """Read what is due; None when another worker was faster (aos_agent.due_schedule)."""
    with translated():
        ((found,),) = connection.execute(
            "select aos_agent.due_schedule(%s, %s)", (tenant, schedule)
        ).fetchall()
    if found is None:
        return None
    row = cast(Mapping[str, Any], found)
    return Plan(
        row["name"],
        row["schedule"],
        row["time_zone"],
        row["generation"],
        datetime.fromisoformat(row["after"]),
        datetime.fromisoformat(row["now"]),
    )


def plan(
    connection: Connection,
    tenant: UUID,
    schedule: UUID,
    generation: int,
    following: datetime | None,
    fault: str | None = None,
) -> str:
    """Write down the next slot, or why there can be none (aos_agent.plan_schedule)."""
    with translated():
        ((found,),) = connection.execute(
            "select aos_agent.plan_schedule(%s, %s, %s, %s, %s)",
            (tenant, schedule, generation, following, fault),
        ).fetchall()
    return str(cast(Mapping[str, Any], found)["status"])


def fire(
    connection: Connection,
    tenant: UUID,
    schedule: UUID,
    generation: int,
    slot: datetime,
    following: datetime | None,
    missed: Sequence[datetime] = (),
) -> Fired:
    """Begin the run of a slot, once for all workers (aos_agent.fire_schedule)."""
    with translated():
        ((found,),) = connection.execute(
            "select aos_agent.fire_schedule(%s, %s, %s, %s, %s, %s::timestamptz[])",
            (tenant, schedule, slot, following, generation, list(missed)),
        ).fetchall()
    row = cast(Mapping[str, Any], found)
    return Fired(row["status"], row.get("schedule", ""), row.get("run"), row.get("reason"))


def suspend(connection: AnyConnection, tenant: UUID, name: str, *, yes: bool) -> str:
    """Suspend a schedule, or let it go on; return what happened (aos_agent.suspend_schedule)."""
    query = "select aos_agent.suspend_schedule(%s, %s, %s) as said"
    return rows_of(connection, _Word, query, (tenant, name, yes))[0].said


def run_now(connection: AnyConnection, tenant: UUID, name: str) -> str:
    """Begin a run of a schedule at once; return its name (aos_agent.run_schedule)."""
    query = "select aos_agent.run_schedule(%s, %s) ->> 'run' as said"
    return rows_of(connection, _Word, query, (tenant, name))[0].said
