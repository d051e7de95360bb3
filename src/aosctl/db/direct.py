"""A person's connection straight through libpq, for verbs that run a statement or two and end.

All of psycopg takes longer to import than such a verb to run. This connects where that is simple
and understands the types that the kernel's views have. `open_direct_session` returns None for
everything else, errors too: `connection.open_session` then does the same, with all of psycopg,
and has the words for what is wrong.
"""

from __future__ import annotations

import re
import selectors
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl import __version__, request
from aosctl.db.errors import from_sqlstate
from aosctl.db.kernel import COMPATIBLE, KERNEL_BUILD
from aosctl.db.libpq import complaint, errors, pq
from aosctl.db.rows import decoder
from aosctl.errors import AosError, InvalidInput

if TYPE_CHECKING:
    from psycopg.pq.abc import PGconn, PGresult

    from aosctl.config import Target

CONNECT_SECONDS = 3.0
"""How long this tries; `connection.connect` has more patience, and says so in the end."""

Row = tuple[Any, ...]
Parameters = Mapping[str, object] | Sequence[object]

_SETTINGS = {b"client_encoding": b"UTF8", b"DateStyle": b"ISO"}
_PLACEHOLDER = re.compile(rb"%(?:\((\w+)\))?s|%%")


class Column(NamedTuple):
    """A column of an answer."""

    name: str


class Rows:
    """The answer to a statement, read as psycopg's cursor is."""

    def __init__(self, description: list[Column], rows: list[Row]) -> None:
        self.description = description
        self._rows = iter(rows)

    def __iter__(self) -> Iterator[Row]:
        return self._rows

    def fetchone(self) -> Row | None:
        return next(self._rows, None)

    def fetchall(self) -> list[Row]:
        return list(self._rows)


class DirectConnection:
    """A connection in autocommit mode, with the part of psycopg's `Connection` that verbs use."""

    def __init__(self, pgconn: PGconn) -> None:
        self.pgconn = pgconn

    def execute(self, query: str | bytes, parameters: Parameters = ()) -> Rows:
        """Run one statement; placeholders are psycopg's `%s` and `%(name)s`. Raises AosError."""
        text = query.encode() if isinstance(query, str) else query
        text, values = _numbered(text, parameters)
        if request.current().verbosity < request.STATEMENTS:
            return self._answer(self._send(text, values))
        from aosctl.db.tracing import traced

        return traced(query, parameters, lambda: self._answer(self._send(text, values)))

    def _answer(self, result: PGresult) -> Rows:
        if result.status not in (pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK):
            raise from_sqlstate(*complaint(result, self.pgconn))
        columns = [(result.fname(i) or b"").decode() for i in range(result.nfields)]
        decode = [decoder(result.ftype(i)) for i in range(result.nfields)]
        try:
            rows = [
                tuple(
                    None if (value := result.get_value(row, i)) is None else decode[i](value)
                    for i in range(result.nfields)
                )
                for row in range(result.ntuples)
            ]
        except (ValueError, RecursionError) as error:  # a date before Christ, JSON without end
            raise InvalidInput(f"the database holds what Python can't: {error}") from error
        return Rows([Column(name) for name in columns], rows)

    def close(self) -> None:
        self.pgconn.finish()

    def _send(self, query: bytes, values: list[bytes | None]) -> PGresult:
        """Send a statement and wait for its result; interrupted, cancel it on the server too."""
        pgconn = self.pgconn
        try:
            pgconn.send_query_params(query, values)
            result = last = self._next()
            while last is not None:  # an error of the connection may follow the answer
                result, last = last, self._next()
        except errors.Error as error:
            raise from_sqlstate(None, str(error)) from error
        except KeyboardInterrupt:
            pgconn.get_cancel().cancel()
            raise
        if result is None:
            raise from_sqlstate(None, pgconn.error_message.decode(errors="replace"))
        return result

    def _next(self) -> PGresult | None:
        # get_result would hold up Ctrl-C: wait for the socket before it.
        with selectors.DefaultSelector() as selector:
            selector.register(self.pgconn.socket, selectors.EVENT_READ)
            while self.pgconn.is_busy():
                selector.select()
                self.pgconn.consume_input()
        return self.pgconn.get_result()


class DirectSession(NamedTuple):
    """A person's direct connection; `tenant_id` is selected where one was wanted."""

    connection: DirectConnection
    tenant_id: UUID | None
    tenant: str | None

    def require_tenant(self) -> UUID:
        """Return the tenant's id, for a session that was opened with one."""
        if self.tenant_id is None:
            raise AssertionError("the session was opened without a tenant")
        return self.tenant_id

    def close(self) -> None:
        self.connection.close()


_VERSION = f"""
select version || coalesce('+' || nullif(build, '{KERNEL_BUILD}'), '') as version
from aos_meta.kernel_version order by installed_at desc limit 1
"""  # noqa: S608 - our own constants, here and below
_PATH = "set_config('search_path'::text, 'pg_catalog, pg_temp'::text, false)"
"""See `connection.connect`. It holds from the next statement on: this one takes exact types."""
_OPEN = f"select version, null, null, {_PATH} from ({_VERSION}) k"  # noqa: S608
_OPEN_TENANT = f"""
with mine as (select tenant_id, name, count(*) over () as many from aos_auth.my_tenants())
select ({_VERSION}),
       tenant_id, name, set_config('aos.tenant_id'::text, tenant_id::text, false), {_PATH}
from mine where case when %(tenant)s::text is null then many = 1 else name = %(tenant)s end
"""  # noqa: S608


