"""Who watches turns without taking part: metrics and traces, fed by the loop's events.

A watcher is in nobody's way: what goes wrong in it ends neither a turn nor the next event.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Event
from typing import Any, Protocol

from aosctl.db.leases import Lease
from aosctl.domain.loop import Interrupted, Loop
from aosctl.domain.loop_events import LoopEvent, Observer, Outcome
from aosctl.domain.transcript import Transcript
from aosctl.errors import DatabaseUnavailable, IllegalTransition, LeaseLost


class Watched(Protocol):
    """One watcher's view of one turn, while one process drives it."""

    def see(self, event: LoopEvent) -> None:
        """Take note of what the loop tells, in the thread that drives the turn."""
        ...

    def end(self, state: str, known: Transcript, seconds: float) -> None:
        """Take note of how it ended: Report's states."""
        ...


class Watcher(Protocol):
    """Watches all turns of a process."""

    def begin(self, lease: Lease) -> Watched:
        """Return what watches a turn from now on."""
        ...

    def close(self) -> None:
        """Hand over what was noted; takes no longer than a few seconds."""
        ...


def ended_by(error: BaseException) -> str:
    """Return the state of a turn whose driving ended with an error, as Report has it."""
    for kind, state in _STATES:
        if isinstance(error, kind):
            return state
    return "failed"


_STATES: tuple[tuple[type[BaseException], str], ...] = (
    (Interrupted, "released"),
    (KeyboardInterrupt, "released"),
    (LeaseLost, "lost"),
    (IllegalTransition, "ended"),
    (DatabaseUnavailable, "cut off"),
)


def outcome_state(outcome: Outcome) -> str:
    """Return the state of a turn that was driven to an outcome, as Report has it."""
    if outcome.state == "queued":
        return "put off" if outcome.error else "released"
    return outcome.state


class WatchedLoop(Loop):
    """A loop of which every turn is watched."""

    def __init__(self, *given: Any, watchers: Sequence[Watcher], **more: Any) -> None:
        super().__init__(*given, **more)
        self._watchers = watchers

    def drive(self, lease: Lease, observe: Observer, stop: Event) -> Outcome:
        began = time.monotonic()
        views: list[Watched] = []
        for watcher in self._watchers:
            with suppress(Exception):
                views.append(watcher.begin(lease))

        def see(event: LoopEvent) -> None:
            for view in views:
                with suppress(Exception):
                    view.see(event)
            observe(event)

        state = "failed"
        try:
            outcome = super().drive(lease, see, stop)
            state = outcome_state(outcome)
            return outcome
        except BaseException as error:
            state = ended_by(error)
            raise
        finally:
            for view in views:
                with suppress(Exception):
                    view.end(state, self.transcript, time.monotonic() - began)
