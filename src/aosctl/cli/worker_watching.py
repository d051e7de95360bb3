"""Who watches a worker: its port with health and metrics, and OpenTelemetry."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from aosctl import __version__
from aosctl.cli.worker_port import PLAIN, Page, Pages, Port, listening
from aosctl.domain.worker_metrics import Metrics

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.domain.worker import Order, Worker

_STUCK_SECONDS = 60.0
METRICS = "text/plain; version=0.0.4; charset=utf-8"


class Desk:
    """Listens from the beginning on, and answers as soon as the worker is there."""

    def __init__(self, order: Order, where: str) -> None:
        """Listen. Raises UsageError, AosError."""
        self._at = listening(where)
        self.metrics = Metrics(__version__, order.concurrency, tenants=order.tenant_labels)

    @property
    def address(self) -> str:
        host, port = self._at.getsockname()[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    @contextmanager
    def answering(
        self, worker: Worker, ping: Callable[[], None], served: tuple[UUID, str] | None
    ) -> Iterator[None]:
        """Answer in the block. `ping` asks the database, over a connection that turns use;
        `served`: the one tenant that is served, and its name.
        """
        self.metrics.watch(
            served, lambda: float(not worker.is_away), lambda: float(worker.is_resting)
        )
        pages: Pages = {
            "/healthz": partial(_health, worker),
            "/readyz": partial(_readiness, worker, ping),
            "/metrics": lambda: Page(200, self.metrics.text(), METRICS),
        }
        port = Port(self._at, pages, slow=("/readyz",))
        port.start()
        try:
            yield
        finally:
            port.close()

    def close(self) -> None:
        """Hear nobody any more."""
        self._at.close()


def _health(worker: Worker) -> Page:
    stuck = worker.seconds_stuck
    if stuck > _STUCK_SECONDS:
        return Page(500, f"stuck for {stuck:.0f} s\n".encode())
    return Page(200, b"ok\n", PLAIN)


def _readiness(worker: Worker, ping: Callable[[], None]) -> Page:
    """Say whether turns are taken: not while resting, nor without the database."""
    from aosctl.errors import AosError

    if worker.is_resting:
        return Page(503, b"draining\n")
    if worker.is_away:
        return Page(503, b"the database does not answer\n")
    try:
        ping()
    except AosError:  # its words may name the server, which is not everybody's business
        return Page(503, b"the database does not answer\n")
    return Page(200, b"ready\n")
