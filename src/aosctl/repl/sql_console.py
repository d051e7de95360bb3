"""Run what a person types as SQL, and print it: statements, and psql's commands for looking."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass

from aosctl.domain.console import TIMEOUT_SECONDS, Answer, Complaint, Console, SqlRefused
from aosctl.errors import AosError
from aosctl.numbers import whole
from aosctl.repl.sql_lexer import statements, tokens
from aosctl.repl.sql_table import Expanded, answer_text, complaint_text

INTERRUPTED = 130
MOST_ROWS = 500
HELP = f"""\
\\d [NAME]     tables and views, or the columns of one    \\dt \\dv \\dn  tables, views, schemas
\\x [on|off|auto]   a line for each column                 \\pager [on|off]  long answers in $PAGER
\\rows [N|all]      how many rows a terminal gets at most, {MOST_ROWS} at first
\\q            leave (Ctrl-D too; \\sql as well)          \\?  this help
A statement ends with ; and may go over several lines. Ctrl-C cancels it, or clears what is typed.
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

    def run(self, text: str) -> int:
        r"""Run the statements, or the one `\` command, of a text; return the exit status.

        The first one that is refused ends it with 1, Ctrl-C with 130. Raises
        DatabaseUnavailable.
        """
        if text.lstrip().startswith("\\"):
            return self._look(text.strip())
        done, left = statements(text)
        for statement in [*done, *([left] if left else [])]:
            if status := self._run_one(statement):
                return status
        return 0

    def _run_one(self, statement: str) -> int:
        try:
            answer = self.console.run(statement)
        except SqlRefused as error:
            self._complain(complaint_text(_explained(error.complaint), statement))
            return 1
        except KeyboardInterrupt:
            self._complain("\ncanceled\n" if sys.stderr.isatty() else "canceled\n")
            return INTERRUPTED
        self._print(answer)
        if first_word(statement) in _REDEFINING:
            self._changed()
        return 0

    def _look(self, line: str) -> int:
        command, _, rest = line.partition(" ")
        name = rest.strip().rstrip(";") or None
        if command in ("\\d", "\\d+") and name is not None:
            self._describe(name)
        elif command in ("\\d", "\\dt", "\\dv"):
            found = self.console.relations({"\\dt": "t", "\\dv": "v"}.get(command, ""), name)  # type: ignore[arg-type]
            self._print(found)
        elif command == "\\dn":
            self._print(self.console.schemas(name))
        elif command == "\\x":
            self.looks.expanded = _choice(name, self.looks.expanded)
            self._write(f"Expanded display is {self.looks.expanded}.\n")
        elif command == "\\rows":
            self.looks.rows = _number(name, self.looks.rows)
            most = (
                "every row is" if self.looks.rows is None else f"{self.looks.rows} rows at most are"
            )
            self._write(f"{most} shown on a terminal.\n")
        elif command == "\\?":
            self._write(HELP)
        else:
            raise AosError(f"no such command: {command}", "\\? lists what there is")
        return 0

    def _describe(self, name: str) -> None:
        title, columns, indexes, policies = self.console.describe(name)
        text = answer_text(columns).rpartition("(")[0]
        for heading, lines in (("Indexes", indexes), ("Policies", policies)):
            if lines:
                text += f"{heading}:\n" + "".join(f"    {line}\n" for line in lines)
        from aosctl.terminal import visible

        self._write(f"{visible(title)}\n{visible(text)}")

    def _print(self, answer: Answer) -> None:
        width = shutil.get_terminal_size().columns
        most = self.looks.rows if sys.stdout.isatty() and not self.looks.pager else None
        shown = answer if most is None else answer._replace(rows=answer.rows[:most])
        text = answer_text(shown, expanded=self.looks.expanded, width=width)
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
        raise AosError(f'unrecognized value "{word}" for \\rows', "\\rows 1000 or \\rows all")
    return number


def _choice(word: str | None, now: Expanded) -> Expanded:
    if word is None:
        return "off" if now == "on" else "on"
    if word in ("on", "off", "auto"):
        return word  # type: ignore[return-value]
    raise AosError(f'unrecognized value "{word}" for \\x', "\\x on, off or auto")
