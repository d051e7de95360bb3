"""The hot calls, through libpq itself: prepared statements, one round trip each.

psycopg's `execute` costs 0.43 ms a turn more. A kernel call carries an idempotency key, so a call
whose connection broke is sent again, on a new one.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

import psycopg
from psycopg import pq

from aosctl import request
from aosctl.db.connection import Connection
from aosctl.db.errors import RETRYABLE, from_psycopg, from_sqlstate, translated
from aosctl.db.json_text import load
from aosctl.db.libpq import complaint
from aosctl.errors import AosError, DatabaseUnavailable
from aosctl.messages import sanitise

ATTEMPTS = 5
PATIENCE_SECONDS = 30.0
FIRST_PAUSE_SECONDS = 0.1
LOOK_SECONDS = 0.1

T = TypeVar("T")
Result = pq.abc.PGresult
Idle = Callable[[], None]
Send = Callable[[], None]
_TEXT, _BINARY = int(pq.Format.TEXT), int(pq.Format.BINARY)
_TUPLES_OK, _FATAL_ERROR = int(pq.ExecStatus.TUPLES_OK), int(pq.ExecStatus.FATAL_ERROR)
_OK = int(pq.ConnStatus.OK)
_POLL: Callable[[], Any] | None = getattr(select, "poll", None)
Parameter = str | UUID | None
Given = tuple[list[bytes | None], list[int]]
"""The values of parameters, and the format of each."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A bare `select f($1, …)`; `name` is its name among the connection's prepared statements."""

    name: bytes
    query: bytes


def statement(function: str, parameters: int) -> Statement:
    """Return the statement that calls `function` with so many parameters."""
    marks = ", ".join(f"${n}" for n in range(1, parameters + 1))
    return Statement(function.encode(), f"select {function}({marks})".encode())


