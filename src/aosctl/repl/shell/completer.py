"""The menu of the prompt: verbs, flags and names, files, SQL; each from where it is known."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from aosctl.repl.shell.frame import Frame
from aosctl.repl.shell.names import SqlNames
from aosctl.repl.sql_completion import offers
from aosctl.terminal import clean

if TYPE_CHECKING:
    from prompt_toolkit.completion import Completer

OWN = {
    "exit": "Leave the shell",
    "help": "List the verbs, or explain one",
    "quit": "Leave the shell",
    "use": "Work in another tenant or context",
}
COMMANDS = {
    "\\sql": "Run SQL, or go to its prompt",
    "\\d": "List tables and views, or the columns of one",
    "\\dt": "List tables",
    "\\dv": "List views",
    "\\di": "List indexes",
    "\\dn": "List schemas",
    "\\df": "List functions",
    "\\du": "List roles",
    "\\l": "List databases",
    "\\x": "Show a line for each column",
    "\\timing": "Say how long each statement took",
    "\\i": "Run the SQL of a file",
    "\\pager": "Show long output in $PAGER",
    "\\?": "List the commands",
}
SQL_COMMANDS = (*(one for one in COMMANDS if one != "\\sql"), "\\q", "\\sql")
_VALUES = {
    "\\x": ("on", "off", "auto"),
    "\\timing": ("on", "off"),
    "\\pager": ("on", "off"),
}
_SQL_LINE = re.compile(r"\s*\\sql\s+")
_BEGUN = re.compile(r"[\w.\\\"]\Z")
"""What a menu comes up at by itself: a word, or a dot."""
_DESCRIBED = re.compile(r"\s*\\d[tvmis]?\+?\s+")


class Choice(NamedTuple):
    """A candidate of the menu: it replaces the `length` characters before the cursor."""

    text: str
    length: int
    shown: str = ""
    about: str = ""


class Menu:
    """What the prompt offers; knows nothing of the terminal."""

    def __init__(self, frame: Frame, names: SqlNames) -> None:
        self._frame = frame
        self._names = names

    def of_line(self, text: str, cursor: int) -> Iterator[Choice]:
        r"""Yield what may stand at the cursor of verbs' lines, one of which may be `\sql …`."""
        first = text.rfind("\n", 0, cursor) + 1
        line = text[first:cursor]
        if opening := _SQL_LINE.match(line) or re.match(r"\s*(?=\\)(?!\\sql)", line):
            self._names.soon()
            skipped = first + opening.end()
            if " " in line.lstrip():
                yield from self.of_sql(text[skipped:], cursor - skipped)
                return
        line = text[max(first, text.rfind(";", 0, cursor) + 1) : cursor].lstrip()
        if re.search(r">\s*\S*$", line):
            yield from _paths(re.split(r">\s*", line)[-1])
        elif line.startswith("\\"):
            yield from _own_commands(line)
        elif line.startswith("!") or "|" in line:
            yield from _of_system(re.split(r"[|!]", line)[-1].lstrip())
        else:
            yield from self._words(line)

    def of_sql(self, text: str, cursor: int) -> Iterator[Choice]:
        r"""Yield what may stand at the cursor of SQL, or of a command such as `\d`."""
        before = text[:cursor]
        if before.startswith("\\") and " " not in before:
            found = [one for one in SQL_COMMANDS if one.startswith(before)]
            yield from (Choice(one, len(before), about=COMMANDS.get(one, "")) for one in found)
            return
        command, _, typed = before.partition(" ")
        if command in _VALUES:
            found = [one for one in _VALUES[command] if one.startswith(typed)]
            yield from (Choice(one, len(typed)) for one in found)
            return
        if command == "\\i":
            yield from _paths(typed)
            return
        if opening := _DESCRIBED.match(before):
            text, cursor = "table " + text[opening.end() :], cursor - opening.end() + 6
        for offer in offers(text, cursor, self._names.catalog):
            yield Choice(offer.text, offer.length, about=offer.kind)

    def _words(self, line: str) -> Iterator[Choice]:
        before, current = split(line)
        found = self._frame.candidates(before, current)
        if found is None:
            yield from _paths(current)
            return
        for one in found:
            yield Choice(shlex.quote(one.text), len(current), one.text, one.about)


def completer_of(menu: Menu, in_sql: Callable[[], bool]) -> Completer:
    """Return the completer of prompt_toolkit for a menu."""
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Lines(Completer):
        def get_completions(
            self, document: Document, complete_event: CompleteEvent
        ) -> Iterator[Completion]:
            if not (
                complete_event.completion_requested or _BEGUN.search(document.text_before_cursor)
            ):
                return
            at = document.text, document.cursor_position
            for one in menu.of_sql(*at) if in_sql() else menu.of_line(*at):
                shown, about = clean(one.shown or one.text), clean(one.about)
                yield Completion(one.text, -one.length, display=shown, display_meta=about)

    return Lines()


def _own_commands(line: str) -> Iterator[Choice]:
    for name, about in COMMANDS.items():
        if name.startswith(line):
            yield Choice(name, len(line), about=about)


def _of_system(command: str) -> Iterator[Choice]:
    """Yield the programs of PATH that a command of the system's shell may begin with, or files."""
    before, current = split(command)
    if before or "/" in current:
        yield from _paths(current)
        return
    found: set[str] = set()
    for folder in os.get_exec_path() if current else ():
        with suppress(OSError), os.scandir(folder) as entries:
            found |= {one.name for one in entries if one.name.startswith(current)}
    yield from (Choice(shlex.quote(name), len(current), name) for name in sorted(found))


def split(line: str) -> tuple[list[str], str]:
    """Return the finished words of a line and the one at the cursor."""
    current = re.search(r"\S*$", line)
    assert current is not None  # noqa: S101 - it matches the empty word too
    before = line[: current.start()]
    try:
        words = shlex.split(before)
    except ValueError:
        words = before.split()
    return (words[1:] if words[:1] == ["aosctl"] else words), current[0]


def _paths(current: str) -> Iterator[Choice]:
    folder, _, beginning = current.rpartition("/")
    place = os.path.expanduser(folder + "/") if folder or current.startswith("/") else "."
    try:
        found = sorted(os.scandir(place), key=lambda one: one.name)
    except OSError:
        return
    for one in found:
        if one.name.startswith(beginning) and (beginning or not one.name.startswith(".")):
            name = one.name + ("/" if one.is_dir() else "")
            yield Choice(shlex.quote(name), len(beginning), name)
