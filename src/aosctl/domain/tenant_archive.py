"""Everything of one tenant as JSON Lines (docs/audit.md): its rows, its trail, no secret."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import audit, tenant_rows
from aosctl.domain import inventory
from aosctl.domain.kinds import BY_NAME

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

FORMAT = "aos-tenant/1"
Line = dict[str, object]


def lines(connection: Connection, kernel: str, tenant: UUID, name: str) -> Iterator[Line]:
    """Yield the lines of an archive; call within `audit.snapshot`."""
    count = 0
    for line in _lines(connection, kernel, tenant, name):
        yield line
        count += 1
    yield {"t": "end", "lines": count + 1}


def _lines(connection: Connection, kernel: str, tenant: UUID, name: str) -> Iterator[Line]:
    first, *others = tenant_rows.tables(connection)  # who may not is refused before a line is out
    rows = list(tenant_rows.rows(connection, tenant, first))
    yield {
        "t": "archive",
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": kernel,
        "tenant": name,
        "tenant_id": str(tenant),
    }
    kind = BY_NAME["Tenant"]
    for resource in inventory.resources(connection, kind, None, [name]):
        manifest = kind.to_manifest(resource)
        manifest.pop("status", None)
        yield {"t": "manifest", "manifest": manifest}
    for row in rows:
        yield {"t": "row", "table": first, "row": row}
    for table in others:
        for row in tenant_rows.rows(connection, tenant, table):
            yield {"t": "row", "table": table, "row": row}
    for cut in audit.cuts(connection, tenant, audit.Scope()):
        yield {"t": "cut", **cut._asdict(), "stream_id": str(cut.stream_id)}
    for event in audit.events(connection, tenant, audit.Scope()):
        yield {"t": "event", **event._asdict(), "stream_id": str(event.stream_id)}