Call = tuple[Statement, tuple[Parameter, ...]]


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

    def call(self, what: Statement, *parameters: Parameter) -> Any:
        """Run one kernel call and return its jsonb result, decoded.

        Repeats the call after a lost connection, a deadlock or a serialisation failure.
        """
        text = self.call_text(what, *parameters)
        return None if text is None else load(text)

    def call_text(self, what: Statement, *parameters: Parameter) -> str | None:
        """Run one kernel call, as `call`, and return its jsonb result as PostgreSQL wrote it."""
        given = encode(parameters)
        if request.current().verbosity >= request.STATEMENTS:
            from aosctl.db.tracing import traced

            once = partial(self._call_once, what, given)
            return self._persist(lambda: traced(what.query, parameters, once, hot=True))
        connection = self._connection
        if connection is None or what.name not in self._prepared:
            return self._persist(self._call_once, what, given)
        # What nearly every call needs, in one piece: the processor has forgotten this code while it
        # waited for the server, and each further function costs several times what it costs warm.
        self.round_trips += 1
        pgconn = connection.pgconn
        failure: psycopg.Error | Result
        try:
            failure = result = self._exchange(pgconn, what, given)
        except psycopg.Error as error:
            failure = error
        except BaseException:
            self.close()
            raise
        else:
            if result.status == _TUPLES_OK:
                value = result.get_value(0, 0)
                return None if value is None else value.decode()
        return self._persist(self._after(failure, pgconn, what, given))

    @staticmethod
    def _exchange(pgconn: pq.abc.PGconn, what: Statement, given: Given) -> Result:
        """Send a call that is prepared, and wait for what comes back."""
        # libpq takes None for NULL; psycopg's annotation leaves that out.
        return pgconn.exec_prepared(what.name, *given)  # type: ignore[arg-type]

    def _after(
        self,
        failure: psycopg.Error | Result,
        pgconn: pq.abc.PGconn,
        what: Statement,
        given: Given,
    ) -> Callable[[], str | None]:
        """Return what raises a call's first failure, and makes the call anew each time after."""
        first = [failure]

        def attempt() -> str | None:
            if not first:
                return self._call_once(what, given)
            failed = first.pop()
            if isinstance(failed, psycopg.Error):
                raise failed
            return value_of(failed, pgconn)

        return attempt

    def call_each(self, calls: Sequence[Call]) -> list[str | AosError | None]:
        """Run kernel calls in one round trip, each a transaction of its own; return what came.

        An error stands in its call's place: DatabaseUnavailable for what may pass by itself, as a
        lock that another holds. Nothing is repeated. Raises DatabaseUnavailable.
        """
        return self._attempt(self._call_each, calls)

    def _call_each(self, calls: Sequence[Call]) -> list[str | AosError | None]:
        pgconn = self.connection.pgconn
        for what in {what.name: what for what, _ in calls}.values():
            if what.name not in self._prepared:
                prepared = pgconn.prepare(what.name, what.query)
                if prepared.status != pq.ExecStatus.COMMAND_OK:
                    value_of(prepared, pgconn)
                self._prepared.add(what.name)
        self.round_trips += 1
        pgconn.enter_pipeline_mode()
        for what, parameters in calls:
            pgconn.send_query_prepared(what.name, *encode(parameters))
            pgconn.pipeline_sync()
        came: list[str | AosError | None] = []
        for _ in calls:
            result = _next(pgconn)
            try:
                came.append(value_of(result, pgconn))
            except _Retryable as repeat:
                came.append(DatabaseUnavailable(repeat.error.message))
            except DatabaseUnavailable:
                raise
            except AosError as error:
                came.append(error)
            _next(pgconn)  # the None after each query's result
            _next(pgconn)  # the sync
        pgconn.exit_pipeline_mode()
        return came

    def fetch(self, query: str, parameters: tuple[object, ...]) -> list[tuple[Any, ...]]:
        """Read rows; when the connection is lost, once more over a new one."""

        def read() -> list[tuple[Any, ...]]:
            self.round_trips += 1
            with translated():
                return self.connection.execute(query.encode(), parameters).fetchall()

        try:
            return self._attempt(read)
        except DatabaseUnavailable:
            return self._attempt(read)

    def _persist(self, attempt: Callable[..., T], *given: Any) -> T:
        deadline = time.monotonic() + self._patience
        pause, tries = FIRST_PAUSE_SECONDS, 0
        while True:
            try:
                return self._attempt(attempt, *given)
            except _Retryable as repeat:
                tries += 1
                if tries >= ATTEMPTS:
                    raise repeat.error from None
            except DatabaseUnavailable:
                if time.monotonic() + pause > deadline:
                    raise
                time.sleep(pause)
                pause = min(pause * 2, 2.0)

    def _attempt(self, attempt: Callable[..., T], *given: Any) -> T:
        """Try once; a connection that may be in the middle of something is not used again."""
        try:
            return attempt(*given)
        except (_Retryable, AosError) as error:
            if isinstance(error, DatabaseUnavailable):
                self.close()
            raise
        except psycopg.Error as error:
            self.close()
            raise from_psycopg(error) from error
        except BaseException:
            self.close()
            raise

    def _call_once(self, what: Statement, given: Given) -> str | None:
        pgconn = self.connection.pgconn
        self.round_trips += 1
        if what.name in self._prepared:
            return value_of(self._exchange(pgconn, what, given), pgconn)
        prepare = partial(pgconn.send_prepare, what.name, what.query)
        execute = partial(pgconn.send_query_prepared, what.name, *given)
        result, is_last = pipelined(pgconn, (prepare,), execute)
        if is_last:
            self._prepared.add(what.name)
        return value_of(result, pgconn)


