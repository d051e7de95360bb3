"""What a worker does beside the turns: rounds until told to stop, and what is said of failures."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aosctl.db.connection import Connection, connect
from aosctl.db.errors import translated
from aosctl.db.shared import SharedConnection
from aosctl.domain.chore import Chore
from postgres import Cluster

FAIL = b"do $$ begin raise exception 'not yet' using errcode = 'AO005'; end $$"
FAIL_OTHERWISE = b"do $$ begin raise exception 'not at all' using errcode = 'AO004'; end $$"
END = b"select pg_terminate_backend(pg_backend_pid())"
NOTHING = b"select 1"


class Script(Chore):
    """Runs one statement a round; afterwards it has nothing to do."""

    name = "script"
    pause_seconds = 0.001
    grace_seconds = 10.0

    def __init__(self, cluster: Cluster, statements: list[bytes]) -> None:
        self.notes: list[str] = []
        self.sessions: list[int] = []
        self.is_done = threading.Event()
        self._statements = iter(statements)
        self.shared = SharedConnection(lambda: connect(cluster.dsn(), "script"))
        super().__init__(self.shared, self.notes.append)

    def make_round(self, connection: Connection) -> None:
        statement = next(self._statements, None)
        if statement is None:
            self.is_done.set()
            return
        self.sessions.append(connection.info.backend_pid)
        with translated():
            connection.execute(statement)


@contextmanager
def going_through(cluster: Cluster, *statements: bytes) -> Iterator[Script]:
    """Yield a chore that has run these statements, a round each."""
    script = Script(cluster, list(statements))
    script.start()
    try:
        assert script.is_done.wait(60)
        yield script
    finally:
        script.close()
        script.shared.close()


def test_a_failure_is_said_once_until_a_round_succeeds(cluster: Cluster) -> None:
    with going_through(cluster, FAIL, FAIL, FAIL_OTHERWISE, NOTHING, FAIL_OTHERWISE) as script:
        assert script.notes == ["script: not yet", "script: not at all", "script: not at all"]


def test_a_database_that_is_away_is_not_reported_and_connected_to_again(cluster: Cluster) -> None:
    with going_through(cluster, NOTHING, NOTHING, END, NOTHING) as script:
        assert script.notes == []
        first, second, ended, last = script.sessions
        assert first == second == ended != last


def test_finish_makes_one_more_round_and_plain_close_makes_none(cluster: Cluster) -> None:
    for finish in (False, True):
        script = Script(cluster, [NOTHING, NOTHING])
        script.pause_seconds = 60.0
        script.start()
        script.close(finish=finish)
        script.shared.close()
        assert len(script.sessions) == 1 + finish
