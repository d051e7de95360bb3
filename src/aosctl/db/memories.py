"""What agents remember, as people read and change it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated
from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

_COLUMNS = (
    "select m.memory_id, m.scope, m.agent, m.principal, m.run, m.key, m.type, m.value,"
    " m.importance, m.is_pinned, m.expires_at, m.written_by, m.taint, m.created_at, m.updated_at"
)
_OF = (
    " where m.tenant_id = %(tenant)s and (%(agent)s::text is null or m.agent = %(agent)s)"
    " and (%(principal)s::text is null or m.principal = %(principal)s)"
    " and (%(run)s::uuid is null or m.run_id = %(run)s)"
    " and (%(type)s::text is null or m.type = %(type)s)"
)


class MemoryRow(NamedTuple):
    """One entry; `value` is JSON. `taint` says where the strangers' words came from."""

    memory_id: UUID
    scope: str
    agent: str
    principal: str | None
    run: str | None
    key: str
    type: str
    value: Any
    importance: Decimal
    is_pinned: bool
    expires_at: datetime | None
    written_by: str
    taint: str | None
    created_at: datetime
    updated_at: datetime


class Of(NamedTuple):
    """Whose memory is meant; None: any."""

    agent: str | None = None
    principal: str | None = None
    run: UUID | None = None
    type: str | None = None


def memories(
    connection: AnyConnection, tenant: UUID, of: Of, key: str | None = None
) -> list[MemoryRow]:
    """List entries (aos_core.memory) by whose they are and key."""
    return rows_of(
        connection,
        MemoryRow,
        f"{_COLUMNS} from aos_core.memory m{_OF} and (%(key)s::text is null or m.key = %(key)s)"
        " order by m.agent, m.scope, m.principal, m.run, m.key".encode(),
        {"tenant": tenant, **of._asdict(), "key": key},
    )


def search(
    connection: AnyConnection, tenant: UUID, query: str, of: Of, limit: int
) -> list[MemoryRow]:
    """List the entries that match a question best (aos_core.search_memory), the best first."""
    return rows_of(
        connection,
        MemoryRow,
        f"{_COLUMNS} from aos_core.search_memory(%(tenant)s, %(query)s, %(agent)s,"
        " %(principal)s, %(run)s, 1000) s join aos_core.memory m"
        f" on m.memory_id = s.memory_id and m.tenant_id = %(tenant)s{_OF}"
        " order by s.rank desc, m.updated_at desc limit %(limit)s".encode(),
        {"tenant": tenant, "query": query, **of._asdict(), "limit": limit},
    )


def set_memory(
    connection: Connection,
    tenant: UUID,
    agent: str | None,
    key: str,
    value: Any,
    options: Mapping[str, object],
) -> Mapping[str, Any]:
    """Write an entry (aos_agent.set_memory); return what became of it: memory_id, agent, status."""
    with translated():
        row = connection.execute(
            "select aos_agent.set_memory(%s, %s, %s, %s::jsonb, %s::jsonb)",
            (tenant, agent, key, to_json(value), to_json(options)),
        ).fetchone()
    done: Any = row[0] if row else {}
    return dict(done)


def remove_memories(
    connection: Connection,
    tenant: UUID,
    agent: str | None,
    keys: Sequence[str] | None,
    of: Mapping[str, str],
) -> list[tuple[str, str]]:
    """Forget entries (aos_agent.remove_memories), all with None; return agent and key of each."""
    with translated():
        row = connection.execute(
            "select aos_agent.remove_memories(%s, %s, %s::text[], %s::jsonb)",
            (tenant, agent, list(keys) if keys is not None else None, to_json(of)),
        ).fetchone()
    gone: Any = row[0] if row else []
    return [(one["agent"], one["key"]) for one in gone]


def agents(connection: Connection, tenant: UUID) -> list[str]:
    """Name the agents of a tenant."""
    with translated():
        rows = connection.execute(
            "select name from aos_agent.agent_resource where tenant_id = %s order by name",
            (tenant,),
        ).fetchall()
    return [str(row[0]) for row in rows]
