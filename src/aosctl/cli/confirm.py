"""Ask before what can't be undone."""

from __future__ import annotations

import sys

from aosctl.errors import AosError, UsageError
from aosctl.terminal import clean


def confirm(what: str, word: str, *, yes: bool) -> None:
    """Return when the person agrees: --yes was given, or `word` is typed on a terminal.

    Raises UsageError off a terminal, AosError for any other answer.
    """
    if yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(f"{what}: add --yes to do it without a question")
    sys.stderr.write(clean(f'{what}.\nType "{word}" to go on: '))
    sys.stderr.flush()
    if sys.stdin.readline().strip() != word:
        raise AosError("nothing was done")
