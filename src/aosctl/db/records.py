"""The turns of a tenant, the newest: what `get` lists of them."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

MOST = 500
"""How many are listed."""


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
