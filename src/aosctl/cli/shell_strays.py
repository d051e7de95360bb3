"""What people type at the shell's prompt that is no verb: SQL, and commands of their own shell."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence

from aosctl.cli import plugins
from aosctl.cli.verbs import VERBS
from aosctl.errors import UsageError
from aosctl.repl.shell.completer import OWN

_SQL = """
abort alter analyze begin call close cluster comment commit copy deallocate declare do drop
execute fetch grant insert listen lock merge notify prepare reassign refresh reindex
release reset revoke rollback savepoint select set show start table truncate unlisten update
vacuum values with
"""
_SQL_AFTER = {
    "create": """
aggregate database domain extension function index materialized or policy procedure role
schema sequence table temp temporary trigger type unique unlogged user view
""",
    "delete": "from",
    "explain": "(analyze analyze delete insert select update with",
}
_INSTEAD = {
    "cd": "the shell stays in its folder; a file may be named by its whole path, or by ~/…",
    "clear": "Ctrl-L clears the screen",
    "history": "Ctrl-R searches what was typed",
}
_OPENERS = ("\\", "!", "#")


def check(words: Sequence[str]) -> None:
    """Raise UsageError, with what to type instead, where the words of a line are no verb's."""
    if words[:1] == ["aosctl"]:
        words = words[1:]
    if not words or words[0].startswith(_OPENERS):
        return
    typed = words[0].rstrip(";")
    second = words[1].lower() if len(words) > 1 else ""
    if second in _SQL_AFTER.get(typed.lower(), "").split():
        raise UsageError("this looks like SQL", f"\\sql {_short(words)}")
    if typed in VERBS or typed in OWN or plugins.find([typed], os.environ):
        return
    if typed.lower() in _SQL.split():
        raise UsageError("this looks like SQL", f"\\sql {_short(words)}")
    if instead := _INSTEAD.get(typed):
        raise UsageError(f'unknown command "{typed}"', instead)
    if typed.isidentifier() and shutil.which(typed):
        raise UsageError(
            f'unknown command "{typed}" for "aosctl"', f"!{_short(words)} runs it in your own shell"
        )


def _short(words: Sequence[str]) -> str:
    """Return the words as one line, or their beginning."""
    text = " ".join(words)
    return text if len(text) <= 60 else f"{text[:59]}…"
