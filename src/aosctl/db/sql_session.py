"""A person's own SQL: one connection that stays, statements as they were typed, answers as text.

The login's rights and row-level security are the only limits, as in psql; nothing here runs as
anybody else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, LiteralString, NamedTuple

from aosctl import request
from aosctl.db import sql_catalog
from aosctl.db.errors import from_psycopg, translated
from aosctl.errors import AosError

if TYPE_CHECKING:
    import psycopg
    from psycopg import Cursor

    from aosctl.db.connection import Connection

TIMEOUT_SECONDS = 60
_NUMBERS = frozenset({20, 21, 23, 26, 700, 701, 790, 1700})
"""Oids of the types that stand to the right."""

State = Literal["idle", "open", "failed"]


class Answer(NamedTuple):
    """What a statement gave: columns None where it returns no rows; values as text, NULL None."""

    columns: tuple[str, ...] | None
    is_number: tuple[bool, ...]
    rows: list[tuple[str | None, ...]]
    tag: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """What the server says of a statement; `position` counts its characters from 1."""

    severity: str
    sqlstate: str
    message: str
    detail: str | None
    hint: str | None
    position: int | None
    context: str | None


class SqlRefused(AosError):
    """The server refused a statement."""

    def __init__(self, complaint: Complaint) -> None:
        super().__init__(f"{complaint.message} (SQLSTATE {complaint.sqlstate})", complaint.hint)
        self.complaint = complaint


def prepare(connection: Connection, notice: Callable[[Complaint], None]) -> None:
    """Make a connection a person's: the search_path of their login, a timeout, notices told."""
    with translated():
        connection.execute("reset search_path")
        connection.execute(
            "select pg_catalog.set_config('statement_timeout', %s, false)",
            (f"{request.current().milliseconds or TIMEOUT_SECONDS * 1000}ms",),
        )
    connection.add_notice_handler(lambda found: notice(_complaint(found)))


def run(connection: Connection, statement: str) -> Answer:
    """Run one statement as it stands.

    Raises SqlRefused; DatabaseUnavailable when the connection is gone; KeyboardInterrupt after
    the server has been told to cancel.
    """
    import psycopg

    if "\0" in statement:
        raise AosError("a statement holds no character zero")
    cursor = connection.cursor()
    try:
        cursor.execute(statement.encode(connection.info.encoding, "replace"))
    except psycopg.Error as error:
        raise _refusal(connection, error) from error
    return _answer(cursor)


def state(connection: Connection) -> State:
    """Tell whether a transaction is open, or open and failed."""
    from psycopg.pq import TransactionStatus

    found = connection.info.transaction_status
    if found == TransactionStatus.INERROR:
        return "failed"
    return "open" if found == TransactionStatus.INTRANS else "idle"


def _answer(cursor: Cursor[tuple[object, ...]]) -> Answer:
    result = cursor.pgresult
    tag = cursor.statusmessage or ""
    if result is None or cursor.description is None:
        return Answer(None, (), [], tag)
    encoding = cursor.connection.info.encoding
    fields = range(result.nfields)

    def text(value: bytes | None) -> str | None:
        return None if value is None else value.decode(encoding, "replace")

    return Answer(
        tuple(text(result.fname(i)) or "" for i in fields),
        tuple(result.ftype(i) in _NUMBERS for i in fields),
        [tuple(text(result.get_value(row, i)) for i in fields) for row in range(result.ntuples)],
        tag,
    )


def _refusal(connection: Connection, error: psycopg.Error) -> AosError:
    from psycopg.pq import TransactionStatus

    if connection.info.transaction_status == TransactionStatus.ACTIVE:  # in the middle of a COPY
        connection.close()
        return AosError(
            "COPY from or to the client is not for here", "aosctl db psql has \\copy for it"
        )
    if error.sqlstate is None or connection.closed:
        return from_psycopg(error)
    return SqlRefused(_complaint(error.diag))


def _complaint(found: psycopg.errors.Diagnostic) -> Complaint:
    from aosctl.errors import redact_dsn

    position = found.statement_position
    return Complaint(
        found.severity or "ERROR",
        found.sqlstate or "",
        redact_dsn(found.message_primary or ""),
        found.message_detail,
        found.message_hint,
        int(position) if position else None,
        found.context,
    )


@contextmanager
def pinned(connection: Connection) -> Iterator[list[str]]:
    """Let statements of ours run on a person's connection; give the search_path that they have.

    Within the block the path is PostgreSQL's alone, and what the block did is rolled back; an
    open transaction goes on as it was. Raises AosError in one that has failed.
    """
    was = state(connection)
    if was == "failed":
        raise AosError("the transaction has failed", "rollback ends it")
    path = sql_catalog.path(connection)
    with translated():
        connection.execute("savepoint aosctl_look" if was == "open" else "begin")
        try:
            connection.execute("set local search_path = pg_catalog, pg_temp")
            yield path
        finally:
            if was == "open":
                connection.execute("rollback to savepoint aosctl_look")
                connection.execute("release savepoint aosctl_look")
            else:
                connection.execute("rollback")


def look(connection: Connection, query: LiteralString, given: Mapping[str, object]) -> Answer:
    """Run a query of ours; return the answer as text."""
    with translated():
        return _answer(connection.execute(query, given))
