"""One deadline for all that a call does, and an end at once when it is stopped."""

from __future__ import annotations

import select
import socket
import time
from threading import Event

from aosctl.domain.tools.web.faults import Stopped, TimeIsUp

_SLICE_SECONDS = 0.05
"""How long one wait is; an Event wakes nobody who waits for a socket."""


class Deadline:
    """How long a call may still take; every wait of it goes through here."""

    def __init__(self, seconds: float, stop: Event) -> None:
        self._seconds = seconds
        self._end = time.monotonic() + seconds
        self._stop = stop

    def left(self) -> float:
        """Return the seconds that are left. Raises TimeIsUp, Stopped."""
        if self._stop.is_set():
            raise Stopped("the call was stopped")
        seconds = self._end - time.monotonic()
        if seconds <= 0:
            raise TimeIsUp(f"no whole answer within {self._seconds:g} s")
        return seconds

    def wait_for_socket(
        self, waited: socket.socket, events: int, until: float | None = None
    ) -> bool:
        """Wait until a socket is ready; False when the moment `until` has come before."""
        poll = select.poll()
        poll.register(waited, events)
        while True:
            seconds = min(self.left(), _SLICE_SECONDS)
            if poll.poll(seconds * 1_000):
                return True
            if until is not None and time.monotonic() >= until:
                return False

    def wait_for_event(self, event: Event) -> None:
        """Wait until an event of another thread is set."""
        while not event.wait(min(self.left(), _SLICE_SECONDS)):
            pass
