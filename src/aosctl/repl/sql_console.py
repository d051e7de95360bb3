"""Run what a person types as SQL, and print it: statements, and psql's commands for looking."""

from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from aosctl.domain.console import TIMEOUT_SECONDS, Answer, Complaint, Console, Shown, SqlRefused
from aosctl.errors import UsageError
from aosctl.numbers import whole
from aosctl.repl.psql_words import not_here
from aosctl.repl.sql_lexer import sent, statements, tokens
from aosctl.repl.sql_pieces import file_pieces
from aosctl.repl.sql_table import Expanded, answer_text, complaint_text
from aosctl.repl.words import beside

INTERRUPTED = 130
MOST_ROWS = 500
MOST_FILES = 16
"""How deep files may run one another."""
COMMANDS = (
    ("\\d [NAME]", "tables and views, or the columns of one; NAME may hold * and ?"),
    ("\\dt \\dv \\dm [NAME]", "tables, views, stored views"),
    ("\\di \\ds \\dn [NAME]", "indexes, sequences, schemas"),
    ("\\df \\du \\l [NAME]", "functions, roles, databases"),
    ("\\x [on|off|auto]", "a line for each column"),
    ("\\timing [on|off]", "how long each statement took"),
    ("\\i FILE", "run the SQL of a file"),
    ("\\rows [N|all]", f"how many rows a terminal gets at most, {MOST_ROWS} at first"),
    ("\\pager [on|off]", "long answers in $PAGER"),
    ("\\r", "drop what is typed of a statement"),
    ("\\q", "leave; so do Ctrl-D and \\sql"),
)
HELP = f"""\
A statement ends with ; (or \\g, \\gx for a line a column), lines later if need be.
A command in one of its lines leaves it as it is.
Ctrl-C cancels it, or clears what is typed.
A statement may take {TIMEOUT_SECONDS} s; set statement_timeout = '10min' changes that.
"""
_TIMED_OUT = "57014"
_REDEFINING = frozenset({"create", "alter", "drop", "rename", "set", "reset", "commit", "rollback"})
"""After these words the catalog, or the search_path, may be another."""


@dataclass
class Looks:
    """How answers are printed; one for a whole shell."""

    expanded: Expanded = "off"
    pager: bool = False
    timing: bool = False
    rows: int | None = MOST_ROWS
    """As many rows a terminal gets; None: all. A pager, a pipe and a file get all."""


