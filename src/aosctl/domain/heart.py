"""Heartbeats: prolong the leases of turns that are being driven, from a connection of their own.

A beat locks and writes the run's row, so beats are rare. Between them the same connection looks,
reading only, whether the turn is still ours: one that was cancelled elsewhere ends within a second.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from aosctl.db.hot import Link
from aosctl.db.worker import LEASE_SECONDS, Lease, beat, check
from aosctl.errors import AosError, DatabaseUnavailable

BEAT_SECONDS = LEASE_SECONDS / 3
LOOK_SECONDS = 0.75


@dataclass(slots=True)
class _Driven:
    """A lease, and when it is to be prolonged and looked at next."""

    lease: Lease
    beat_at: float
    look_at: float
    held_until: float

    @property
    def due_at(self) -> float:
        return min(self.beat_at, self.look_at)


class Heart:
    """One thread that beats for every lease it is told of; it connects at the first look."""

    def __init__(self, open_link: Callable[[], Link], beat_seconds: float = BEAT_SECONDS) -> None:
        self._open_link = open_link
        self._seconds = beat_seconds
        self._due: dict[UUID, _Driven] = {}
        self._lost: dict[UUID, AosError] = {}
        self._wake = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    @contextmanager
    def beating(self, lease: Lease) -> Iterator[None]:
        """Keep the lease alive in the block."""
        with self._wake:
            now = time.monotonic()
            self._due[lease.token] = _Driven(
                lease, now + self._seconds, now + LOOK_SECONDS, lease.since + lease.seconds
            )
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
        """Return why the lease was found gone; None while it is ours."""
        return self._lost.get(lease.token)

    def is_fresh(self, lease: Lease) -> bool:
        """Tell whether the lease can't have run out, by this machine's own steady clock."""
        with self._wake:
            due = self._due.get(lease.token)
            return due is not None and time.monotonic() < due.held_until

    def close(self) -> None:
        with self._wake:
            self._closed = True
            self._wake.notify()

    def _run(self) -> None:
        link: Link | None = None
        while True:
            due = self._next()
            if due is None:
                break
            lease, act = due
            asked = time.monotonic()
            try:
                link = link or self._open_link()
                act(link, lease)
                self._held_since(asked, lease, act)
            except DatabaseUnavailable:
                continue  # the next write finds out; the lease may still be ours
            except AosError as error:
                with self._wake:
                    if self._due.pop(lease.token, None) is not None:  # it is still driven
                        self._lost[lease.token] = error
        if link is not None:
            link.close()

    def _held_since(self, asked: float, lease: Lease, act: object) -> None:
        """Note until when a beat has prolonged the lease; a look has not."""
        with self._wake:
            due = self._due.get(lease.token)
            if due is not None and act is beat:
                due.held_until = asked + lease.seconds

    def _next(self) -> tuple[Lease, Callable[[Link, Lease], None]] | None:
        """Wait until a lease is due; return it and what to do about it, None when closed."""
        with self._wake:
            while not self._closed:
                now = time.monotonic()
                due = min(self._due.values(), key=lambda each: each.due_at, default=None)
                if due is None:
                    self._wake.wait()
                elif due.due_at > now:
                    self._wake.wait(due.due_at - now)
                else:
                    return due.lease, self._turn_to(due, now)
        return None

    def _turn_to(self, due: _Driven, now: float) -> Callable[[Link, Lease], None]:
        """Put off what is due, and return it: a beat sees as much as a look."""
        due.look_at = now + LOOK_SECONDS
        if due.beat_at > now:
            return check
        due.beat_at = now + self._seconds
        return beat
