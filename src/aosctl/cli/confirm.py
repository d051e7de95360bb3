"""Ask before what can't be undone."""

from __future__ import annotations

import sys

from aosctl import request
from aosctl.errors import AosError, UsageError
from aosctl.terminal import clean


def is_interactive() -> bool:
    """Tell whether a person can read a question and answer it."""
    return can_answer() and sys.stderr.isatty()


def can_answer() -> bool:
    """Tell whether somebody is at the keyboard, whom --no-input does not leave alone."""
    return sys.stdin.isatty() and not request.current().no_input


def confirm(what: str, word: str, *, yes: bool) -> None:
    """Return when the person agrees: --yes was given, or `word` is typed on a terminal.

    Raises UsageError off a terminal, AosError for any other answer.
    """
    if yes:
        return
    if not can_answer():
        raise UsageError(f"{what}: add --yes to do it without a question")
    if _answer(clean(f'{what}.\nType "{word}" to go on: ')) != word:
        raise AosError("nothing was done")


def agree(question: str) -> None:
    """Return when the person on the terminal says yes to a question of one line or several.

    Raises UsageError off a terminal, AosError for any other answer.
    """
    if not says_yes(question):
        raise AosError("nothing was done")


def says_yes(question: str) -> bool:
    """Ask the person on the terminal; no is the answer unless they say yes.

    Raises UsageError off a terminal, and with --no-input.
    """
    if not can_answer():
        raise UsageError("a question needs a terminal", "leave the flag out that asks")
    return _answer(f"{clean(question)} [y/N] ").lower() in ("y", "yes")


def _answer(prompt: str) -> str:
    """Ask for one line; an end of the input ends the line of the question too."""
    sys.stderr.write(prompt)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line.endswith("\n"):
        sys.stderr.write("\n")
    return line.strip()
