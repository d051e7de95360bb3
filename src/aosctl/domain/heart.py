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

from aosctl.db.heartbeat import Care, look_after
from aosctl.db.hot import Link
from aosctl.db.leases import LEASE_SECONDS, Lease
from aosctl.domain.live import WRITE_SECONDS, Draft
from aosctl.errors import AosError, DatabaseUnavailable

BEAT_SECONDS = LEASE_SECONDS / 3
LOOK_SECONDS = 0.75
LOOKS_A_SECOND = 200
"""Of all turns together: where hundreds are driven, each is looked at less often."""
TOGETHER_SECONDS = 0.1
"""What is due so soon goes along in the same round trip."""
MOST_TOGETHER = 64


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
        while (due := self._next()) is not None:
            cares, drafts = due
            try:
                link = link or self._open_link()
                if cares:
                    self._look_after(link, cares)
                for each in drafts:
                    self._write(link, each)
            except DatabaseUnavailable:
                continue  # the next write finds out; the leases may still be ours
        if link is not None:
            link.close()

    def _look_after(self, link: Link, cares: list[tuple[_Driven, Care]]) -> None:
        asked = time.monotonic()
        came = look_after(link, [care for _, care in cares])
        with self._wake:
            for (due, care), answer in zip(cares, came, strict=True):
                if isinstance(answer, DatabaseUnavailable):  # another holds the run's lock
                    due.beat_at = min(due.beat_at, due.look_at) if care.beats else due.beat_at
                elif isinstance(answer, AosError):
                    if self._due.pop(due.lease.token, None) is not None:  # it is still driven
                        self._lost[due.lease.token] = answer
                else:
                    due.live = answer
                    if care.beats:
                        due.held_until = asked + due.lease.seconds

    def _write(self, link: Link, due: _Driven) -> None:
        """Show what the model has said since; False until the next look where that goes wrong."""
        draft = due.draft
        try:
            due.live = draft is not None and draft.write(link, due.lease)
        except DatabaseUnavailable:
            raise
        except AosError:
            due.live = False

    def _next(self) -> tuple[list[tuple[_Driven, Care]], list[_Driven]] | None:
        """Wait until something is due, and put it off; None when closed.

        Returns the leases to look after, together with those that are nearly due, and the drafts
        to write.
        """
        with self._wake:
            while not self._closed:
                now = time.monotonic()
                due_at = min((each.due_at for each in self._due.values()), default=None)
                if due_at is None:
                    self._wake.wait()
                elif due_at > now:
                    self._wake.wait(due_at - now)
                else:
                    return self._cares(now), self._drafts(now)
        return None

    def _cares(self, now: float) -> list[tuple[_Driven, Care]]:
        soon = now + TOGETHER_SECONDS
        due = [each for each in self._due.values() if min(each.beat_at, each.look_at) <= soon]
        if not any(min(each.beat_at, each.look_at) <= now for each in due):
            return []
        due.sort(key=lambda each: min(each.beat_at, each.look_at))
        pause = max(LOOK_SECONDS, len(self._due) / LOOKS_A_SECOND)
        cares = []
        for each in due[:MOST_TOGETHER]:
            beats = each.beat_at <= soon
            each.look_at = now + pause
            if beats:
                each.beat_at = now + self._seconds
            cares.append((each, Care(each.lease, beats)))
        return cares

    def _drafts(self, now: float) -> list[_Driven]:
        due = [d for d in self._due.values() if d.live and d.draft and d.write_at <= now]
        for each in due:
            each.write_at = now + WRITE_SECONDS
        return due
