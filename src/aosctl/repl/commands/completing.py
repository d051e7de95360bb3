"""What TAB offers in the chat: commands, and the runs, models, approvals and files they take."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion  # noqa: TID253 - the prompt's own
from prompt_toolkit.document import Document  # noqa: TID253

from aosctl.domain.looking import CATALOG
from aosctl.domain.mentions import BEFORE
from aosctl.errors import AosError
from aosctl.repl.commands import ALIASES, COMMANDS
from aosctl.repl.commands.sql import catalog_of
from aosctl.terminal import is_safe

if TYPE_CHECKING:
    from aosctl.domain.desk import Desk
    from aosctl.repl.commands.table import Command
    from aosctl.repl.sql_completion import Catalog

MOST = 100
ATTACHED = ("agent", "budget", "collection", "model", "persona", "policy", "run", "skill", "tenant")
"""Kinds that TAB offers after an `@`."""
_MENTION = re.compile(BEFORE + r"@([^\s\"'`<>|()\[\]{}]*)$")


class CommandCompleter(Completer):
    """Completes a line that begins with a slash, and in a message what begins with `@`."""

    def __init__(self, desk: Callable[[], Desk], agent: Callable[[], str]) -> None:
        self._desk = desk
        self._agent = agent
        self._catalogs: dict[str, Catalog] = {}

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterator[Completion]:
        """Yield what may stand at the cursor, at most `MOST`."""
        text = document.text_before_cursor
        is_command = text.startswith("/") and not text.startswith("//")
        if not is_command and (mention := _MENTION.search(text)) is not None:
            word = mention[1]
            for each in sorted({one for one in self._mentions(word) if _fits(one, word)})[:MOST]:
                yield Completion(each, start_position=-len(word))
            return
        if not is_command or "\n" in text:
            return
        name, space, typed = text.partition(" ")
        if name == "/sql" and space:
            yield from self._sql(typed)
            return
        word = typed.lstrip() if space else name
        names = [*COMMANDS, *(sorted(ALIASES) if word != "/" else [])]
        words = sorted(set(self._words(name, word))) if space else names
        fitting = [each for each in words if each.startswith(word) and is_safe(each)]
        for each in fitting[:MOST]:
            command = _command(each) if not space or name == "/help" else None
            about = command.about if command is not None else ""
            yield Completion(each, start_position=-len(word), display_meta=about)

    def _sql(self, typed: str) -> Iterator[Completion]:
        """Yield what may stand in a statement, of what the agent may read."""
        from aosctl.repl.sql_completion import Catalog, offers

        agent = self._agent()
        if agent not in self._catalogs:
            found: Mapping[str, Any] = {}
            ok = False
            with suppress(AosError):
                ok, found = self._desk().look(agent, CATALOG)
            self._catalogs[agent] = catalog_of(found) if ok else Catalog()
        for offer in offers(typed, len(typed), self._catalogs[agent]):
            if is_safe(offer.text):
                yield Completion(offer.text, start_position=-offer.length)

    def _mentions(self, typed: str) -> Iterable[str]:
        """Yield what may be attached: kinds, the names of one, and files."""
        word, slash, _ = typed.partition("/")
        if not slash:
            yield from (f"{kind}/" for kind in ATTACHED)
        elif word in ATTACHED:
            with suppress(AosError):
                yield from (f"{word}/{name}" for name in self._desk().names(word))
        yield from (name if {".", "/"} & set(name) else f"./{name}" for name in files(typed))

    def _words(self, name: str, typed: str) -> Iterable[str]:
        command = _command(name)
        try:
            match command.completes if command else "":
                case "command":
                    return [each[1:] for each in COMMANDS]
                case "run":
                    return [talk.name for talk in self._desk().talks()]
                case "model":
                    return [model.name for model in self._desk().models() if model.active]
                case "approval":
                    return [row.short for row in self._desk().pending()]
                case "file":
                    return files(typed)
        except AosError:
            pass  # a wrong name is answered when it is used
        return []


def _command(name: str) -> Command | None:
    """Return the command of a name, with or without its slash."""
    name = name if name.startswith("/") else f"/{name}"
    return COMMANDS.get(ALIASES.get(name, name))


def _fits(offered: str, typed: str) -> bool:
    """Tell whether an offer goes on from what is typed; a name without a dot is one with `./`."""
    return is_safe(offered) and offered.removeprefix("./").startswith(typed.removeprefix("./"))


def files(typed: str) -> list[str]:
    """Return the files and folders that begin as what is typed."""
    folder, _, _ = typed.rpartition("/")
    where = Path(f"{folder}/" if typed.startswith("/") or folder else ".").expanduser()
    try:
        with os.scandir(where) as found:
            names = [entry.name + ("/" if entry.is_dir() else "") for entry in found]
    except OSError:
        return []
    return [f"{folder}/{name}" if "/" in typed else name for name in names]
