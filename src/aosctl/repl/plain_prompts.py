"""The prompts of a terminal that moves no cursor (TERM=dumb): a line at a time, as it edits it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from select import select
from typing import TYPE_CHECKING, TextIO

from aosctl.repl.keyboard import Keyboard
from aosctl.repl.prompt import LOOK_SECONDS, Handlers, Look, Moved

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer


class PlainPrompts:
    """Asks on `output` and reads lines from standard input; prints letters and nothing else."""

    keyboard = Keyboard
    handlers: Handlers | None = None
    completer: Completer | None = None
    detached = False
    in_turn = False

    def __init__(self, output: TextIO) -> None:
        self._output = output

    def prepare(self) -> None:
        """Do nothing: a prompt is drawn when it asks."""

    def open(self) -> None:
        """Do nothing, likewise."""

    def close(self) -> None:
        """Do nothing, likewise."""

    def keep_queued(self) -> None:
        """Do nothing: the turn keeps what was typed meanwhile."""

    def ring(self, _text: str) -> None:
        """Call the person to the terminal."""
        self._write("\a")

    def ring_unseen(self, text: str, _seconds: float) -> None:
        """Call the person, who was not at the prompt meanwhile: there was none."""
        self.ring(text)

    def handed_over(self) -> AbstractContextManager[None]:
        """Leave the terminal to an editor: nothing of ours is on it."""
        return nullcontext()

    def message(
        self,
        typed: str,
        _footer: Callable[[int], str],
        look: Look | None = None,
        *,
        at_once: bool = False,
    ) -> str | Moved:
        r"""Ask for a message; a line that ends with \ goes on in the next one.

        `typed`, which was not sent, is shown: the line can't begin with it. Raises EOFError for
        Ctrl-D, KeyboardInterrupt for Ctrl-C.
        """
        if typed:
            self._write(f"not sent: {typed}\n")
        lines: list[str] = []
        while True:
            line = self._ask("  " if lines else "> ", None if lines else look, at_once=at_once)
            if isinstance(line, Moved):
                return line
            lines.append(line.removesuffix("\\"))
            if not line.endswith("\\") and (message := "\n".join(lines)).strip():
                return message
            if not line.endswith("\\"):
                lines = []
            at_once = False

    def choose(self, question: str, keys: Mapping[str, str], look: Look) -> str | Moved:
        """Ask for one key and Enter; return what `keys` says for it. Raises as `message`."""
        while True:
            line = self.line(question, look)
            if isinstance(line, Moved):
                return line
            if line.strip() in keys:
                return keys[line.strip()]

    def line(self, question: str, look: Look) -> str | Moved:
        """Ask for one line. Raises as `message`."""
        answer = self._ask(question, look)
        if isinstance(answer, Moved):
            forget_typed()
        return answer

    def _ask(self, question: str, look: Look | None, *, at_once: bool = False) -> str | Moved:
        """Ask for a line, without its break, until `look` says that the question is void."""
        try:
            line = read_line(self._output, question, look, at_once=at_once)
        except KeyboardInterrupt:
            self._write("\n")
            raise
        if line is None:
            return Moved("")
        if not line:
            self._write("\n")
            raise EOFError
        return line.rstrip("\n")

    def _write(self, text: str) -> None:
        self._output.write(text)
        self._output.flush()


def read_line(
    output: TextIO, question: str, is_void: Look | None, *, at_once: bool = False
) -> str | None:
    """Ask at the terminal for a line, as it edits it; "" at its end.

    None once `is_void`, asked once a second meanwhile, and `at_once` as the question stands, says
    so; what was typed and not sent waits then for whoever reads next.
    """
    output.write(question)
    output.flush()
    pause = 0.0 if at_once else LOOK_SECONDS
    while not select([sys.stdin], [], [], pause)[0]:
        pause = LOOK_SECONDS
        if is_void is not None and is_void():
            output.write("\n")
            output.flush()
            return None
    return sys.stdin.readline()


def forget_typed() -> None:
    """Throw away what was typed and not sent, so that it answers no other question."""
    from termios import TCIFLUSH, tcflush

    tcflush(sys.stdin, TCIFLUSH)
