"""The connection of SQL skills: nothing of one call is left to the next, and each call ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import partial

import psycopg

from aosctl.db.connection import PIN, Connection
from aosctl.db.hot import ATTEMPTS, Link, Statement, encode, pipelined, value_of
from aosctl.errors import AosError, DatabaseUnavailable

STATEMENT_SECONDS = 30.0
GRACE_SECONDS = 5.0
"""How long a statement may take to obey, each time it is told to end."""

Stopped = Callable[[], bool]


class SandboxLink(Link):
    """The connection of SQL skills: unnamed statements only, and a cleanup between two calls.

    The cleanup is DISCARD ALL without the cached plans; it travels in one packet with the next
    call, so that a call stays one round trip. Its last part, a SELECT too, is part of the call.
    """

    CLEANUP = (
        b"close all",
        b"unlisten *",
        b"set session authorization default",
        b"reset all",
        PIN,
        b"deallocate all",
        b"discard temp",
        b"discard sequences",
    )
    UNLOCK = b"select pg_catalog.pg_advisory_unlock_all(), "
    grace_seconds = GRACE_SECONDS

    def call_text(
        self,
        what: Statement,
        *parameters: str | None,
        seconds: float = STATEMENT_SECONDS,
        stopped: Stopped = lambda: False,
    ) -> str | None:
        """Run one kernel call; it is cancelled after `seconds`, or once `stopped` turns true.

        Raises AosError when it does not obey: its session is ended then, and nothing of it stays.
        """
        timeout = f"set statement_timeout = {max(1, int(seconds * 1000))}".encode()
        before = (*self.CLEANUP, timeout)
        sessions_lost = 0

        def attempt() -> str | None:
            nonlocal sessions_lost
            watchdog = Watchdog(
                self.connection, self._connect, stopped, seconds, self.grace_seconds
            )
            try:
                return self._clean_call(before, what, encode(parameters), watchdog)
            except (DatabaseUnavailable, psycopg.OperationalError) as error:
                sessions_lost += 1
                if sessions_lost < ATTEMPTS:
                    raise
                raise AosError(
                    f"{ATTEMPTS} sessions ended while they ran the statement; nothing of it stays",
                    "the server's log says why",
                ) from error

        return self._persist(attempt)

    def _clean_call(
        self,
        before: Sequence[bytes],
        what: Statement,
        parameters: list[bytes | None],
        watchdog: Watchdog,
    ) -> str | None:
        pgconn = self.connection.pgconn
        self.round_trips += 1
        sends = [partial(pgconn.send_query_params, query, None) for query in before]
        call = self.UNLOCK + what.query.removeprefix(b"select ")
        last = partial(pgconn.send_query_params, call, parameters)
        try:
            result, _ = pipelined(pgconn, sends, last, watchdog.look)
            return value_of(result, pgconn, column=1)
        except (DatabaseUnavailable, psycopg.OperationalError) as error:
            if not watchdog.has_ended_it:
                raise
            self.close()
            raise AosError(
                "the statement did not end when it was cancelled; its session was ended,"
                " and nothing of it stays",
                "look for a function in it that catches query_canceled, or never looks up",
            ) from error


class Watchdog:
    """Ends a statement that nobody waits for any more, or that outlives its time.

    The server's own timer comes first. A statement that goes on all the same, as a function can
    that catches query_canceled, is cancelled; then its session is ended, from another connection
    of the same login; then we let go of the connection.
    """

    def __init__(
        self,
        connection: Connection,
        connect: Callable[[], Connection],
        stopped: Stopped,
        seconds: float,
        grace_seconds: float,
    ) -> None:
        self.has_ended_it = False
        self._connection = connection
        self._connect = connect
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
        with suppress(AosError, psycopg.Error), closing(self._connect()) as other:
            other.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where pid = %s"
                " and usename = session_user and datname = current_database()"
                " and state = 'active' and backend_start < now() - make_interval(secs => %s)",
                (pid, age),
            )
