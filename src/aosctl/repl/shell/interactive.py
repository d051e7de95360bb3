"""The shell at a terminal: prompts, history, the status line, the bell."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from aosctl.domain.console import Console
from aosctl.errors import AosError
from aosctl.repl.shell.completer import Menu, completer_of
from aosctl.repl.shell.frame import Frame
from aosctl.repl.shell.lines import is_open
from aosctl.repl.shell.names import SqlNames
from aosctl.repl.shell.plain_prompt import PlainLinePrompt, news_of
from aosctl.repl.shell.prompts import LinePrompt
from aosctl.repl.shell.shell import Leave, Shell
from aosctl.repl.shell.status import Status, Watcher, status_text
from aosctl.repl.sql_console import INTERRUPTED
from aosctl.repl.sql_pieces import file_pieces, pieces
from aosctl.terminal import is_dumb

_STATES = {"idle": "", "open": "*", "failed": "!"}


@dataclass(frozen=True, slots=True)
class Doors:
    """The ways to the database: for SQL, given what to call when it was lost, and to watch."""

    console: Callable[[Callable[[], None]], Console]
    watcher: Callable[[], Watcher]


class Interactive:
    """One person's shell, until they leave."""

    def __init__(self, frame: Frame, doors: Doors, folder: Path, *, plain: bool) -> None:
        self._frame = frame
        self._in_sql = False
        self._names = SqlNames(lambda: doors.console(lambda: None).catalog())
        self._status = Status(doors.watcher, self._redraw, self._ring)
        self._shell = Shell(frame, doors.console, self._sql_loop, self._names.refresh)
        self._shell.looks.expanded = "auto"
        self._shell.moved = self._move
        self._shell.learn = self._status.learn
        self._verbs: LinePrompt | PlainLinePrompt
        self._sql: LinePrompt | PlainLinePrompt
        if is_dumb(os.environ):
            news = news_of(self._words)
            self._verbs = PlainLinePrompt(is_open, news)
            self._sql = PlainLinePrompt(_sql_is_open, news)
            return
        completer = completer_of(Menu(frame, self._names), lambda: self._in_sql)
        self._verbs = LinePrompt(
            folder / "shell_history", completer, is_open, self._words, plain=plain
        )
        self._sql = LinePrompt(
            folder / "sql_history",
            completer,
            _sql_is_open,
            self._words,
            recorded=_recorded,
            while_typing=True,
            plain=plain,
        )

    def run(self) -> int:
        """Ask and run until the person leaves; return 0."""
        # To connect takes what is needed to draw: first the prompt, then that.
        self._verbs.when_drawn(self._status.start)
        sys.stdout.write(_greeting())
        status = 0
        try:
            while True:
                mark = f" [{status}]" if status else ""
                try:
                    status = self._shell.run_text(self._verbs.ask(self._label, mark))
                    if status == INTERRUPTED:
                        sys.stdout.write("\n")  # the terminal has written ^C
                except KeyboardInterrupt:
                    status = 0
                except AosError as error:
                    status = self._frame.report(error)
        except (EOFError, Leave):
            return 0
        finally:
            self._status.close()
            self._shell.close()

    def _sql_loop(self) -> int:
        """Ask for SQL until the person leaves its prompt; return 0."""
        console = self._shell.sql.console
        self._names.want()
        self._in_sql = True
        kept = ""
        try:
            while True:
                sign = f"={_STATES[console.state]}> "
                try:
                    text = self._sql.ask(self._label, sign=sign, begun=kept).strip()
                    if _is_leaving(text):
                        return 0
                    kept = self._run_sql(text)
                except KeyboardInterrupt:
                    kept = ""
                except EOFError:
                    return 0
        finally:
            self._in_sql = False
            if console.roll_back():
                sys.stderr.write("the open transaction is rolled back\n")

    def _run_sql(self, text: str) -> str:
        r"""Run what is whole of a text; return the statement that a `\` command left unfinished."""
        cut = pieces(text)
        rest = cut.left if cut.is_asked else ""
        for _, piece in cut.whole if rest else file_pieces(text):
            if self._run_piece(piece):
                break
        return rest and f"{rest}\n"

    def _run_piece(self, piece: str) -> int:
        try:
            command, _, rest = piece.partition(" ")
            if command == "\\pager":
                return self._shell.set_pager(rest.strip())
            return self._shell.sql.run(piece)
        except AosError as error:
            return self._frame.report(error)
        except KeyboardInterrupt:
            return INTERRUPTED

    def _label(self) -> str:
        return self._frame.label or self._status.seen.tenant or "aosctl"

    def _words(self) -> str:
        return status_text(self._status.seen)

    def _move(self) -> None:
        self._names.forget()
        self._status.move()

    def _redraw(self) -> None:
        (self._sql if self._in_sql else self._verbs).redraw()

    def _ring(self) -> None:
        (self._sql if self._in_sql else self._verbs).ring()


def _greeting() -> str:
    words = "help lists the verbs, \\sql is for SQL, Ctrl-D leaves"
    return textwrap.fill(words, max(shutil.get_terminal_size().columns - 1, 1)) + "\n"


def _sql_is_open(text: str) -> bool:
    """Tell whether SQL goes on: no semicolon yet, but for commands and an empty line."""
    if not text.strip() or _is_leaving(text):
        return False
    cut = pieces(text)
    return bool(cut.left) and not cut.is_asked


def _recorded(text: str) -> str:
    """Return what of a text the history keeps: of a command in a statement the command alone."""
    cut = pieces(text)
    return cut.whole[-1][1] if cut.is_asked and cut.whole else text


def _is_leaving(text: str) -> bool:
    r"""Tell whether the last line of a text leaves: `\q` does, whatever stands before it."""
    word = text.strip().rstrip(";").rstrip()
    return word in ("\\sql", "exit", "quit") or word.rpartition("\n")[2].strip() == "\\q"
