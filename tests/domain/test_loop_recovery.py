"""Connections, the server and the driving process are killed in a turn: it ends as if nothing was.

Each turn here asks for a statement that writes and for a search, and must end with the same
transcript, the statement's effect once, and no answer of the model paid for twice.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing.context import ForkServerProcess
from typing import Any

import psycopg
import pytest

from aosctl.db.hot import Link, Statement
from aosctl.domain.loop_events import Outcome
from aosctl.domain.tools.base import Call, ToolResult
from aosctl.errors import DatabaseUnavailable
from drives import Drive, drive
from providers.wire_openai import Entry, Reply, Request, calls, text
from talks import Stage, Talk, until

_ids = itertools.count(1000)
SLEEPERS = (
    "select pid from pg_stat_activity where datname = current_database() and wait_event = 'PgSleep'"
)


class Turn:
    """The turn's answers, each of which may do something while it is waited for."""

    def __init__(self, play: Stage, seconds: float = 0.0) -> None:
        self.play = play
        self.item = next(_ids)
        statement = f"select slowly({seconds}, {self.item})"
        self.asks = calls(
            ("sql_write", {"statement": statement}), ("web_search", {"query": "x"}), say="Let me."
        )
        self.ends = text("All ", "done.")

    def answer(self, first: Callable[[], object], last: Callable[[], object]) -> None:
        self.play.answer(doing(first, self.asks), doing(last, self.ends))

    def assert_done_once(self, talk: Talk, outcome: Outcome | None, requests: int = 2) -> None:
        play = self.play
        assert outcome is not None
        assert (outcome.state, outcome.text) == ("completed", "All done.")
        assert [role for role, _ in play.transcript(talk)] == [
            "user", "assistant", "tool", "tool", "assistant",
        ]  # fmt: skip
        assert [ok for _, ok, _ in play.results(talk)] == [True, True], play.results(talk)
        found = "select count(*) from shop.item where id = %s"
        assert play.database.value(found, self.item) == 1
        assert len(play.wire.requests) == requests
        play.assert_at_rest(talk, "completed")


def doing(act: Callable[[], object], reply: Reply) -> Entry:
    def entry(_request: Request) -> Reply:
        act()
        return reply

    return entry


class Searching:
    """web_search that does something while it acts."""

    name = "web_search"

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        self._act()
        return ToolResult(True, {"found": "it"})


def nothing() -> None:
    """Do nothing."""


@pytest.mark.parametrize("whose", ["test_developer", "aos_worker", "%"])
def test_connections_that_are_ended_at_every_point_of_a_turn_are_not_missed(
    play: Stage, whose: str
) -> None:
    ended: list[Any] = []

    def end_connections() -> None:
        ended.extend(
            play.database.rows(
                "select pg_terminate_backend(pid, 10000) from pg_stat_activity"
                " where datname = current_database() and usename like %s"
                " and usename <> 'aos_superuser' and application_name like 'aosctl/%%'",
                whose,
            )
        )

    turn = Turn(play)
    talk = play.talk(tools={"web_search": Searching(end_connections)}, beat_seconds=0.02)
    turn.answer(end_connections, end_connections)
    turn.assert_done_once(talk, talk.send("Go."))
    end_connections()
    assert ended
    play.answer(text("Yes."))
    assert talk.send("And now?").text == "Yes."
    assert talk.conversation.status().turn_state == "completed"


@pytest.mark.parametrize("begun", [True, False], ids=["", "with its run"])
@pytest.mark.parametrize("nth", [1, 2, 3, 4, 5])
def test_a_reply_that_is_lost_on_its_way_is_asked_for_again(
    play: Stage, monkeypatch: pytest.MonkeyPatch, nth: int, begun: bool
) -> None:
    """The message, the answer, the statement, the search and the last answer: each written once."""
    turn = Turn(play)
    talk = play.talk(tools={"web_search": Searching(nothing)}, begun=begun)
    before = runs(play)
    turn.answer(nothing, nothing)
    received = itertools.count(1)
    attempt, call_text = Link._attempt, Link.call_text

    def lose(self: Link, act: Callable[..., Any], *given: Any) -> Any:
        value = attempt(self, act, *given)
        if next(received) == nth:
            self.close()
            raise DatabaseUnavailable("the reply was lost")
        return value

    def lose_usual(self: Link, what: Statement, *parameters: Any) -> Any:
        """Lose the reply of a call that is prepared, which does not go through _attempt."""
        if type(self) is Link and what.name in self._prepared:
            self._exchange = lambda *given: lost(self, *given)  # type: ignore[method-assign]
        return call_text(self, what, *parameters)

    def lost(self: Link, *given: Any) -> Any:
        del self.__dict__["_exchange"]
        result = Link._exchange(*given)
        if next(received) == nth:
            self.close()
            raise psycopg.OperationalError("the reply was lost")
        return result

    monkeypatch.setattr(Link, "_attempt", lose)
    monkeypatch.setattr(Link, "call_text", lose_usual)
    outcome = talk.send("Go.")
    assert next(received) == 5 + 1 + 1
    monkeypatch.undo()
    turn.assert_done_once(talk, outcome)
    assert runs(play) - before == (0 if begun else 1)


