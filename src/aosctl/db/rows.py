"""Rows as values of their type, over a connection of psycopg's or a direct one."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias, TypeVar

from aosctl.db.errors import translated

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import LiteralString

    from aosctl.db.connection import Connection, Session
    from aosctl.db.direct import DirectConnection, DirectSession

    AnyConnection: TypeAlias = Connection | DirectConnection
    """What carries out single statements, given and answered alike."""
    AnySession: TypeAlias = Session | DirectSession

T = TypeVar("T")


def identifier(connection: AnyConnection, *names: str) -> bytes:
    """Return a name, such as a schema's and a view's, quoted for a statement."""
    from aosctl.db.libpq import pq

    escaping = pq.Escaping(connection.pgconn)
    return b".".join(bytes(escaping.escape_identifier(name.encode())) for name in names)


def rows_of(
    connection: AnyConnection,
    row_type: type[T],
    query: LiteralString | bytes,
    given: Mapping[str, object] | Sequence[object],
) -> list[T]:
    """Run a query whose columns are named as the fields of `row_type`."""
    with translated():
        cursor = connection.execute(query, given)
        names = [column.name for column in cursor.description or ()]
        return [row_type(**dict(zip(names, row, strict=True))) for row in cursor.fetchall()]