def open_direct_session(
    target: Target, verb: str, *, select_tenant: bool = True
) -> DirectSession | None:
    """Connect as the person, check the kernel's version and select the tenant, in one statement.

    None wherever something is missing, wrong or out of the ordinary, --as for one.
    """
    if request.current().principal is not None:
        return None
    connection = _connect(target, verb)
    if connection is None:
        return None
    try:
        if select_tenant:
            rows = connection.execute(_OPEN_TENANT, {"tenant": target.tenant}).fetchall()
        else:
            rows = connection.execute(_OPEN).fetchall()
    except AosError:
        rows = []
    if len(rows) != 1 or rows[0][0] not in COMPATIBLE:
        connection.close()
        return None
    _, tenant_id, tenant, *_ = rows[0]
    if request.current().verbosity:
        from aosctl.db import tracing

        tracing.chosen(target, tenant)
    return DirectSession(connection, tenant_id, tenant)


def _connect(target: Target, verb: str) -> DirectConnection | None:
    try:
        dsn = _dsn(target)
        if dsn is None:
            return None
        settings = {
            option.keyword: option.val
            for option in pq.Conninfo.parse(dsn.encode())
            if option.val is not None
        }
        asked = request.current()
        settings[b"application_name"] = f"aosctl/{__version__} {verb}".encode()
        begun = time.monotonic()
        pgconn = pq.PGconn.connect_start(b" ".join(map(_setting, settings.items())))
        if _is_ready(pgconn, min(CONNECT_SECONDS, asked.timeout or CONNECT_SECONDS)):
            return _made(pgconn, asked, begun)
        pgconn.finish()
    except (errors.Error, OSError):
        pass
    return None


def _made(pgconn: PGconn, asked: request.Request, begun: float) -> DirectConnection:
    """Return the connection, which waits no longer than was asked for, and tell of it."""
    connection = DirectConnection(pgconn)
    if asked.verbosity:
        from aosctl.db import tracing

        version = (pgconn.parameter_status(b"server_version") or b"").decode().partition(" ")[0]
        where = f"{pgconn.db.decode()} on {pgconn.host.decode()}:{pgconn.port.decode()}"
        tracing.connected(where, pgconn.user.decode(), version, begun)
    if asked.timeout:
        limit = "select pg_catalog.set_config('statement_timeout', %s::text, false)"
        connection.execute(limit, (str(asked.milliseconds),))
    return connection


def _dsn(target: Target) -> str | None:
    """Return what to connect with; None while the embedded server doesn't run."""
    if target.kind != "embedded":
        return target.dsn or ""
    from aosctl.db.embedded import find_running

    server = find_running()
    return server.dsn() if server is not None else None


def _setting(pair: tuple[bytes, bytes]) -> bytes:
    value = pair[1].replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    return b"%s='%s'" % (pair[0], value)


def _is_ready(pgconn: PGconn, seconds: float) -> bool:
    """Go through the steps of connecting; tell whether they led to a session as we know it."""
    until = time.monotonic() + seconds
    # The socket may be another one after each step: libpq tries several addresses.
    state: int = pq.PollingStatus.WRITING
    while state in (pq.PollingStatus.READING, pq.PollingStatus.WRITING):
        reads = state == pq.PollingStatus.READING
        with selectors.DefaultSelector() as selector:
            selector.register(
                pgconn.socket, selectors.EVENT_READ if reads else selectors.EVENT_WRITE
            )
            if not selector.select(max(until - time.monotonic(), 0)):
                return False
        state = pgconn.connect_poll()
    return state == pq.PollingStatus.OK and all(
        (pgconn.parameter_status(name) or b"").startswith(wanted)
        for name, wanted in _SETTINGS.items()
    )


def _numbered(query: bytes, given: Parameters) -> tuple[bytes, list[bytes | None]]:
    """Write `$1` for each placeholder; return the query and the values in text form."""
    if not given:
        return query, []
    values: list[bytes | None] = []
    numbers: dict[bytes, bytes] = {}

    def number(found: re.Match[bytes]) -> bytes:
        if found[0] == b"%%":
            return b"%"
        name = found[1]
        if name is None or name not in numbers:
            value = given[name.decode() if name else len(values)]  # type: ignore[index]
            values.append(_encode(value))
            if name is None:
                return b"$%d" % len(values)
            numbers[name] = b"$%d" % len(values)
        return numbers[name]

    return _PLACEHOLDER.sub(number, query), values


def _encode(value: object) -> bytes | None:
    """Return a value as PostgreSQL reads it; what type it has, the query says."""
    if value is None:
        return None
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, datetime):
        return value.isoformat().encode()
    if isinstance(value, timedelta):
        return f"{value.days} days {value.seconds}.{value.microseconds:06} seconds".encode()
    if isinstance(value, list | tuple):
        return b"{" + b",".join(map(_element, value)) + b"}"
    if isinstance(value, str | int | Decimal | UUID):
        return str(value).encode()
    raise TypeError(f"no text form is known for {type(value).__name__}")


def _element(value: object) -> bytes:
    text = _encode(value)
    if text is None:
        return b"null"
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
