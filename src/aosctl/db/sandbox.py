"""The connection of SQL skills: nothing of one call is left to the next, and each call ends."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from functools import partial

import psycopg
from psycopg import pq

from aosctl import request
from aosctl.db.connection import Connection
from aosctl.db.hot import (
    ATTEMPTS,
    Given,
    Idle,
    Link,
    Parameter,
    Statement,
    caught_up,
    encode,
    pipelined,
    value_of,
)
from aosctl.errors import AosError, DatabaseUnavailable

STATEMENT_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""How long a statement may take to obey, each time it is told to end."""

NOT_CLEAN = "the session of SQL skills could not be cleaned"

Stopped = Callable[[], bool]
Ending = Callable[[], AbstractContextManager[Connection]]


class SandboxLink(Link):
    """The connection of SQL skills: unnamed statements only, and a cleanup after each call.

    The cleanup is DISCARD ALL without the cached plans, in two transactions that travel with the
    call. Nobody waits for it: the next call first sees that it was done, and does it itself in a
    session that is new, had a call that failed, or has another time limit.
    """

    RESET = b"reset all"
    CLEANUP = b"select aos_agent.clean_session($1)"
    grace_seconds = GRACE_SECONDS
    ending: Ending | None = None
    """Lends the connection that ends a session which does not obey; a new one without it."""
    _cleaned: tuple[pq.abc.PGconn, bytes] | None = None
    """The session whose pipeline is open behind its last call, and the time it gives the next."""

    def call_text(
        self,
        what: Statement,
        *parameters: Parameter,
        seconds: float = STATEMENT_SECONDS,
        stopped: Stopped = lambda: False,
    ) -> str | None:
        """Run one kernel call; it is cancelled after `seconds`, or once `stopped` turns true.

        Raises AosError when it does not obey: its session is ended then, and nothing of it stays.
        """
        timeout = str(max(1, int(seconds * 1000))).encode()
        sessions_lost = 0

        def attempt() -> str | None:
            nonlocal sessions_lost
            watchdog = Watchdog(
                self.connection, self.ending or self._anew, stopped, seconds, self.grace_seconds
            )
            try:
                given = encode(parameters)
                if request.current().verbosity < request.STATEMENTS:
                    return self._clean_call(timeout, what, given, watchdog)
                from aosctl.db.tracing import timed

                with timed(what.query, parameters, hot=True):
                    return self._clean_call(timeout, what, given, watchdog)
            except (DatabaseUnavailable, psycopg.OperationalError) as error:
                sessions_lost += 1
                if sessions_lost < ATTEMPTS:
                    raise
                raise AosError(
                    f"{ATTEMPTS} sessions ended while they ran the statement; nothing of it stays",
                    "the server's log says why",
                ) from error

        return self._persist(attempt)

    def _anew(self) -> AbstractContextManager[Connection]:
        return closing(self._connect())

    def _clean_call(
        self,
        timeout: bytes,
        what: Statement,
        given: Given,
        watchdog: Watchdog,
    ) -> str | None:
        pgconn = self.connection.pgconn
        self.round_trips += 1
        send = pgconn.send_query_params
        clean = (partial(send, self.RESET, None), partial(send, self.CLEANUP, [timeout]))
        last = partial(send, what.query, given[0], None, given[1])
        try:
            before = () if self._is_clean(timeout, watchdog.look) else clean
            result, is_last = pipelined(pgconn, before, last, watchdog.look, clean)
            if result is not None and not is_last:
                raise DatabaseUnavailable(NOT_CLEAN)
            if pgconn.pipeline_status != pq.PipelineStatus.OFF:
                self._cleaned = pgconn, timeout
            return value_of(result, pgconn)
        except (DatabaseUnavailable, psycopg.OperationalError) as error:
            if not watchdog.has_ended_it:
                raise
            self.close()
            raise AosError(
                "the statement did not end when it was cancelled; its session was ended,"
                " and nothing of it stays",
                "look for a function in it that catches query_canceled, or never looks up",
            ) from error

    def settle(self) -> None:
        """Wait until the session is clean after its last call; one that is not is let go."""
        if self._cleaned is not None and not caught_up(self._cleaned[0], lambda: None):
            self.close()

    def _is_clean(self, timeout: bytes, idle: Idle) -> bool:
        """See that the session was cleaned after its last call, and that its time limit is ours.

        Raises DatabaseUnavailable when it could not be cleaned; nobody uses it again.
        """
        cleaned, self._cleaned = self._cleaned, None
        if cleaned is None or self.connection.pgconn is not cleaned[0]:
            return False
        if not caught_up(cleaned[0], idle):
            raise DatabaseUnavailable(NOT_CLEAN)
        return cleaned[1] == timeout


class Watchdog:
    """Ends a statement that nobody waits for any more, or that outlives its time.

    The server's own timer comes first. A statement that goes on all the same, as a function can
    that catches query_canceled, is cancelled; then its session is ended, from another connection
    of the same login; then we let go of the connection.
    """

    def __init__(
        self,
        connection: Connection,
        ending: Ending,
        stopped: Stopped,
        seconds: float,
        grace_seconds: float,
    ) -> None:
        self.has_ended_it = False
        self._connection = connection
        self._ending = ending
        self._stopped = stopped
        self._grace = grace_seconds
        self._began_at = time.monotonic()
        self._next_at = self._began_at + seconds + grace_seconds
        self._cancelled = False

    def look(self) -> None:
        """Take the next step if it is time. Raises DatabaseUnavailable at the last."""
        now = time.monotonic()
        if now < self._next_at and (self._cancelled or not self._stopped()):
            return
        self._next_at = now + self._grace
        if not self._cancelled:
            self._cancelled = True
            self._connection.cancel_safe(timeout=5.0)
        elif not self.has_ended_it:
            self.has_ended_it = True
            self._end_session()
        else:
            raise DatabaseUnavailable("the session of the statement does not end")

    def _end_session(self) -> None:
        """Ask the server to end it; only a busy session of ours that is older than the statement.

        A later session could bear the same process id, and a statement can change its session's
        application_name.
        """
        pid, age = self._connection.info.backend_pid, time.monotonic() - self._began_at
        with suppress(AosError, psycopg.Error), self._ending() as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s"
                " and usename = session_user and datname = current_database()"
                " and state = 'active' and backend_start < now() - make_interval(secs => %s)",
                (pid, age),
            )
