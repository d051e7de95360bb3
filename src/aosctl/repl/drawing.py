"""What the chat's application stands on: an output that is written at once, and resizing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from prompt_toolkit.application import Application  # noqa: TID253 - only `view` imports this, when it draws
from prompt_toolkit.output.vt100 import Vt100_Output  # noqa: TID253 - only `view` imports this, when it draws

from aosctl.repl.resizing import find_beginning


class WholeOutput(Vt100_Output):
    """Writes what is drawn in a `whole` block in one piece, so that nothing flickers.

    It never asks where the cursor is: the application stands below what was printed last.
    """

    _held = 0

    @classmethod
    def on(cls, stream: TextIO) -> WholeOutput:
        """Return the output of a terminal."""
        made = cls.from_pty(stream, term=os.environ.get("TERM"))
        made.enable_cpr = False
        assert isinstance(made, cls)  # noqa: S101 - what from_pty makes
        return made

    @contextmanager
    def whole(self) -> Iterator[None]:
        self._held += 1
        try:
            yield
        finally:
            self._held -= 1
            self.flush()

    def flush(self) -> None:
        if not self._held:
            super().flush()


class ChatApplication(Application[None]):
    """An application that is drawn below the scrollback and can be taken away and put back."""

    output: WholeOutput

    def print_above(self, text: str) -> None:
        """Print lines above what is drawn, which is drawn again; in the application's thread."""
        with self.output.whole():
            find_beginning(self)
            self.renderer.erase(leave_alternate_screen=False)
            self.output.write_raw(text)
            self._redraw()

    @property
    def is_aside(self) -> bool:
        """Tell whether something else has the terminal for now."""
        return self._running_in_terminal

    def _on_resize(self) -> None:
        if self.is_running and not self.is_aside:
            self._redraw()

    def _redraw(self, render_as_done: bool = False) -> None:
        """Draw what has changed; after the terminal's size has, all of it."""
        with self.output.whole():
            if not self.is_aside and find_beginning(self):
                self.renderer.erase(leave_alternate_screen=False)
            super()._redraw(render_as_done)