class SqlConsole:
    """Runs statements one after the other; each prints its answer or why there is none."""

    def __init__(
        self,
        console: Console,
        write: Callable[[str], None],
        complain: Callable[[str], None],
        looks: Looks,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.console = console
        self.looks = looks
        self._write = write
        self._complain = complain
        self._changed = changed
        self._files = 0

    def run(self, text: str) -> int:
        r"""Run the statements, or the one `\` command, of a text; return the exit status.

        The first one that is refused ends it with 1, Ctrl-C with 130. Raises
        DatabaseUnavailable.
        """
        if text.lstrip().startswith("\\"):
            return self._look(text.strip())
        text, sign = sent(text)
        done, left = statements(text)
        for statement in [*done, *([left] if left else [])]:
            if status := self._run_one(statement, "on" if sign == "gx" else self.looks.expanded):
                return status
        return 0

    def _run_one(self, statement: str, expanded: Expanded) -> int:
        began = time.perf_counter()
        try:
            return self._answer(statement, expanded)
        finally:
            if self.looks.timing:
                self._write(f"Time: {(time.perf_counter() - began) * 1000:.3f} ms\n")

    def _answer(self, statement: str, expanded: Expanded) -> int:
        try:
            answer = self.console.run(statement)
        except SqlRefused as error:
            self._complain(complaint_text(_explained(error.complaint), statement))
            return 1
        except KeyboardInterrupt:
            self._complain("\ncanceled\n" if sys.stderr.isatty() else "canceled\n")
            return INTERRUPTED
        self._print(answer, expanded)
        if first_word(statement) in _REDEFINING:
            self._changed()
        return 0

    def _look(self, line: str) -> int:
        command, _, rest = line.partition(" ")
        name = rest.strip().rstrip(";") or None
        if (found := self._listed(command.removesuffix("+"), name)) is not None:
            self._print(found)
            return 0
        match command:
            case "\\d" | "\\d+" if name is not None:
                self._describe(name)
            case "\\i" | "\\include":
                return self._run_file(name)
            case "\\?":
                self._write(beside(COMMANDS, HELP))
            case "\\x" | "\\timing" | "\\rows":
                self._set(command, name)
            case "\\r" | "\\reset":
                pass
            case _:
                raise not_here(command)
        return 0

    def _listed(self, command: str, name: str | None) -> Answer | None:
        """Return the list that a command asks for; None where it asks for none."""
        match command:
            case "\\d" if name is not None and not re.search("[*?]", name):
                return None
            case "\\d" | "\\dt" | "\\dv" | "\\dm" | "\\di" | "\\ds":
                return self.console.relations(cast(Shown, command[2:]), name)
            case "\\dn":
                return self.console.schemas(name)
            case "\\df":
                return self.console.functions(name)
            case "\\du" | "\\dg":
                return self.console.roles(name)
            case "\\l" | "\\list":
                return self.console.databases(name)
        return None

    def _set(self, command: str, word: str | None) -> None:
        if command == "\\x":
            self.looks.expanded = _choice(word, self.looks.expanded)
            self._write(f"Expanded display is {self.looks.expanded}.\n")
            return
        if command == "\\rows":
            most = self.looks.rows = _number(word, self.looks.rows)
            text = "every row is" if most is None else f"{most} rows at most are"
            self._write(f"{text} shown on a terminal.\n")
            return
        now: Expanded = "on" if self.looks.timing else "off"
        self.looks.timing = _choice(word, now, command) == "on"
        self._write(f"Timing is {'on' if self.looks.timing else 'off'}.\n")

    def _run_file(self, name: str | None) -> int:
        """Run what a file holds until something fails, and name that. Raises UsageError."""
        if name is None:
            raise UsageError("\\i needs a file", "\\i FILE")
        if self._files > MOST_FILES:
            raise UsageError(f"{name}: more than {MOST_FILES} files run one another")
        try:
            text = Path(name).expanduser().read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UsageError(f"can't read {name}: {why}") from error
        self._files += 1
        try:
            for number, piece in file_pieces(text):
                if status := self.run(piece):
                    first = piece.partition("\n")[0]
                    self._complain(f"{name}:{number}: exit status {status}: {first}\n")
                    return status
        finally:
            self._files -= 1
        return 0

    def _describe(self, name: str) -> None:
        title, columns, indexes, policies = self.console.describe(name)
        text = answer_text(columns).rpartition("(")[0]
        for heading, lines in (("Indexes", indexes), ("Policies", policies)):
            if lines:
                text += f"{heading}:\n" + "".join(f"    {line}\n" for line in lines)
        from aosctl.terminal import visible

        self._write(f"{visible(title)}\n{visible(text)}")

    def _print(self, answer: Answer, expanded: Expanded | None = None) -> None:
        width = shutil.get_terminal_size().columns
        most = self.looks.rows if sys.stdout.isatty() and not self.looks.pager else None
        shown = answer if most is None else answer._replace(rows=answer.rows[:most])
        text = answer_text(shown, expanded=expanded or self.looks.expanded, width=width)
        if len(shown.rows) < len(answer.rows):
            came = f"{len(answer.rows):,} rows came, the first {most} are shown"
            text += f"{came}; \\rows all shows all\n"
        self._write(text)


def print_notice(complaint: Complaint) -> None:
    """Print a notice of the server to stderr."""
    sys.stderr.write(complaint_text(complaint))
    sys.stderr.flush()


def first_word(statement: str) -> str:
    """Return the word that a statement begins with, in small letters."""
    return next((t.low for t in tokens(statement) if t.kind not in ("space", "comment")), "")


def _explained(complaint: Complaint) -> Complaint:
    if complaint.sqlstate != _TIMED_OUT or complaint.hint or "timeout" not in complaint.message:
        return complaint
    from dataclasses import replace

    return replace(complaint, hint="set statement_timeout = '10min' gives it more time")


def _number(word: str | None, now: int | None) -> int | None:
    if word is None or word == "all":
        return now if word is None else None
    number = whole(word, 9)
    if not number:
        raise UsageError(f'unrecognized value "{word}" for \\rows', "\\rows 1000 or \\rows all")
    return number


def _choice(word: str | None, now: Expanded, command: str = "\\x") -> Expanded:
    if word is None:
        return "off" if now == "on" else "on"
    if word in ("on", "off") or (word == "auto" and command == "\\x"):
        return cast(Expanded, word)
    values = "on, off or auto" if command == "\\x" else "on or off"
    raise UsageError(f'unrecognized value "{word}" for {command}', f"{command} {values}")
