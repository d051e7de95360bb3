"""TAB at the chat's prompt: the names of the slash commands, and what they take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any


def completer() -> Any:
    """Return prompt_toolkit's completer of the first line of a message."""
    from prompt_toolkit.completion import Completer, Completion

    class Slash(Completer):
        def get_completions(self, document: Any, complete_event: Any) -> Iterator[Completion]:
            typed = document.text_before_cursor
            for text, about in candidates(typed):
                yield Completion(text, -len(typed.rpartition(" ")[2]), display_meta=about)

    return Slash()


def candidates(typed: str) -> Iterator[tuple[str, str]]:
    """Yield what the last word of `typed` may become, and what that is."""
    from aosctl.repl.commands import COMMANDS

    if not typed.startswith("/") or "\n" in typed or " " in typed:
        return
    for command in COMMANDS.values():
        if command.name.startswith(typed):
            yield command.name, command.about
