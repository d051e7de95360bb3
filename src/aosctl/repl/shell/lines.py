r"""What a typed line means: words as sh quotes them, where the output goes, whose line it is.

`verb …`, `verb … | command`, `verb … > file`, `!command`, `\command …`; lines end at a line break
or, but for the last two, at a semicolon. Nothing is expanded but `~/` at the start of a word.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from aosctl.errors import UsageError

Sink = Literal["", "|", ">", ">>"]
_ENDS = "|<>&;"
_HINT = "; is between commands; quote the sign, or let your own shell run the line: !aosctl …"


class Piece(NamedTuple):
    """One command of a text, and the line it begins in, from 1."""

    text: str
    number: int


@dataclass(frozen=True, slots=True)
class Line:
    r"""A command: `kind` says who runs it, `rest` is what follows `!` or the word after `\`."""

    kind: Literal["verb", "system", "backslash"]
    words: tuple[str, ...] = ()
    rest: str = ""
    sink: Sink = ""
    target: str = ""


class Unclosed(UsageError):
    """A quotation mark has no other."""


def pieces(text: str) -> Iterator[Piece]:
    """Cut a text into commands. Raises Unclosed."""
    at, number = 0, 1
    while at < len(text):
        start = at
        if text[at] in " \t;":
            at += 1
            continue
        if text[at] in "\\!":
            end = text.find("\n", at)
            at = end if end >= 0 else len(text)
        elif text[at] not in "\n#":
            at = _end_of(text, at)
        elif text[at] == "#":
            end = text.find("\n", at)
            at = end if end >= 0 else len(text)
            continue
        if at > start:
            command = text[start:at].strip()
            if command:
                yield Piece(command, number)
            number += text.count("\n", start, at)
        if text[at : at + 1] == "\n":
            number += 1
            at += 1


def _end_of(text: str, at: int) -> int:
    """Return where a command ends: at a line break, a comment or a semicolon outside quotes.

    A semicolon in parentheses behind a pipe sign, `… | (a; b)`, is the system shell's.
    """
    quote = ""
    piped = False
    depth = 0
    before = " "
    while at < len(text):
        here = text[at]
        if here == "\\" and quote != "'":
            at += 1
        elif quote:
            quote = "" if here == quote else quote
        elif here in "'\"":
            quote = here
        elif here == "\n" or (here == ";" and not depth) or (here == "#" and before.isspace()):
            return at
        else:
            piped = piped or here == "|"
            depth += piped and {"(": 1, ")": -1}.get(here, 0)
        before = here
        at += 1
    if quote:
        raise Unclosed(f"no closing quotation: {quote}")
    return min(at, len(text))


def parse(text: str) -> Line:
    """Read one command. Raises UsageError, Unclosed."""
    if text.startswith("!"):
        return Line("system", rest=text[1:].strip())
    if text.startswith("\\"):
        word, _, rest = text[1:].partition(" ")
        return Line("backslash", (word,), rest.strip())
    words, at = _words(text)
    if words[:1] == ["aosctl"]:
        words = words[1:]
    if at == len(text):
        return Line("verb", tuple(words))
    if text[at] == "|" and text[at + 1 : at + 2] != "|":
        command = text[at + 1 :].strip()
        if not command or not words:
            raise UsageError("nothing stands on one side of the |", "verb … | command")
        return Line("verb", tuple(words), sink="|", target=command)
    if text[at] == ">" and not (at and text[at - 1].isdigit() and _starts_word(text, at - 1)):
        sink: Sink = ">>" if text[at + 1 : at + 2] == ">" else ">"
        names, end = _words(text[at + len(sink) :])
        if len(names) != 1 or end + at + len(sink) != len(text):
            raise UsageError(f"one file belongs after {sink}", f"verb … {sink} FILE")
        return Line("verb", tuple(words), sink=sink, target=names[0])
    begin = at - (at > 0 and text[at - 1].isdigit())
    sign = re.match(r"\d?(?:>&\d?|&&|\|\||<<?|>>?|.)", text[begin:])
    raise UsageError(f"this shell has no {sign[0] if sign else text[at]}", _HINT)


def _starts_word(text: str, at: int) -> bool:
    return at == 0 or text[at - 1].isspace()


def _words(text: str) -> tuple[list[str], int]:
    """Read words by sh's rules up to the end or a sign; return them and the place of the sign."""
    words: list[str] = []
    at = 0
    while True:
        while at < len(text) and (text[at].isspace() or text[at : at + 2] in ("\\\n", "\\")):
            at += 1 if text[at].isspace() else 2  # a backslash that nothing follows is no word
        if at >= len(text) or text[at] in _ENDS:
            return words, min(at, len(text))
        word, at = _word(text, at)
        words.append(word)


def _word(text: str, at: int) -> tuple[str, int]:
    """Read one word; return it and where it ends. Raises Unclosed."""
    word = quote = ""
    if text[at] == "~" and (at + 1 == len(text) or text[at + 1] in "/ \t\n"):
        word, at = os.path.expanduser("~"), at + 1
    while at < len(text) and (quote or not (text[at].isspace() or text[at] in _ENDS)):
        here = text[at]
        at += 1
        if here == "\\" and quote != "'":
            following = text[at : at + 1]
            at += 1
            if quote and following not in '"\\$`\n':
                word += here
            word += following if following != "\n" else ""
        elif here == quote:
            quote = ""
        elif not quote and here in "'\"":
            quote = here
        else:
            word += here
    if quote:
        raise Unclosed(f"no closing quotation: {quote}")
    return word, min(at, len(text))


def is_open(text: str) -> bool:
    """Tell whether a typed text waits for more: a quotation mark, or a backslash at its end."""
    try:
        list(pieces(text))
    except Unclosed:
        return True
    return False
