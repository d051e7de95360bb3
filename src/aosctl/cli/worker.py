"""`aosctl worker`: drive runs in the background."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.boundary import INTERRUPTED
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.domain.worker import Report, Worker

_MOST = 1000
_LEAST_CONNECTIONS, _MOST_CONNECTIONS = 5, 100
_M_ARENA_MAX = -8  # malloc.h
_ENDING = (signal.SIGINT, signal.SIGTERM)


def command(
    ctx: typer.Context,
    concurrency: Annotated[
        int, typer.Option("--concurrency", metavar="N", help="Turns at once")
    ] = 4,
    once: Annotated[bool, typer.Option("--once", help="Drive what waits now, then end")] = False,
    lease: Annotated[
        int,
        typer.Option(
            "--lease",
            metavar="SECONDS",
            help="When another takes a dead worker's turn over",
        ),
    ] = 20,
    drain: Annotated[
        int,
        typer.Option(
            "--drain-seconds",
            metavar="N",
            help="How long turns may end their step after SIGTERM",
        ),
    ] = 25,
    connections: Annotated[
        int, typer.Option("--connections", metavar="N", help="To the database, at most")
    ] = 8,
    listen: Annotated[
        str | None,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Serve /healthz, /readyz and /metrics there"
        ),
    ] = None,
    tenant_labels: Annotated[
        bool, typer.Option("--tenant-labels", help="Count each tenant apart in the metrics")
    ] = False,
) -> int:
    """Drive the turns that wait, of every tenant, or with -n of one.

    What nobody drives at a terminal goes on here: a turn whose approval was decided after the chat
    had closed, or whose chat or worker was killed, messages that an application has sent. As many
    workers as you like share the work. It connects as the worker (aos_worker, or the context's own)
    and needs no principal in any tenant. One line on stderr for each turn. Schedules
    are fired when their slots come, tenants' webhooks are told (spec.webhook), and what a tenant
    keeps no longer goes (spec.retention).

    --listen answers who watches over it: whether it works, whether it takes turns, and metrics as
    Prometheus reads them. PORT alone is one of 127.0.0.1. There is neither TLS nor a password.

    No connection is held while a model or a tool works: 8 are enough for hundreds of turns at once.

    Ctrl-C and SIGTERM let each turn end its step and hand it back, without the step what takes
    longer than --drain-seconds; a second one ends at once.

    Examples:
      aosctl worker
      aosctl worker --concurrency 500 --tenant tech_corp
      aosctl worker --listen 127.0.0.1:9464
      aosctl worker --once
    """
    if not 1 <= concurrency <= _MOST:
        raise UsageError(f"--concurrency is 1 to {_MOST}, not {concurrency}")
    if not 1 <= lease <= 3600:
        raise UsageError(f"--lease is 1 to 3600 seconds, not {lease}")
    if not 0 <= drain <= 3600:
        raise UsageError(f"--drain-seconds is 0 to 3600, not {drain}")
    if not _LEAST_CONNECTIONS <= connections <= _MOST_CONNECTIONS:
        asked = f"{_LEAST_CONNECTIONS} to {_MOST_CONNECTIONS}"
        raise UsageError(f"--connections is {asked}, not {connections}")
    from aosctl.cli.wiring_worker import open_worker
    from aosctl.domain.worker import Order
    from aosctl.repl.words import counted

    given = globals_of(ctx)
    _share_memory()

    def note(text: str) -> None:
        output.note(text, quiet=given.quiet)

    if tenant_labels and listen is None:
        raise UsageError("--tenant-labels goes with --listen", "--listen 127.0.0.1:9464")
    order = Order(concurrency, lease, drain, connections, once, listen, tenant_labels)
    with open_worker(given, order, lambda report: note(_line(report)), note) as worker:
        if not once:
            whose = f"the tenant {given.tenant}" if given.tenant else "every tenant"
            note(f"serving {whose}, {counted(concurrency, 'turn')} at once; Ctrl-C ends it")
        with _Signals(worker, note) as signals:
            worker.run(once=once)
    return INTERRUPTED if signals.count > 1 else 0


class _Signals:
    """Counts SIGINT and SIGTERM in a `with` block: the first lets the worker rest.

    A thread of its own does what they ask for. A handler runs in the middle of what the main thread
    does, which may hold the very lock that it would wait for; a SimpleQueue may be put to there.
    """

    def __init__(self, worker: Worker, note: Callable[[str], None]) -> None:
        self.count = 0
        self._worker = worker
        self._note = note
        self._heard: SimpleQueue[bool] = SimpleQueue()
        self._thread = threading.Thread(target=self._obey, name="signals", daemon=True)

    def __enter__(self) -> _Signals:
        self._thread.start()
        self._before = {
            name: signal.signal(name, lambda *_: self._heard.put(True)) for name in _ENDING
        }
        return self

    def __exit__(self, *_error: object) -> None:
        for name, handler in self._before.items():
            signal.signal(name, handler)
        self._heard.put(False)
        self._thread.join()

    def _obey(self) -> None:
        while self._heard.get():
            self.count += 1
            if self.count > 1:
                self._worker.stop()
                continue
            self._worker.rest()
            if busy := self._worker.busy:
                turns = "turn ends its" if busy == 1 else "turns end their"
                self._note(f"{busy} {turns} step; again to stop at once")


def _share_memory() -> None:
    """Have glibc keep what its threads free in two places, not in sixteen.

    500 turns in flight take 190 MB so, and up to 440 otherwise.
    """
    import ctypes

    with suppress(AttributeError, OSError):  # another C library
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 2)


def _line(report: Report) -> str:
    """Return what became of a turn as one line."""
    lease = report.lease
    attempt = f" (attempt {lease.attempt})" if lease.attempt > 1 else ""
    why = " ".join(f": {report.reason}".split()) if report.reason else ""
    return f"{lease.run} turn {lease.turn}{attempt} {report.state} · {report.seconds:.1f}s{why}"
