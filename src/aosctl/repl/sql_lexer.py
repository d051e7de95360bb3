"""SQL as far as a prompt has to understand it: words, quotes, comments, ends of statements.

It never fails: a quote that nothing closes reaches to the end, and the token says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""(?P<space>\s+)
      | (?P<comment>--[^\n]*)
      | (?P<block>/\*)
      | (?P<text>[eE]'(?:[^'\\]|\\.|'')*(?:'|\\?\Z) | (?:[uU]&|[bBxXnN])?'(?:[^']|'')*(?:'|\Z))
      | (?P<dollar>\$(?P<tag>(?:[^\W\d]\w*)?)\$.*?(?:\$(?P=tag)\$|\Z))
      | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
      | (?P<word>[^\W\d][\w$]*)
      | (?P<number>\d[\w.]*)
      | (?P<mark>::|[-+*/<>=~!@\#%^&|`?:]|.)""",
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")


class Token(NamedTuple):
    """A piece of SQL: where it stands, what it is, whether its end is there.

    `kind` is word, quoted (an identifier), text, number, mark, comment or space.
    """

    kind: str
    text: str
    start: int
    is_closed: bool = True

    @property
    def end(self) -> int:
        return self.start + len(self.text)

    @property
    def low(self) -> str:
        """Return a word in small letters, to compare with keywords; quoted ones are no keywords."""
        return self.text.lower() if self.kind == "word" else self.text

    @property
    def is_name(self) -> bool:
        return self.kind in ("word", "quoted")

    @property
    def name(self) -> str:
        """Return the identifier that it stands for, as the catalog has it."""
        if self.kind == "quoted":
            return self.text.removesuffix('"').removeprefix('"').replace('""', '"')
        return self.text.lower()


def tokens(text: str) -> Iterator[Token]:
    """Cut SQL into tokens; together they are the whole text."""
    at = 0
    while at < len(text):
        found = _TOKEN.match(text, at)
        if found is None:  # a character for every other is matched by `.`
            return
        kind = str(found.lastgroup if found.lastgroup != "tag" else "dollar")
        if kind == "block":
            end, closed = _block_end(text, at)
            yield Token("comment", text[at:end], at, closed)
        else:
            end = found.end()
            yield _token(kind, found, at)
        at = end


def _token(kind: str, found: re.Match[str], at: int) -> Token:
    piece = found[0]
    if kind == "dollar":
        tag = f"${found['tag']}$"
        return Token("text", piece, at, len(piece) >= 2 * len(tag) and piece.endswith(tag))
    if kind == "text":
        return Token("text", piece, at, _is_closed(piece, "'"))
    if kind == "quoted":
        return Token("quoted", piece, at, _is_closed(piece, '"'))
    return Token(kind, piece, at, kind != "comment")


def _is_closed(piece: str, quote: str) -> bool:
    inside = piece[piece.index(quote) + 1 :]
    if quote == "'" and piece[0] in "eE":
        inside = re.sub(r"\\.", "", inside, flags=re.DOTALL)
    return (len(inside) - len(inside.rstrip(quote))) % 2 == 1


def _block_end(text: str, at: int) -> tuple[int, bool]:
    """Return where a comment ends, which may hold others."""
    depth = 0
    for edge in _BLOCK_EDGE.finditer(text, at):
        depth += 1 if edge[0] == "/*" else -1
        if depth == 0:
            return edge.end(), True
    return len(text), False


def statements(text: str) -> tuple[list[str], str]:
    """Cut a text into the statements that a semicolon ends, and what is left after the last.

    A semicolon within parentheses, or in the body of a function in the form `begin atomic … end`,
    ends nothing. What is left is empty when only white space and comments follow.
    """
    done: list[str] = []
    start = depth = blocks = 0
    before = ""
    says_something = False
    for token in tokens(text):
        if token.kind in ("space", "comment"):
            continue
        if token.text == ";" and depth <= 0 and blocks <= 0:
            if says_something:
                done.append(text[start : token.start].strip())
            start, depth, blocks, says_something = token.end, 0, 0, False
            continue
        says_something = True
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if (token.low == "atomic" and before == "begin") or (blocks and token.low == "case"):
            blocks += 1
        elif blocks and token.low == "end":
            blocks -= 1
        before = token.low
    return done, text[start:].strip() if says_something else ""


def is_whole(text: str) -> bool:
    """Tell whether nothing is left open: each statement ends with its semicolon."""
    return not statements(text)[1] and all(
        token.is_closed or token.text.startswith("--") for token in tokens(text)
    )


def sent(text: str) -> tuple[str, str]:
    r"""Return a text without the `\g` or `\gx` at its end, which psql's users send it by."""
    last = [token for token in tokens(text) if token.kind not in ("space", "comment")][-2:]
    if len(last) == 2 and last[0].text == "\\" and last[1].text in ("g", "gx"):
        return text[: last[0].start].strip(), last[1].text
    return text, ""
