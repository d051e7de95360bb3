"""Rows as values of their type, over a connection of psycopg's or a direct one."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from uuid import UUID

from aosctl.db.errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
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


def decoder(oid: int) -> Callable[[bytes], Any]:
    """Return what reads a column of this type as PostgreSQL writes it. Raises TypeError."""
    if oid not in _DECODERS:
        raise TypeError(f"no Python type is known for the type with oid {oid}")
    return _DECODERS[oid]


def _text(value: bytes) -> str:
    return value.decode()


def _json(value: bytes) -> Any:
    import json

    return json.loads(value)


# By the oids of pg_type, which never change.
_DECODERS: dict[int, Callable[[bytes], Any]] = {
    16: lambda value: value == b"t",  # bool
    19: _text,  # name
    20: int,  # bigint
    21: int,  # smallint
    23: int,  # integer
    25: _text,  # text
    114: _json,  # json
    1043: _text,  # varchar
    1184: lambda value: datetime.fromisoformat(value.decode()),  # timestamptz
    1700: lambda value: Decimal(value.decode()),  # numeric
    2278: _text,  # void
    2950: lambda value: UUID(value.decode()),  # uuid
    3802: _json,  # jsonb
}
