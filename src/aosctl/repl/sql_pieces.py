r"""SQL of several lines, and the `\` commands that stand in lines of their own between them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from aosctl.repl.sql_lexer import is_whole, sent, tokens


class Pieces(NamedTuple):
    """What can be run, each with the line it begins in, and what is not finished after it."""

    whole: tuple[tuple[int, str], ...]
    left: str
    begins: int = 1
    is_asked: bool = False
    r"""Whether the last line is a command, which leaves the unfinished statement as it is."""


def pieces(text: str) -> Pieces:
    r"""Cut a text into statements and commands.

    As in psql a command is run where it stands and the statement around it goes on; `\r` drops
    that, `\g` ends it.
    """
    found: list[tuple[int, str]] = []
    kept: list[str] = []
    start = 1
    is_asked = False
    for number, line in enumerate(text.splitlines(), 1):
        word = line.strip()
        if not kept:
            start = number
            if not word or word.startswith("--"):
                continue
        is_asked = word.startswith("\\") and not sent(word)[1] and _is_closed(kept)
        if is_asked and word in ("\\r", "\\reset"):
            kept = []
        elif is_asked:
            found.append((number, word))
        else:
            kept.append(line)
            if (";" in line or "\\g" in line) and _ends("\n".join(kept)):
                found.append((start, "\n".join(kept).strip()))
                kept = []
    return Pieces(tuple(found), "\n".join(kept).strip(), start, is_asked)


def file_pieces(text: str) -> Iterator[tuple[int, str]]:
    r"""Yield the statements and `\` commands of a file, each with the line it begins in."""
    cut = pieces(text)
    yield from cut.whole
    if cut.left:
        yield cut.begins, cut.left


def _ends(text: str) -> bool:
    return is_whole(text) or sent(text)[1] != ""


def _is_closed(lines: Sequence[str]) -> bool:
    """Tell whether no quote or comment is open at the end of these lines."""
    text = "\n".join(lines)
    return all(token.is_closed or token.text.startswith("--") for token in tokens(text))
