"""The screen of a chat whose prompt stays open: blocks go above it, the live tail right over it."""

from __future__ import annotations

import io
import shutil
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aosctl.repl.expanded import expanded
from aosctl.repl.screen import (
    BOLD,
    DIM,
    SPINNER,
    SPINNER_AFTER_SECONDS,
    Screen,
)
from aosctl.repl.tail import tail_lines
from aosctl.repl.words import seconds, shorten

if TYPE_CHECKING:
    from aosctl.domain.loop_events import CallEnded, LoopEvent
    from aosctl.repl.live import Live

MOST_CALLS = 50
"""How many results Ctrl-O can go back to."""


class LiveScreen(Screen):
    """Shows a turn above the prompt of `live`; what it prints and the tail change at once."""

    def __init__(self, live: Live, *, styled: bool, quiet: bool = False) -> None:
        self._written = io.StringIO()
        super().__init__(self._written, self._written, styled=styled, quiet=quiet)
        self._live_prompt = live
        self._depth = 0
        self._calls: deque[CallEnded] = deque(maxlen=MOST_CALLS)
        self._expanded = 0

    @property
    def left(self) -> bool:
        return self._live_prompt.detached

    @property
    def folds(self) -> bool:
        return True

    @contextmanager
    def _showing(self) -> Iterator[None]:
        with self._lock:
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._depth == 0:
                    self._hand_on()

    def _hand_on(self) -> None:
        """Print what was written, and show what stands above the prompt now."""
        text = self._written.getvalue()
        self._written.seek(0)
        self._written.truncate()
        width, height = shutil.get_terminal_size()
        tail = tuple(tail_lines(self._blocks.unfinished, width, height)) if self._doing else ()
        self._live_prompt.update(text, tail, self._spinner(width))

    def _spinner(self, width: int) -> str:
        passed = time.monotonic() - self._since
        if self._quiet or not self._doing or passed < SPINNER_AFTER_SECONDS:
            return ""
        frame = SPINNER[int(passed * 10) % len(SPINNER)]
        took = f" · {seconds(passed)}" if self._timed else ""
        return f"{frame} {shorten(self._doing, max(width - 4 - len(took), 8))}{took}"

    def tick(self) -> None:
        with self._showing():
            pass

    def doing(self, text: str) -> None:
        with self._showing():
            since = self._since
            self._do(text, timed=False)
            self._since = min(since, time.monotonic() - SPINNER_AFTER_SECONDS)

    def observe(self, event: LoopEvent) -> None:
        from aosctl.domain.loop_events import CallEnded

        with self._showing():
            if isinstance(event, CallEnded):
                self._calls.append(event)
                self._expanded = 0
            super().observe(event)

    def expand(self) -> None:
        """Print the last call in full, the next time the one before it, and so on."""
        with self._showing():
            if self._expanded >= len(self._calls):
                what = "no call before that one" if self._calls else "no call to show in full yet"
                self._line(self.style(what, DIM), "note")
                return
            self._expanded += 1
            call = self._calls[-self._expanded]
            title, lines = expanded(call, self.width)
            self._separate(self._side, "box")
            self._line("\n".join([self.style(title, BOLD), *lines]), "box")

    def _text(self, text: str) -> None:
        self._spoken = True
        for block in self._blocks.feed(text):
            self._block(block)
        self._do("writing")

    def _call_for(self, what: str) -> None:
        self._live_prompt.ring(what)
