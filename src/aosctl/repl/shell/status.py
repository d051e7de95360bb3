"""What the status line knows: looked up in a thread, about every two seconds, never in the way."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from aosctl.errors import AosError
from aosctl.repl.shell.frame import Seen
from aosctl.repl.words import counted

LOOK_SECONDS = 2.0
LONGEST_PAUSE = 32.0
"""Between looks while no database answers."""


class Watcher(Protocol):
    """One connection that looks; closed and made anew when it fails."""

    def look(self) -> Seen:
        """Look once, in one round trip after the first. Raises AosError."""

    def learn_names(self) -> None:
        """Keep the names there are, for completion. Raises AosError."""

    def close(self) -> None: ...


class Status:
    """Keeps looking until it is closed; `changed` is told, from its thread, what is new.

    `ring` is called once for each look that found an approval which was not there before.
    """

    def __init__(
        self,
        watch: Callable[[], Watcher],
        changed: Callable[[], None],
        ring: Callable[[], None],
        *,
        wait: Callable[[threading.Event, float], object] = threading.Event.wait,
    ) -> None:
        self.seen = Seen()
        self._watch = watch
        self._changed = changed
        self._ring = ring
        self._wait = wait
        self._wake = threading.Event()
        self._over = False
        self._stale = True
        self._again = False
        self._thread = threading.Thread(target=self._run, name="status", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def move(self) -> None:
        """Look elsewhere: another tenant or context was chosen."""
        self._again = self._stale = True
        self._wake.set()

    def learn(self) -> None:
        """Learn the names anew at the next look: a line may have made some."""
        self._stale = True

    def close(self) -> None:
        """Stop looking; does not wait for a look under way."""
        self._over = True
        self._wake.set()

    def _run(self) -> None:
        watcher: Watcher | None = None
        known: frozenset[str] | None = None
        pause = LOOK_SECONDS
        while not self._over:
            if self._again:
                self._again = False
                _close(watcher)
                watcher = known = None
            try:
                watcher = watcher or self._watch()
                seen = watcher.look()
                if self._stale:
                    self._stale = False
                    watcher.learn_names()
                pause = LOOK_SECONDS
            except AosError as error:
                _close(watcher)
                watcher = None
                seen = self.seen._replace(fault=error.message, pending=frozenset())
                pause = min(pause * 2, LONGEST_PAUSE)
            if not self._again:
                self._tell(seen, known)
                known = known if seen.fault else seen.pending
                self._wait(self._wake, pause)
            self._wake.clear()
        _close(watcher)

    def _tell(self, seen: Seen, known: frozenset[str] | None) -> None:
        is_news = known is not None and not seen.pending <= known
        if seen != self.seen:
            self.seen = seen
            self._changed()
        if is_news:
            self._ring()


def _close(watcher: Watcher | None) -> None:
    if watcher is not None:
        watcher.close()


def status_text(seen: Seen) -> str:
    """Return the words of the status line."""
    if seen.fault:
        return f"no connection: {seen.fault}"
    if not (seen.context or seen.principal):
        return "connecting …"
    waiting = len(seen.pending)
    pending = f"{counted(waiting, 'approval')} pending" if waiting else "nothing to approve"
    who = f"{seen.principal}@{seen.tenant}" if seen.tenant else f"{seen.principal}, no tenant"
    return " · ".join(filter(None, (pending, who, seen.context)))
