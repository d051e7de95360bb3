"""Heartbeats: prolong the leases of turns that are being driven, from a connection of their own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from aosctl.db.hot import Link
from aosctl.db.worker import LEASE_SECONDS, Lease, beat
from aosctl.errors import AosError, DatabaseUnavailable

BEAT_SECONDS = LEASE_SECONDS / 3


class Heart:
    """One thread that beats for every lease it is told of; it connects at the first beat."""

    def __init__(self, open_link: Callable[[], Link], beat_seconds: float = BEAT_SECONDS) -> None:
        self._open_link = open_link
        self._seconds = beat_seconds
        self._due: dict[UUID, tuple[float, Lease]] = {}
        self._lost: dict[UUID, AosError] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def beating(self, lease: Lease) -> Iterator[None]:
        """Keep the lease alive in the block."""
        with self._wake:
            self._due[lease.token] = (time.monotonic() + self._seconds, lease)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
                self._thread.start()
            elif len(self._due) == 1:
                self._wake.notify()
        try:
            yield
        finally:
            with self._wake:
                self._due.pop(lease.token, None)
                self._lost.pop(lease.token, None)

    def lost(self, lease: Lease) -> AosError | None:
        """Return why a beat found the lease gone; None while it is ours."""
        return self._lost.get(lease.token)

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _run(self) -> None:
        link: Link | None = None
        while True:
            lease = self._next()
            if lease is None:
                break
            try:
                link = link or self._open_link()
                beat(link, lease)
            except DatabaseUnavailable:
                continue  # the next write finds out; the lease may still be ours
            except AosError as error:
                with self._wake:
                    if self._due.pop(lease.token, None) is not None:  # it is still driven
                        self._lost[lease.token] = error
        if link is not None:
            link.close()

    def _next(self) -> Lease | None:
        """Wait until a lease is due, and put its next beat off; None when closed."""
        with self._wake:
            while not self._closed:
                now = time.monotonic()
                due = min(self._due.values(), key=lambda item: item[0], default=None)
                if due is None:
                    self._wake.wait()
                elif due[0] > now:
                    self._wake.wait(due[0] - now)
                else:
                    self._due[due[1].token] = (now + self._seconds, due[1])
                    return due[1]
        return None
