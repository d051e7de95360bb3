"""Heartbeats: prolong the leases of turns that are being driven, from a connection of their own.

A beat locks and writes the run's row, so beats are rare. Between them the same connection looks,
reading only, whether the turn is still ours: one that was cancelled elsewhere ends within a second.
Both say whether somebody is attached to the run, who is then shown the answer as it comes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from aosctl.db.heartbeat import beat, check
from aosctl.db.hot import Link
from aosctl.db.leases import LEASE_SECONDS, Lease
from aosctl.domain.live import WRITE_SECONDS, Draft, Write
from aosctl.errors import AosError, DatabaseUnavailable

BEAT_SECONDS = LEASE_SECONDS / 3
LOOK_SECONDS = 0.75


@dataclass(slots=True)
class _Driven:
    """A lease, and when it is to be prolonged and looked at next.

    `draft` is the answer that is being given, `live` while somebody is attached who wants it.
    """

    lease: Lease
    beat_at: float
    look_at: float
    held_until: float
    draft: Draft | None = None
    live: bool = False
    write_at: float = 0.0

    @property
    def due_at(self) -> float:
        if self.live and self.draft is not None:
            return min(self.beat_at, self.look_at, self.write_at)
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

    @contextmanager
    def showing(self, lease: Lease, draft: Draft) -> Iterator[None]:
        """Show what the draft comes to hold in the block, while somebody is attached."""
        due = self._due.get(lease.token)
        if due is None:  # the lease is lost
            yield
            return
        with self._wake:
            due.draft = draft
            if due.live:
                self._wake.notify()
        try:
            yield
        finally:
            due.draft = None

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
            next_one = self._next()
            if next_one is None:
                break
            due, act = next_one
            asked = time.monotonic()
            try:
                link = link or self._open_link()
                answer = act(link, due.lease)
            except DatabaseUnavailable:
                continue  # the next write finds out; the lease may still be ours
            except AosError as error:
                self._refused(due, act, error)
            else:
                self._learn(due, act, asked, answer)
        if link is not None:
            link.close()

    def _refused(self, due: _Driven, act: Write, error: AosError) -> None:
        with self._wake:
            if act not in (beat, check):
                due.live = False  # until the next look, which knows what is wrong
            elif self._due.pop(due.lease.token, None) is not None:  # it is still driven
                self._lost[due.lease.token] = error

    def _learn(self, due: _Driven, act: Write, asked: float, answer: bool) -> None:
        """Note until when a beat has prolonged the lease, and whether somebody is attached."""
        with self._wake:
            due.live = answer
            if act is beat:
                due.held_until = asked + due.lease.seconds

    def _next(self) -> tuple[_Driven, Write] | None:
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
                    return due, self._turn_to(due, now)
        return None

    def _turn_to(self, due: _Driven, now: float) -> Write:
        """Put off what is due, and return it: a beat sees as much as a look."""
        if min(due.beat_at, due.look_at) > now and due.draft is not None:
            due.write_at = now + WRITE_SECONDS
            return due.draft.write
        due.look_at = now + LOOK_SECONDS
        if due.beat_at > now:
            return check
        due.beat_at = now + self._seconds
        return beat
