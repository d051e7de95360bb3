"""psycopg's cursors, for -v=6: each statement is told on stderr."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg

from aosctl.db import tracing

if TYPE_CHECKING:
    from typing import Self

    from aosctl.db.connection import Connection


def trace(connection: Connection) -> None:
    """Have what this connection runs told."""
    connection.cursor_factory = _Cursor
    connection.server_cursor_factory = _ServerCursor


def _text(cursor: psycopg.Cursor[Any], query: Any) -> str | bytes:
    return query if isinstance(query, str | bytes) else str(query.as_string(cursor))


class _Cursor(psycopg.Cursor[Any]):
    def execute(self, query: Any, params: Any = None, **how: Any) -> Self:
        with tracing.timed(_text(self, query), params):
            return super().execute(query, params, **how)

    def executemany(self, query: Any, params_seq: Any, **how: Any) -> None:
        with tracing.timed(_text(self, query), None):
            super().executemany(query, params_seq, **how)

    @contextmanager
    def copy(self, statement: Any, params: Any = None, **how: Any) -> Iterator[psycopg.Copy]:
        with (
            tracing.timed(_text(self, statement), params),
            super().copy(statement, params, **how) as c,
        ):
            yield c


class _ServerCursor(psycopg.ServerCursor[Any]):
    def execute(self, query: Any, params: Any = None, **how: Any) -> Self:
        with tracing.timed(_text(self, query), params):
            return super().execute(query, params, **how)
