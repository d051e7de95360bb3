"""The loop: a prompt, a line, its verb, and again; and the lines of a file without a prompt."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress

from aosctl.domain.console import Console
from aosctl.errors import AosError, UsageError
from aosctl.repl.shell import running
from aosctl.repl.shell.completer import OWN
from aosctl.repl.shell.frame import Frame
from aosctl.repl.shell.lines import Line, Piece, parse, pieces
from aosctl.repl.sql_console import INTERRUPTED, Looks, SqlConsole
from aosctl.repl.words import beside
from aosctl.terminal import clean

ROWS = (
    ("VERB … | COMMAND", "hand the output to a command of the system; also > FILE, >> FILE"),
    ("\\sql [STATEMENT]", "run SQL as yourself; alone, a prompt for SQL (\\? there)"),
    ("\\d [NAME], \\dt, \\l, …", "what psql shows under these names; \\x, \\timing, \\i FILE too"),
    ("\\pager [on|off]", "show long output in $PAGER"),
    ("!COMMAND", "run a command of the system; ! alone opens its shell"),
    ("use tenant NAME", "work there from now on, in this shell; so with context NAME"),
    ("use", "say where you work"),
    ("exit, quit, Ctrl-D", "leave"),
)
KEYS = """\
TAB completes, Ctrl-R searches what was typed, a backslash at the end goes on in the next line.
"""
_MAKING = frozenset(
    {
        "apply",
        "create",
        "delete",
        "edit",
        "patch",
        "rollout",
        "quickstart",
        "run",
        "chat",
        "fork",
        "replay",
    }
)
"""Verbs after which there may be other names."""


class Leave(Exception):
    """The person has typed exit."""


class Shell:
    """Runs lines, one after the other; knows nothing of where they come from."""

    def __init__(
        self,
        frame: Frame,
        console: Callable[[Callable[[], None]], Console],
        sql_prompt: Callable[[], int] | None = None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.looks = Looks()
        self.moved: Callable[[], None] = lambda: None
        self.learn: Callable[[], None] = lambda: None
        self._frame = frame
        self._sql_prompt = sql_prompt
        self.sql = SqlConsole(
            console(lambda: _say("the connection was lost; this is another one")),
            self.print_answer,
            _complain,
            self.looks,
            changed,
        )

    def run_text(self, text: str) -> int:
        """Run the lines of a text until one fails; return its status. Raises Leave."""
        for piece in pieces(text):
            if status := self.run(piece.text):
                return status
        return 0

    def run(self, text: str) -> int:
        """Run one line; print what goes wrong; return its exit status. Raises Leave."""
        with running.own_terminal():
            try:
                self._frame.check(text.split())
                return self._run(parse(text))
            except AosError as error:
                return self._frame.report(error)
            except KeyboardInterrupt:
                return INTERRUPTED

    def close(self) -> None:
        self.sql.console.close()

    def _run(self, line: Line) -> int:
        if line.kind == "system":
            return running.system(line.rest)
        if line.kind == "backslash":
            return self._command(line.words[0], line.rest)
        match line.words:
            case ("exit" | "quit",):
                raise Leave
            case ("use", *rest):
                return self._use(rest)
            case ("help" | "?", *rest):
                return self._help(line, rest)
            case ():
                return 0
        is_long = self.looks.pager and not line.sink and sys.stdout.isatty()
        if is_long and self._frame.is_paged(line.words):
            line = Line("verb", line.words, sink="|", target="pager")
        status = running.run_line(self._frame, line)
        if _MAKING.intersection(line.words[:3]):
            self.learn()
        return status

    def _help(self, line: Line, rest: list[str]) -> int:
        is_own = rest[:1] and rest[0] in OWN

        def text() -> int:
            status = 0 if is_own else running.run_verb(self._frame, ["help", *rest])
            if is_own or not rest:
                sys.stdout.write(("" if is_own else "\n") + help_text())
            return status

        return running.with_output(line, text)

    def _use(self, words: list[str]) -> int:
        if words:
            if self.sql.console.roll_back():
                _say("the open transaction is rolled back")
            self.sql.console.close()
        said = self._frame.use(words)
        sys.stdout.write(clean(said) + "\n")
        if words:
            self.moved()
        return 0

    def _command(self, word: str, rest: str) -> int:
        if word == "sql" and rest:
            return self._sql(rest)
        if word == "sql":
            if self._sql_prompt is None:
                raise UsageError("\\sql alone needs a terminal", "\\sql STATEMENT")
            return self._sql_prompt()
        if word == "pager":
            return self.set_pager(rest)
        if word in ("?", "help"):
            sys.stdout.write(help_text())
            return 0
        if word in ("q", "quit"):
            raise Leave
        return self.sql.run(f"\\{word} {rest}".strip())

    def _sql(self, text: str) -> int:
        status = self.sql.run(text)
        if self.sql.console.roll_back():
            _say("rolled back: a transaction over several lines is for the prompt of \\sql alone")
            return status or 1
        return status

    def set_pager(self, word: str) -> int:
        """Turn the pager on or off, or the other way. Raises UsageError."""
        if word not in ("", "on", "off"):
            raise UsageError(f'unrecognized value "{clean(word)}" for \\pager', "\\pager on or off")
        self.looks.pager = word == "on" if word else not self.looks.pager
        sys.stdout.write(f"The pager is {'on' if self.looks.pager else 'off'}.\n")
        return 0

    def print_answer(self, text: str) -> None:
        """Print an answer of SQL, in the pager where that is wanted and it is long."""

        def write() -> int:
            sys.stdout.write(text)
            sys.stdout.flush()
            return 0

        if self.looks.pager and sys.stdout.isatty() and not _fits(text):
            running.through("pager", write)
        else:
            write()


def help_text() -> str:
    """Return what the shell has beside the verbs, as wide as the terminal."""
    rows = [(f"   {name}", about) for name, about in ROWS]
    return "In the shell, without the word aosctl:\n" + beside(rows, KEYS)


def run_script(shell: Shell, text: str, name: str) -> int:
    """Run lines without a prompt; the first that fails ends it, and is named on stderr."""
    try:
        for piece in pieces(text):
            if status := shell.run(piece.text):
                _name_it(piece, name, status)
                return status
    except Leave:
        return 0
    return 0


def _name_it(piece: Piece, name: str, status: int) -> None:
    first = piece.text.partition("\n")[0]
    _complain(f"{name}:{piece.number}: exit status {status}: {first}\n")


def _fits(text: str) -> bool:
    import shutil

    size = shutil.get_terminal_size()
    lines = text.split("\n")
    return len(lines) < size.lines and all(len(line) <= size.columns for line in lines)


def _say(text: str) -> None:
    _complain(f"{text}\n")


def _complain(text: str) -> None:
    with suppress(OSError):
        sys.stdout.flush()
        sys.stderr.write(clean(text))
        sys.stderr.flush()
