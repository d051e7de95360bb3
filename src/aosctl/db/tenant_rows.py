"""All rows of a tenant, table by table, without what is secret."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.db.errors import to_json, translated

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

PAGE = 1000


def tables(connection: Connection) -> list[str]:
    """List the tables of an archive, each after those it points at (aos_core.export_tables)."""
    with translated():
        rows = connection.execute("select * from aos_core.export_tables()").fetchall()
    return [str(row[0]) for row in rows]


def rows(connection: Connection, tenant: UUID, table: str) -> Iterator[Mapping[str, Any]]:
    """Read a tenant's rows of a table by key, a page at a time (aos_core.export_rows).

    Raises Denied for a login without the role admin in the tenant.
    """
    last: str | None = None
    while True:
        with translated():
            page = connection.execute(
                "select * from aos_core.export_rows(%s, %s, %s::jsonb, %s)",
                (tenant, table, last, PAGE),
            ).fetchall()
        for (row,) in page:
            assert isinstance(row, Mapping)  # noqa: S101 - the function returns objects
            yield row
        if len(page) < PAGE:
            return
        last = to_json(page[-1][0])
