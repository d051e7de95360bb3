"""`aosctl worker` with two tools that act outside, the client's log, and a failpoint.

A nursery that has imported everything forks workers for the asking: one line of JSON a worker on
stdin, {"argv", "env", "log"}; one line on stdout, its process id. Python starts once.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

import aosctl.cli.app
import aosctl.cli.worker
import aosctl.db.bell
import aosctl.domain.worker
import aosctl.providers.script
from aosctl.cli import wiring_tools, wiring_worker
from aosctl.domain.tools.base import Call, ToolResult
from recovery import failpoints, naive
from recovery.failpoints import Failpoint
from recovery.journal import FOLDER, Journal


class Outside:
    """A skill whose effect is a line in a file, as a mail or a payment would be elsewhere.

    The idempotent one looks the key up first, as a service with idempotency keys does.
    """

    def __init__(self, name: str, journal: Journal, failpoint: Failpoint, *, keyed: bool) -> None:
        self.name = name
        self._journal = journal
        self._failpoint = failpoint
        self._keyed = keyed

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        self._failpoint.reach("acting", self.name)
        self._journal.act(self.name, call.key, args["note"], keyed=self._keyed)
        self._failpoint.reach("acted", self.name)
        return ToolResult(True, {"sent": args["note"]})


def work(argv: list[str]) -> NoReturn:
    """Be `aosctl worker`."""
    _set_clock_off(float(os.environ.get(failpoints.SKEW, "0")))
    journal = Journal(Path(os.environ[FOLDER]))
    failpoint = Failpoint(os.environ.get(failpoints.VARIABLE), journal)
    failpoints.install(failpoint, journal)
    outside = {
        name: Outside(name, journal, failpoint, keyed=name == "put_note")
        for name in ("post_note", "put_note")
    }
    wiring_tools.tools = wiring_worker.tools = lambda **_: outside
    if os.environ.get("RECOVERY_DEAF"):
        aosctl.db.bell.Bell._hear = _sleep  # type: ignore[method-assign]
    from aosctl.__main__ import entry

    sys.argv = ["aosctl", *argv]
    entry()


def _set_clock_off(seconds: float) -> None:
    """Let this process believe that it is another time of day; what it measures stays right."""
    now, now_ns = time.time, time.time_ns
    time.time = lambda: now() + seconds
    time.time_ns = lambda: now_ns() + int(seconds * 1_000_000_000)


def _sleep(_self: Any, _connection: Any, until: float, wanted: Any) -> bool:
    """Hear nothing: every notice is lost."""
    while wanted() and (left := until - time.monotonic()) > 0:
        time.sleep(min(left, 0.05))
    return False


def nurse() -> None:
    """Fork a worker for each line of stdin, until it is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them: no zombies
    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            os.environ.update(order["env"])
            log = os.open(order["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            null = os.open(os.devnull, os.O_RDONLY)
            for ours, theirs in ((null, 0), (log, 1), (log, 2)):
                os.dup2(ours, theirs)
            if order["argv"][0] == "naive":
                naive.work(*order["argv"][1:])
            work(order["argv"])
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    nurse()
