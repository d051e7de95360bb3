"""Failpoints in a worker's process: at a named point it dies, stands still or loses its connection.

`AOSCTL_FAILPOINT=point[.skill]:action[:nth]`, action `kill` | `stop` | `cut`, at the nth time
that the point is passed. They wrap the product's own seams; the product itself has none in it.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from recovery.journal import Journal

VARIABLE = "AOSCTL_FAILPOINT"
POISON = "RECOVERY_POISON"
"""The name of a run that kills every worker that takes a turn of it."""
SKEW = "RECOVERY_SKEW"
"""By how many seconds a worker's own clock is wrong."""
IN_SQL_SECONDS = 0.01
"""How far into a statement of scene.BUSINESS, which takes three times as long."""

POINTS = {
    "claimed": "after claim, before LLM",
    "asking": "during LLM call",
    "speaking": "partial stream",
    "answered": "LLM reply received, not stored",
    "stored": "tool call stored, not run",
    "in_sql": "inside SQL tool",
    "sql_sent": "COMMIT sent, ack lost: the worker dies",
    "sql_done": "the statement's result known, the next step not begun",
    "acting": "external call begun, not done",
    "acted": "external effect done, not recorded",
    "recorded": "external result stored",
}
"""The points, and the rows of the crash matrix that they stand for."""
OF_PEOPLE = {
    "beginning": "a first message typed, not sent",
    "begun": "a run begun with its message, the reply lost: the process dies, or asks again",
}
"""The points of `aosctl run`, likewise."""
LEASE = "RECOVERY_LEASE"
"""The seconds for which `aosctl run` takes its turn."""


class Failpoint:
    """The one point that is armed in this process, if any."""

    def __init__(self, setting: str | None, journal: Journal) -> None:
        self.point, self.action, nth = (*(setting or "::").split(":"), "")[:3]
        self._left = int(nth or 1)
        self._journal = journal
        self._lock = threading.Lock()

    def is_due(self, point: str, skill: str = "") -> bool:
        with self._lock:
            if self.point not in (point, f"{point}.{skill}"):
                return False
            self._left -= 1
            return self._left == 0

    def reach(self, point: str, skill: str = "") -> None:
        """Pass a point: the process may end here."""
        if self.is_due(point, skill):
            self.strike()

    def strike(self) -> None:
        tenant = os.environ.get("RECOVERY_TENANT")
        line = {"point": self.point, "action": self.action, "tenant": tenant, "at": time.time()}
        self._journal.write("points", **line)
        if self.action == "cut":
            from aosctl.errors import DatabaseUnavailable

            raise DatabaseUnavailable("the reply was lost")
        os.kill(os.getpid(), signal.SIGSTOP if self.action == "stop" else signal.SIGKILL)
        time.sleep(0.1)  # another thread may be the first to be told


def install(failpoint: Failpoint, journal: Journal) -> None:
    """Wrap the worker's seams with the failpoint, and note what the kernel acknowledges."""
    _install_around_the_kernel(failpoint, journal)
    _install_around_people(failpoint)
    _install_in_the_model(failpoint, journal)


def _install_around_the_kernel(failpoint: Failpoint, journal: Journal) -> None:
    from aosctl.db.worker import WorkerClient

    claim, respond = WorkerClient.claim, WorkerClient.record_response
    execute, record = WorkerClient.execute_call, WorkerClient.record_result

    def claimed(self: Any, *args: Any) -> Any:
        lease = claim(self, *args)
        if lease is not None:
            if lease.run == os.environ.get(POISON):
                os.kill(os.getpid(), signal.SIGKILL)
                time.sleep(0.1)
            failpoint.reach("claimed")
        return lease

    def responded(self: Any, lease: Any, message: Mapping[str, Any], *args: Any) -> Any:
        failpoint.reach("answered")
        moved = respond(self, lease, message, *args)
        said = message["origin"]["response_id"]
        journal.write("acks", run=str(lease.run_id), step=moved.step, role="assistant", what=said)
        failpoint.reach("stored")
        return moved

    def executed(self: Any, lease: Any, call: Any, *args: Any) -> Any:
        if failpoint.is_due("in_sql"):
            threading.Timer(IN_SQL_SECONDS, failpoint.strike).start()
        moved = _again_if_cut(
            lambda: _lost(failpoint, "sql_sent", execute, self, lease, call, *args)
        )
        if not moved.asks_again:
            what = str(call.call_id)
            journal.write("acks", run=str(lease.run_id), step=moved.step, role="tool", what=what)
        failpoint.reach("sql_done")
        return moved

    def recorded(self: Any, lease: Any, call: Any, *args: Any) -> Any:
        moved = record(self, lease, call, *args)
        what = str(call.call_id)
        journal.write("acks", run=str(lease.run_id), step=moved.step, role="tool", what=what)
        failpoint.reach("recorded", call.skill)
        return moved

    for name, wrapped in (
        ("claim", claimed),
        ("record_response", responded),
        ("execute_call", executed),
        ("record_result", recorded),
    ):
        setattr(WorkerClient, name, wrapped)


def _install_around_people(failpoint: Failpoint) -> None:
    from aosctl.db.person import PersonClient

    open_run = PersonClient.open_run

    def begun(self: Any, *args: Any) -> Any:
        failpoint.reach("beginning")
        asked = (*args[:-1], int(os.environ.get(LEASE, args[-1])))
        return _again_if_cut(lambda: _lost(failpoint, "begun", open_run, self, *asked))

    PersonClient.open_run = begun  # type: ignore[method-assign]


def _lost(failpoint: Failpoint, point: str, act: Callable[..., Any], *args: Any) -> Any:
    moved = act(*args)
    failpoint.reach(point)
    return moved


def _again_if_cut(act: Callable[[], Any]) -> Any:
    """Do what a link does when a reply is lost: send the very same call again."""
    from aosctl.errors import DatabaseUnavailable

    try:
        return act()
    except DatabaseUnavailable as error:
        if error.message != "the reply was lost":
            raise
        return act()


def _install_in_the_model(failpoint: Failpoint, journal: Journal) -> None:
    from aosctl.providers.base import TextDelta
    from aosctl.providers.script import ScriptProvider

    stream = ScriptProvider.stream

    def spoken(self: Any, request: Any, line: Any = None) -> Any:
        asked = {"model": request.model.name, "answers": _answers(request), "at": time.time()}
        journal.write("asked", **asked)
        failpoint.reach("asking")
        for event in stream(self, request, line):
            yield event
            if isinstance(event, TextDelta):
                failpoint.reach("speaking")

    ScriptProvider.stream = spoken  # type: ignore[method-assign]


def _answers(request: Any) -> int:
    return sum(message.role == "assistant" for message in request.messages)
