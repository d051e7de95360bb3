"""What TAB offers in the chat: commands, and the runs, models, approvals and files they take."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from prompt_toolkit.completion import CompleteEvent, Completer, Completion  # noqa: TID253 - the prompt's own
from prompt_toolkit.document import Document  # noqa: TID253

from aosctl.domain.looking import CATALOG
from aosctl.errors import AosError
from aosctl.repl.commands import ALIASES, COMMANDS
from aosctl.repl.commands.sql import catalog_of
from aosctl.terminal import is_safe

if TYPE_CHECKING:
    from aosctl.domain.desk import Desk
    from aosctl.repl.sql_completion import Catalog

MOST = 100


class CommandCompleter(Completer):
    """Completes a line that begins with a slash; messages are the person's own words."""

    def __init__(self, desk: Callable[[], Desk], agent: Callable[[], str]) -> None:
        self._desk = desk
        self._agent = agent
        self._catalogs: dict[str, Catalog] = {}

    def get_completions(self, document: Document, _event: CompleteEvent) -> Iterator[Completion]:
        """Yield what may stand at the cursor, at most `MOST`."""
        text = document.text_before_cursor
        if not text.startswith("/") or text.startswith("//") or "\n" in text:
            return
        name, space, typed = text.partition(" ")
        if name == "/sql" and space:
            yield from self._sql(typed)
            return
        words = self._words(name, typed.lstrip()) if space else [*COMMANDS, *ALIASES]
        word = typed.lstrip() if space else name
        fitting = sorted({each for each in words if each.startswith(word) and is_safe(each)})
        for each in fitting[:MOST]:
            yield Completion(each, start_position=-len(word))

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

    def _words(self, name: str, typed: str) -> Iterable[str]:
        command = COMMANDS.get(ALIASES.get(name, name))
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
