"""The thread that drives a turn, and the Ctrl-C that is counted while it does."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from aosctl.domain.loop_events import LoopEvent, Observer

T = TypeVar("T")
GRACE_SECONDS = 0.5


class Abandoned(Exception):
    """The turn did not stop in time; its thread is left to itself."""


class TurnThread(Generic[T]):
    """A thread that drives a turn and can be left to itself."""

    def __init__(self, act: Callable[[Observer, threading.Event], T], observe: Observer) -> None:
        self.done = threading.Event()
        self._act = act
        self._observe = observe
        self._stop = threading.Event()
        self._left = False
        self._results: list[T] = []
        self._failure: BaseException | None = None

    def start(self) -> None:
        threading.Thread(target=self._run, name="turn", daemon=True).start()

    def abandon_unless_it_stops(self) -> None:
        """Ask it to stop, and show nothing more of it. Raises Abandoned when it does not."""
        self.leave()
        self._stop.set()
        if not self.done.wait(GRACE_SECONDS):
            raise Abandoned  # it still stops, and cancels no turn but its own

    def leave(self) -> None:
        """Show nothing more of it."""
        self._left = True

    def result(self) -> T:
        """Return what it returned, or raise what it raised."""
        if self._failure is not None:
            raise self._failure
        return self._results[0]

    def _run(self) -> None:
        try:
            self._results.append(self._act(self._see, self._stop))
        except BaseException as error:
            self._failure = error
        finally:
            self.done.set()

    def _see(self, event: LoopEvent) -> None:
        if not self._left:
            self._observe(event)


class Interrupts:
    """Counts Ctrl-C in a `with` block instead of raising KeyboardInterrupt."""

    def __init__(self) -> None:
        self.count = 0

    def __enter__(self) -> Interrupts:
        def heard(_number: int, _frame: object) -> None:
            self.count += 1

        self._before = signal.signal(signal.SIGINT, heard)
        return self

    def __exit__(self, *_error: object) -> None:
        signal.signal(signal.SIGINT, self._before)
