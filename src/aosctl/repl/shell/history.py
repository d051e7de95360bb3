"""What was typed, kept for the person's eyes only, less what holds a secret."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from aosctl.errors import redact_dsn
from aosctl.private_file import touch_private

if TYPE_CHECKING:
    from prompt_toolkit.history import History

_TELLING = (
    r"(?:^|[\s;])(?:create|patch|apply)\s(?:.*\s)?secrets?\b"  # whose flags give the value
    r"|--from-literal|--dsn\b|(?:^|[\s;])set-context\b.*(?:dsn|worker)"
    r"|\b(?:password|passphrase|api_?key|token)['\"]?\s*(?:=|:|\s)\s*['\"$]"
    r"|^\s*!.*\b(?:PGPASSWORD|[A-Z_]*(?:KEY|SECRET|TOKEN|PASSWORD))="
)


def is_kept(line: str) -> bool:
    """Tell whether a line may stand in a file: it begins with no space and holds no secret."""
    if not line.strip() or line[0] in " \t":
        return False
    return redact_dsn(line) == line and not re.search(_TELLING, line, re.IGNORECASE | re.DOTALL)


def history_of(path: Path, recorded: Callable[[str], str]) -> History:
    """Return the history of a file (0600); one in memory where that can't be had.

    `recorded` says what of a text is kept.
    """
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        def append_string(self, string: str) -> None:
            if is_kept(string):
                super().append_string(recorded(string))

        def store_string(self, string: str) -> None:
            try:
                super().store_string(string)
            except OSError:
                return  # a full disk must not take the prompt away

    if not touch_private(path):
        return InMemoryHistory()
    return Kept(str(path))