def runs(play: Stage) -> int:
    return int(play.database.value("select count(*) from aos_core.run"))


def has_lost_its_server(connection: psycopg.Connection[Any]) -> bool:
    """Tell whether the server has ended this connection."""
    try:
        connection.execute("select")
    except psycopg.OperationalError:
        return True
    return False


@pytest.mark.parametrize("crash", [False, True])
def test_the_server_is_restarted_between_calls_and_while_the_model_thinks(
    play: Stage, crash: bool
) -> None:
    cluster = play.database.cluster
    # Else a crash may take the last half second of what was committed with it.
    play.database.superuser.execute(
        f"alter database {play.database.name} set synchronous_commit = on".encode()
    )

    def recovered() -> int | None:
        """Return the process of a backend, once the server is there again after the last crash."""
        try:
            return play.database.superuser.info.backend_pid
        except psycopg.OperationalError:
            return None

    def restart() -> None:
        if crash:  # one backend dies, and the server ends all others and recovers
            with psycopg.connect(cluster.dsn(), autocommit=True) as witness:
                os.kill(until(recovered), signal.SIGKILL)
                until(lambda: has_lost_its_server(witness))  # until then others go on working
        else:
            cluster.halt()
            cluster.resume()
        play.database.close()

    turn = Turn(play)
    play.database.close()  # the setting holds for new connections
    talk = play.talk(tools={"web_search": Searching(restart)})
    turn.answer(restart, restart)
    turn.assert_done_once(talk, talk.send("Go."))


def test_a_server_that_is_away_for_a_moment_is_waited_for(play: Stage) -> None:
    cluster = play.database.cluster
    turn = Turn(play)
    talk = play.talk(tools={"web_search": Searching(nothing)})
    play.database.close()
    timers: list[threading.Timer] = []

    def go_away() -> None:
        cluster.halt()
        timers.append(threading.Timer(0.5, cluster.resume))
        timers[0].start()

    turn.answer(go_away, nothing)
    outcome = talk.send("Go.")
    timers[0].join()
    turn.assert_done_once(talk, outcome)


def test_an_answer_outlives_a_server_that_is_away_too_long(play: Stage) -> None:
    cluster = play.database.cluster
    turn = Turn(play)
    talk = play.talk(
        tools={"web_search": Searching(nothing)}, patience_seconds=0.2, lease_seconds=1
    )
    play.database.close()
    turn.answer(cluster.halt, nothing)
    try:
        with pytest.raises(DatabaseUnavailable):
            talk.send("Go.")
    finally:
        cluster.resume()
    outcome = until(talk.resume, "the lease's end")
    turn.assert_done_once(talk, outcome)


POINTS = {
    "before the model is asked": 2,
    "while the model speaks": 3,
    "before answer 1 is stored": 3,
    "after answer 1 is stored": 2,
    "in the statement": 2,
    "after a statement has run": 2,
    "while a tool acts": 2,
    "after a tool's result is stored": 2,
    "before answer 2 is stored": 3,
}
"""Where the process is killed, and how often the model is then asked in all."""


@contextmanager
def driven(play: Stage, talk: Talk, halt_at: str) -> Iterator[ForkServerProcess]:
    """Let another process drive the run, until it stands at a point; it is killed at the end."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["drives"])
    ours, theirs = context.Pipe()
    cluster, name = play.database.cluster, play.database.name
    order = Drive(
        cluster.dsn("test_developer", name),
        cluster.dsn("aos_worker", name),
        play.tenant.name,
        talk.conversation.run_id,
        "Go.",
        halt_at,
        lease_seconds=1,
    )
    process = context.Process(target=drive, args=(order, theirs), daemon=True)
    process.start()
    try:
        if halt_at == "in the statement":
            until(lambda: play.database.value(SLEEPERS), "the statement")
        else:
            assert ours.poll(60), f"{halt_at} was not reached"
            assert ours.recv() == halt_at
        yield process
    finally:
        process.kill()
        process.join(20)
        process.close()
        ours.close()
        theirs.close()


@pytest.mark.parametrize("point", POINTS)
def test_another_process_goes_on_when_the_first_is_killed(
    play: Stage, clock: Callable[[str], None], point: str
) -> None:
    turn = Turn(play, seconds=1.0 if point == "in the statement" else 0.0)
    talk = play.talk(tools={"web_search": Searching(nothing)}, lease_seconds=1)
    if point == "while the model speaks":
        play.answer(turn.asks.stall(1))
    play.answer(*[turn.asks] * (2 if point == "before answer 1 is stored" else 1))
    play.answer(*[turn.ends] * (2 if point == "before answer 2 is stored" else 1))
    with driven(play, talk, point):
        assert talk.resume() is None  # it holds the lease
    if point != "in the statement":  # there the lease's end is waited for
        clock("2 seconds")
    outcome = until(talk.resume, "the lease's end")
    turn.assert_done_once(talk, outcome, POINTS[point])
