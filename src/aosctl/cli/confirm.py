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


def agree(question: str) -> None:
    """Return when the person on the terminal says yes to a question of one line or several.

    Raises UsageError off a terminal, AosError for any other answer.
    """
    if not says_yes(question):
        raise AosError("nothing was done")


def says_yes(question: str) -> bool:
    """Ask the person on the terminal; no is the answer unless they say yes.

    Raises UsageError off a terminal.
    """
    if not sys.stdin.isatty():
        raise UsageError("a question needs a terminal", "leave the flag out that asks")
    sys.stderr.write(f"{clean(question)} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")