def pipelined(
    pgconn: pq.abc.PGconn,
    before: Sequence[Send],
    last: Send,
    idle: Idle = lambda: None,
    after: Sequence[Send] = (),
) -> tuple[Result | None, bool]:
    """Send transactions of one query each in one go: those `before`, `last`, and those `after`.

    Return the last result and True, or the first failure and False; None when the connection is
    lost. `idle` is called every moment of the wait. Where `last` was committed, nobody has waited
    for those `after`: the pipeline stays open, and `caught_up` closes it.
    """
    pgconn.enter_pipeline_mode()
    for send in (*before, last, *after):
        send()
        pgconn.pipeline_sync()
    is_last = False
    result: Result | None = None
    for number in range(len(before) + 1):
        if number:  # the sync between two, or why the one before could not commit
            result = _next(pgconn, idle)
            if _failed(result):
                break
        is_last = number == len(before)
        result = _next(pgconn, idle)
        if _failed(result):
            break
        _next(pgconn, idle)  # the None after each query's result
    late: Result | None = None
    if after and not _failed(result):
        late = _next(pgconn, idle)
        if not _failed(late):
            return result, is_last
    rest = _drain(pgconn)
    if not _failed(result):
        # A result is worth nothing before the commit: that can fail, or the connection break.
        result = late or rest or (result if pgconn.status == pq.ConnStatus.OK else None)
    if pgconn.status == pq.ConnStatus.OK:
        pgconn.exit_pipeline_mode()
    return result, is_last


def caught_up(pgconn: pq.abc.PGconn, idle: Idle) -> bool:
    """Read what came of the transactions after the last, and close the pipeline.

    False when one of them failed, or the connection is lost.
    """
    if pgconn.pipeline_status == pq.PipelineStatus.OFF:
        return pgconn.status == pq.ConnStatus.OK
    failure = _drain(pgconn, idle)
    if failure is not None or pgconn.status != pq.ConnStatus.OK:
        return False
    pgconn.exit_pipeline_mode()
    return True


def _failed(result: Result | None) -> bool:
    """Tell that a transaction failed, or the connection is lost."""
    return result is None or result.status == _FATAL_ERROR


def _next(pgconn: pq.abc.PGconn, idle: Idle = lambda: None) -> Result | None:
    """Return the next result. psycopg's get_result holds all threads up: wait before it."""
    while pgconn.is_busy():
        if _wait(pgconn):
            pgconn.consume_input()
        else:
            idle()
    return pgconn.get_result()


def _wait(pgconn: pq.abc.PGconn) -> bool:
    """Wait for the server, or for room for what is not sent yet; False after a moment of neither.

    poll and not a selector, which costs more than the wait itself: epoll would make a descriptor
    and close it each time.
    """
    unsent = bool(pgconn.flush())
    socket = pgconn.socket
    if _POLL is None:
        return any(select.select([socket], [socket] * unsent, [], LOOK_SECONDS))
    waiting = _POLL()
    waiting.register(socket, select.POLLIN | select.POLLOUT if unsent else select.POLLIN)
    return bool(waiting.poll(LOOK_SECONDS * 1000))


def _drain(pgconn: pq.abc.PGconn, idle: Idle = lambda: None) -> Result | None:
    """Read what is left, the last sync and more after an error; return the first failure in it."""
    empty = 0
    failure: Result | None = None
    while pgconn.status == _OK and empty < 2:
        result = _next(pgconn, idle)
        empty = empty + 1 if result is None else 0
        if failure is None and result is not None and result.status == _FATAL_ERROR:
            failure = result
    return failure


def encode(parameters: Sequence[Parameter]) -> Given:
    """Return parameters as libpq takes them: as text, and ids in their 16 bytes.

    To read an id as text costs the server 2,700 instructions, and there are fourteen in a turn.
    """
    values: list[bytes | None] = []
    formats = [_TEXT] * len(parameters)
    for value in parameters:
        if isinstance(value, str):  # plain ASCII is what sanitise lets pass at once
            plain = value.isascii() and "\0" not in value
            values.append((value if plain else sanitise(value)).encode())
        elif value is None:
            values.append(None)
        else:
            formats[len(values)] = _BINARY
            values.append(value.int.to_bytes(16, "big"))
    return values, formats


def value_of(result: Result | None, pgconn: pq.abc.PGconn, column: int = 0) -> str | None:
    """Return a value of a result's first row as text; raises what the server raised."""
    if result is None:
        raise from_sqlstate(None, pgconn.error_message.decode(errors="replace"))
    if result.status in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
        value = result.get_value(0, column) if result.ntuples else None
        return None if value is None else value.decode()
    sqlstate, message, hint = complaint(result, pgconn)
    error = from_sqlstate(sqlstate, message, hint)
    if sqlstate in RETRYABLE:
        raise _Retryable(error)
    raise error
