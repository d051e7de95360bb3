"""Turns and events of a tenant, the newest first: what `get` lists of them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

MOST = 500
"""How many are listed."""
RUNS = 200
"""Of how many runs, the newest, events are listed."""


class TurnRow(NamedTuple):
    """A turn of aos_core.turn_status and its run's names."""

    tenant: str
    run: str
    agent: str
    turn_id: UUID
    number: int
    state: str
    attempts: int
    error: str | None
    created_at: datetime
    finished_at: datetime | None


class TrailRow(NamedTuple):
    """An event of aos_core.event; `run` is null in the tenant's own chain."""

    tenant: str
    stream_id: UUID
    run: str | None
    seq: int
    at: datetime
    kind: str
    actor: str
    data: Mapping[str, Any]


def turns(
    connection: AnyConnection, tenant: UUID, run: UUID | None = None, number: int | None = None
) -> list[TurnRow]:
    """Read the newest turns of a tenant, the oldest first; or those of a run, or one of it."""
    return rows_of(
        connection,
        TurnRow,
        "select r.tenant, coalesce(r.name, r.run_id::text) as run, r.agent, t.turn_id, t.number,"
        " t.state, t.attempts, t.error, t.created_at, t.finished_at from ("
        " select tenant_id, run_id, turn_id, number, state, attempts, error, created_at,"
        "  finished_at from aos_core.turn_status where tenant_id = %(tenant)s"
        "  and (%(run)s::uuid is null or run_id = %(run)s)"
        "  and (%(number)s::integer is null or number = %(number)s)"
        "  order by tenant_id desc, turn_id desc limit %(most)s) t"
        " join aos_core.run_status r on r.tenant_id = t.tenant_id and r.run_id = t.run_id"
        " order by t.turn_id",
        {"tenant": tenant, "run": run, "number": number, "most": MOST},
    )


def newest_events(connection: AnyConnection, tenant: UUID) -> list[TrailRow]:
    """Read the newest events of a tenant's own chain and of its newest runs, the oldest first."""
    found: list[TrailRow] = rows_of(
        connection,
        TrailRow,
        "select tenant, stream_id, run, seq, at, kind, actor, data from aos_core.event"
        " where tenant_id = %(tenant)s and at > aos_core.now() - interval '30 days'"
        " and stream_id = any (array(select conversation_id from aos_agent.conversation"
        "  where tenant_id = %(tenant)s order by conversation_id desc limit %(runs)s)"
        "  || %(tenant)s::uuid) order by at desc, seq desc limit %(most)s",
        {"tenant": tenant, "runs": RUNS, "most": MOST},
    )
    return found[::-1]


def event(connection: AnyConnection, tenant: UUID, stream: UUID, seq: int) -> list[TrailRow]:
    """Read one event by its chain and number; nothing where there is none."""
    return rows_of(
        connection,
        TrailRow,
        "select tenant, stream_id, run, seq, at, kind, actor, data from aos_core.event"
        " where tenant_id = %(tenant)s and stream_id = %(stream)s and seq = %(seq)s",
        {"tenant": tenant, "stream": stream, "seq": seq},
    )
