"""Names of resources, and how a wrong one is shown and answered."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.terminal import visible

NAME_PATTERN = "[a-z0-9][a-z0-9_.-]{0,62}"
NAME_RULE = "1 to 63 of a-z 0-9 _ . -, the first a letter or a digit"
CONTROL = "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x84\x86-\x9f\ud800-\udfff\ufffe\uffff]"
"""Matches what no text of ours may hold: controls but tab and line breaks, surrogates, and
noncharacters."""
_LONGEST_COMPARED = 100


def nearest(word: str, candidates: Iterable[str]) -> str | None:
    """Find the candidate that `word` was most likely meant to be, if any is close."""
    import difflib

    if len(word) > _LONGEST_COMPARED:
        return None
    by_letters: dict[str, str] = {}
    for candidate in candidates:
        by_letters.setdefault(_letters(candidate), candidate)
    close = difflib.get_close_matches(_letters(word), by_letters, n=1, cutoff=0.6)
    return by_letters[close[0]] if close else None


def did_you_mean(word: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean "x"?`, or nothing where no candidate is close."""
    found = nearest(word, candidates)
    return f"; did you mean {quoted(found)}?" if found else ""


def quoted(text: str, limit: int = 60) -> str:
    """Quote text for a message: on one line, without control characters, not too long."""
    return f'"{printable(text[:limit])}{"…" if len(text) > limit else ""}"'


def printable(text: str) -> str:
    """Escape what could move a cursor, forge a line or hide: controls, bidi marks, surrogates."""
    return visible("".join(char if char.isprintable() else _escape(char) for char in text))


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def _letters(word: str) -> str:
    return word.replace("_", "").replace("-", "").lower()
