"""What the tenants keep no longer, as a worker lets go of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast
from uuid import UUID

from aosctl.db.connection import Connection
from aosctl.db.errors import translated


class Looked(NamedTuple):
    """One look at a tenant's runs: what was taken, and where to go on; `after` None at the end."""

    tenant: str
    runs: int
    after: UUID | None


def due_tenants(connection: Connection) -> list[UUID]:
    """List tenants that nobody has looked through for an hour (aos_agent.next_retention)."""
    with translated():
        rows = connection.execute("select * from aos_agent.next_retention()").fetchall()
    return [UUID(str(row[0])) for row in rows]


def keep_content(connection: Connection, tenant: UUID, after: UUID | None) -> Looked | None:
    """Look at the tenant's next runs, or begin with None (aos_agent.keep_content).

    Returns None when another worker has begun, or the tenant keeps its content.
    """
    with translated():
        ((found,),) = connection.execute(
            "select aos_agent.keep_content(%s, %s)", (tenant, after)
        ).fetchall()
    if found is None:
        return None
    row = cast(Mapping[str, Any], found)
    return Looked(row["tenant"], row["runs"], UUID(row["after"]) if row["after"] else None)


def keep_events(connection: Connection) -> str | None:
    """Drop one month of events that nobody keeps, and return its name (aos_agent.keep_events)."""
    with translated():
        ((month,),) = connection.execute("select aos_agent.keep_events()").fetchall()
    return cast("str | None", month)


def tenants_with_expired_memories(connection: Connection) -> list[UUID]:
    """List tenants with entries of memory to be deleted (aos_agent.next_expired_memories)."""
    with translated():
        rows = connection.execute("select * from aos_agent.next_expired_memories()").fetchall()
    return [UUID(str(row[0])) for row in rows]


def forget_expired(connection: Connection, tenant: UUID) -> int:
    """Delete some of a tenant's expired entries; return how many (aos_agent.forget_expired)."""
    with translated():
        row = connection.execute("select aos_agent.forget_expired(%s)", (tenant,)).fetchone()
    return cast(int, row[0]) if row else 0
