"""The hot calls, through libpq itself: prepared statements, text parameters, one round trip each.

psycopg's `execute` costs 0.43 ms a turn more. A kernel call carries an idempotency key, so a call
whose connection broke is sent again, on a new one.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from psycopg import pq

from aosctl.db.connection import Connection
from aosctl.db.errors import RETRYABLE, from_sqlstate, is_lost
from aosctl.errors import AosError, DatabaseUnavailable

ATTEMPTS = 5
PATIENCE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Statement:
    """A bare `select f($1, …)`; `name` is its name among the connection's prepared statements."""

    name: bytes
    query: bytes


def statement(function: str, parameters: int) -> Statement:
    """Return the statement that calls `function` with so many parameters."""
    marks = ", ".join(f"${n}" for n in range(1, parameters + 1))
    return Statement(function.encode(), f"select {function}({marks})".encode())


class _Retryable(Exception):
    """The server asks for the whole call again."""

    def __init__(self, error: AosError) -> None:
        self.error = error


class Link:
    """A connection that is opened when needed and opened again when it broke.

    Not safe for two threads at once. `patience_seconds` bounds how long a call waits for a server
    that has gone away.
    """

    def __init__(
        self, connect: Callable[[], Connection], patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._connect = connect
        self._patience = patience_seconds
        self._connection: Connection | None = None
        self._prepared: set[bytes] = set()
        self.round_trips = 0

    @property
    def connection(self) -> Connection:
        """Return the open connection; connects first when there is none."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
            self._prepared = set()
        return self._connection

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def call(self, what: Statement, *parameters: str | None) -> Any:
        """Run one kernel call and return its jsonb result, decoded.

        Repeats the call after a lost connection, a deadlock or a serialisation failure.
        """
        return self._persist(lambda: self._prepared_call(what, parameters))

    def _persist(self, attempt: Callable[[], Any]) -> Any:
        deadline = time.monotonic() + self._patience
        pause, tries = FIRST_PAUSE_SECONDS, 0
        while True:
            try:
                return attempt()
            except _Retryable as repeat:
                tries += 1
                if tries >= ATTEMPTS:
                    raise repeat.error from None
            except DatabaseUnavailable as error:
                self.close()
                if not is_lost(error) or time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 2.0)

    def _prepared_call(self, what: Statement, parameters: tuple[str | None, ...]) -> Any:
        pgconn = self.connection.pgconn
        if what.name not in self._prepared:
            self.round_trips += 1
            decode(pgconn.prepare(what.name, what.query), pgconn)
            self._prepared.add(what.name)
        self.round_trips += 1
        values = encode(parameters)
        # libpq takes None for NULL here; psycopg's annotation leaves that out.
        return decode(pgconn.exec_prepared(what.name, values), pgconn)  # type: ignore[arg-type]


class SandboxLink(Link):
    """The connection of SQL skills: unnamed statements only, and a cleanup between two calls.

    The cleanup is DISCARD ALL without the cached plans; it travels in one packet with the next
    call, so that a call stays one round trip.
    """

    CLEANUP = (
        b"close all",
        b"unlisten *",
        b"reset all",
        b"deallocate all",
        b"discard temp",
        b"discard sequences",
        b"select pg_advisory_unlock_all()",
    )

    def __init__(
        self,
        connect: Callable[[], Connection],
        statement_seconds: float = 30.0,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        super().__init__(connect, patience_seconds)
        self._timeout = f"set statement_timeout = {int(statement_seconds * 1000)}".encode()

    def call(self, what: Statement, *parameters: str | None) -> Any:
        return self._persist(lambda: self._clean_call(what, parameters))

    def _clean_call(self, what: Statement, parameters: tuple[str | None, ...]) -> Any:
        pgconn = self.connection.pgconn
        before = (*self.CLEANUP, self._timeout)
        self.round_trips += 1
        pgconn.enter_pipeline_mode()
        try:
            for query in before:
                pgconn.send_query_params(query, None)
                pgconn.pipeline_sync()
            pgconn.send_query_params(what.query, encode(parameters))
            pgconn.pipeline_sync()
            answer: pq.abc.PGresult | None = None
            for _ in range(len(before) + 1):
                answer = _one_result(pgconn)
                if answer is None or answer.status == pq.ExecStatus.FATAL_ERROR:
                    break
        finally:
            if answer is not None and answer.status == pq.ExecStatus.FATAL_ERROR:
                _drain(pgconn)
            if pgconn.status == pq.ConnStatus.OK:
                pgconn.exit_pipeline_mode()
        return decode(answer, pgconn)


def _one_result(pgconn: pq.abc.PGconn) -> pq.abc.PGresult | None:
    """Read one query's result with the None and the sync that follow it."""
    result = pgconn.get_result()
    if result is None:
        return None
    while pgconn.get_result() is not None:
        pass
    if result.status != pq.ExecStatus.FATAL_ERROR:
        pgconn.get_result()  # the sync
    return result


def _drain(pgconn: pq.abc.PGconn) -> None:
    """Read what is left of a pipeline after an error, so that the connection can go on."""
    empty = 0
    while pgconn.status == pq.ConnStatus.OK and empty < 2:
        empty = empty + 1 if pgconn.get_result() is None else 0


def encode(parameters: tuple[str | None, ...]) -> list[bytes | None]:
    """Return parameters as libpq takes them, in text form."""
    return [None if value is None else value.encode() for value in parameters]


def decode(result: pq.abc.PGresult | None, pgconn: pq.abc.PGconn) -> Any:
    """Return the first value of a result, decoded from JSON; raises what the server raised."""
    if result is None:
        raise from_sqlstate(None, pgconn.error_message.decode(errors="replace"))
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        value = result.get_value(0, 0) if result.ntuples else None
        return None if value is None else json.loads(value)
    fields = {
        name: value.decode(errors="replace")
        for name in (
            pq.DiagnosticField.SQLSTATE,
            pq.DiagnosticField.MESSAGE_PRIMARY,
            pq.DiagnosticField.MESSAGE_HINT,
        )
        if (value := result.error_field(name)) is not None
    }
    sqlstate = fields.get(pq.DiagnosticField.SQLSTATE)
    message = fields.get(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message.decode(
        errors="replace"
    )
    error = from_sqlstate(sqlstate, message, fields.get(pq.DiagnosticField.MESSAGE_HINT))
    if sqlstate in RETRYABLE:
        raise _Retryable(error)
    raise error
