"""What may reach a terminal: no control sequences, no hidden characters, colour by policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TextIO

# Compiled on first use, which most commands never reach.
_SEQUENCES = (
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor, erase
    r"|(?:\x1b\]|\x9d)[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"  # OSC: titles, links, clipboard
    r"|(?:\x1b[PX^_]|[\x90\x98\x9e\x9f])[^\x1b\x9c\n]*(?:\x1b\\|\x9c)"  # DCS, SOS, PM, APC
    r"|\x1b[ -/]*[0-~]"  # the two-character ones
)
_HIDDEN = (
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b\u200e\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
"""Zero-width, bidirectional and tag characters: text that is there and can't be seen."""

_STRIPPED = f"[\x00-\x08\x0b-\x1f\x7f-\x9f{_HIDDEN}]"
_SURROGATES = "[\ud800-\udfff]"
# Joiners shape emoji and several scripts; beside ASCII they only hide.
_PLAIN = "\x1b[0m"
_JOINERS = "(?<![^\x00-\x7f])[\u200c\u200d]+|[\u200c\u200d]+(?![^\x00-\x7f])"
_FOREIGN = "[^\x00-\u02ff]{9,}"
_MOST_MARKS = 8
"""Marks on one letter; the scripts of the world put five there, and more reach other lines."""
_UNSAFE = f"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200c\u200d{_HIDDEN}\ud800-\udfff]"


def clean(text: str) -> str:
    """Strip control sequences and invisible characters; keep newline and tab.

    Safe on pieces of a stream: a sequence cut in two leaves harmless letters behind.
    """
    if text.isascii() and text.isprintable():
        return text
    text = re.sub(_SEQUENCES, "", text.replace("\r\n", "\n"))
    text = re.sub(_SURROGATES, "\ufffd", re.sub(_STRIPPED, "", text))
    return _thinned(re.sub(_JOINERS, "", text))


def is_safe(text: str) -> bool:
    """Tell whether `clean` could find nothing to strip."""
    if text.isascii() and text.isprintable():
        return True
    return re.search(_UNSAFE, text) is None and _thinned(text) == text


def visible(text: str, escape: Callable[[str], str] | None = None) -> str:
    r"""Show what `clean` would strip as `\u202e`: for text that a person must decide on.

    `escape` gives the form of one character; that of JSON unless told.
    """
    if text.isascii() and text.isprintable():
        return text
    form = escape or escape_character
    return re.sub(_UNSAFE, lambda match: form(match[0]), _thinned(text, form))


def harmless(text: str, escape: Callable[[str], str]) -> str:
    """Give what `clean` would strip another form, and nothing else: text that is read back."""

    def form(match: re.Match[str]) -> str:
        return "".join(map(escape, match[0]))

    text = re.sub(f"{_STRIPPED}|{_SURROGATES}", form, text)
    return _thinned(re.sub(_JOINERS, form, text), escape)


def _thinned(text: str, form: Callable[[str], str] = lambda _: "") -> str:
    """Give what is too much on one letter another form: marks pile up over the lines around."""
    from unicodedata import category

    def thin(match: re.Match[str]) -> str:
        kept, marks = [], 0
        for character in match[0]:
            if category(character) in ("Mn", "Me"):
                marks += 1
            elif character not in "\u200c\u200d":
                marks = 0
            kept.append(form(character) if marks > _MOST_MARKS else character)
        return "".join(kept)

    return re.sub(_FOREIGN, thin, text)


def escape_character(character: str) -> str:
    r"""Return the `\uXXXX` form of one character; above U+FFFF its two UTF-16 halves, as JSON."""
    code = ord(character)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"


def display_width(text: str) -> int:
    """Return how many terminal cells `text` takes."""
    if text.isascii():
        return len(text)
    from unicodedata import category, east_asian_width

    width = 0
    for character in text:
        if category(character) in ("Mn", "Me") or character in "\u200c\u200d":
            continue
        if "\u1160" <= character <= "\u11ff" or "\ud7b0" <= character <= "\ud7ff":
            continue  # the second and third letters of a Korean syllable
        width += 2 if east_asian_width(character) in "WF" else 1
    return width


def cut(text: str, width: int) -> str:
    """Return as much of the beginning of `text` as fits into `width` cells."""
    while text and display_width(text) > width:
        text = text[: min(len(text) - 1, max(width, 0))]
    return text


def shortened(line: str, width: int) -> str:
    """Return a line that fits into `width` cells; one that was cut ends in `…`."""
    if display_width(line) <= width:
        return line
    return cut(line, width - 1).rstrip() + "…"


def folded(text: str, width: int) -> list[str]:
    """Cut one line into pieces of at most `width` cells; colours of its own go on in each.

    Every character stays: for what a person must see exactly, where each row has a margin.
    A row ends behind a space where one is in its second half, else where it is full.
    """
    pieces, colour = [], ""
    for row in _rows(re.findall("\x1b\\[[0-9;]*m|.", text, re.DOTALL), max(width, 2)):
        begun = colour
        for part in row:
            if part[0] == "\x1b":
                colour = "" if part == _PLAIN else part
        pieces.append(begun + "".join(row) + (_PLAIN if colour else ""))
    return pieces


def _rows(parts: list[str], room: int) -> list[list[str]]:
    rows: list[list[str]] = []
    row: list[str] = []
    used = 0
    for part in parts:
        row.append(part)
        used += _cells(part)
        if used > room:
            spaces = [at for at, each in enumerate(row[:-1], 1) if each == " "]
            at = spaces[-1] if spaces and sum(map(_cells, row[: spaces[-1]])) > room // 2 else -1
            rows.append(row[:at])
            row = row[at:]
            used = sum(map(_cells, row))
    return [*rows, row]


def _cells(part: str) -> int:
    return 0 if part[0] == "\x1b" else display_width(part)


def use_colour(stream: TextIO, env: Mapping[str, str], *, no_color: bool = False) -> bool:
    """Tell whether `stream` gets colour: --no-color, NO_COLOR, FORCE_COLOR, TERM, a terminal."""
    if no_color or env.get("NO_COLOR"):
        return False
    if env.get("FORCE_COLOR"):
        return True
    return stream.isatty() and not is_dumb(env)


def is_dumb(env: Mapping[str, str]) -> bool:
    """Tell whether the terminal moves no cursor and has no colours, as TERM says."""
    return env.get("TERM", "") in ("", "dumb")


def reflows(env: Mapping[str, str]) -> bool:
    """Tell whether the terminal wraps lines anew when it gets narrower: all but the oldest do."""
    if env.get("TMUX"):
        return True
    return not (env.get("XTERM_VERSION") or env.get("STY") or env.get("TERM") == "linux")
