"""A shell at a real pseudo-terminal, and every line of its screen as it came and went.

Times are those of the film: a key takes as long as a person's, an answer no longer than somebody
likes to watch. So two recordings differ in ids and figures only.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Self

import pexpect
import pyte
from pyte.screens import Char

from command import AOSCTL

KEY_SECONDS, LONGEST_SECONDS, SHORTEST_SECONDS = 0.045, 0.45, 0.03
_PATIENCE_SECONDS = 120.0
_STYLE = re.compile(r"\x1b\[([0-9;]*)m")
_PRIVATE = re.compile(r"\x1b\[[<=>][0-9;]*[a-zA-Z]")
_BROKEN_OFF = re.compile(r"\x1b(\[[0-9;?<=>]*)?$")
BLANK = Char(" ")

Cells = tuple[Char, ...]


@dataclass
class Piece:
    """Cells of one line from a column on, which were there from `began` until `ended`."""

    row: int
    column: int
    cells: Cells
    began: float
    ended: float | None = None


@dataclass
class Film:
    """What was seen: pieces of lines, how far it had scrolled when, and where the cursor was."""

    columns: int
    rows: int
    pieces: list[Piece] = field(default_factory=list)
    scrolled: list[tuple[float, int]] = field(default_factory=lambda: [(0.0, 0)])
    cursors: list[tuple[float, int, int]] = field(default_factory=list)
    seconds: float = 0.0


class Camera:
    """Types at a shell, and films; `text()` is all that stands on the lines since the last one."""

    def __init__(self, env: Mapping[str, str], columns: int, rows: int) -> None:
        self.film = Film(columns, rows)
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000)
        self._stream = pyte.Stream(self._screen)
        self._lines: dict[int, Cells] = {}
        self._open: dict[int, list[Piece]] = {}
        self._rest = ""
        settings = {
            **env, "PATH": f"{AOSCTL.parent}:/usr/local/bin:/usr/bin:/bin",
            "PS1": r"\[\e[1;32m\]$\[\e[m\] ",
            "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", "LC_ALL": "C.UTF-8",
        }  # fmt: skip
        self._child = pexpect.spawn(
            "/bin/bash", ["--norc", "--noprofile"], env=settings, encoding="utf-8",
            codec_errors="replace", dimensions=(rows, columns),
        )  # fmt: skip
        self._child.delaybeforesend = None

    def __enter__(self) -> Self:
        self.until(lambda: self.cursor_line() == "$ ")
        return self

    def __exit__(self, *_error: object) -> None:
        self._child.close(force=True)

    def cursor_line(self) -> str:
        """Return the line of the cursor, up to it."""
        cursor = self._screen.cursor
        line = self._screen.buffer[cursor.y]
        return "".join(line[x].data for x in range(cursor.x))

    def text(self, since: int = 0) -> str:
        """Return the lines from a row on, as they stand now."""
        last = max(self._lines, default=-1)
        return "\n".join(_plain(self._lines.get(row, ())) for row in range(since, last + 1))

    @property
    def row(self) -> int:
        """The cursor's row, counted from the beginning of the film."""
        return len(self._screen.history.top) + self._screen.cursor.y

    def hold(self, seconds: float) -> None:
        """Leave time to read."""
        self.film.seconds += seconds

    def type(self, keys: str) -> None:
        """Type, key by key, each as soon as the one before is to be seen."""
        for key in keys:
            before = self._look()
            self._child.send(key)
            self.until(lambda before=before: self._look() != before, KEY_SECONDS)

    def _look(self) -> tuple[int, int, str]:
        return self._screen.cursor.x, self._screen.cursor.y, self.text()

    def press(self, key: str) -> None:
        self._child.send(key)

    def until(self, seen: Callable[[], bool], longest: float = LONGEST_SECONDS) -> None:
        """Film until something is to be seen. Raises AssertionError when it does not come."""
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while not seen():
            asked = time.monotonic()
            try:
                came = self._child.read_nonblocking(65536, timeout=deadline - asked)
            except (pexpect.TIMEOUT, pexpect.EOF) as error:
                raise AssertionError(f"it did not come:\n{self.text()}") from error
            self.film.seconds += min(max(time.monotonic() - asked, SHORTEST_SECONDS), longest)
            self._expose(came)

    def _expose(self, came: str) -> None:
        """Feed the screen, and keep which lines are new."""
        text = self._rest + came
        broken = _BROKEN_OFF.search(text)
        self._rest = broken[0] if broken else ""
        text = text[: len(text) - len(self._rest)]
        self._stream.feed(_STYLE.sub(_without_dim, _PRIVATE.sub("", text)))
        film, top = self.film, len(self._screen.history.top)
        if film.scrolled[-1][1] != top:
            film.scrolled.append((film.seconds, top))
        film.cursors.append((film.seconds, top + self._screen.cursor.y, self._screen.cursor.x))
        for row, line in enumerate(self._screen.history.top):
            self._keep(row, (line[x] for x in range(film.columns)))
        for y in range(film.rows):
            line = self._screen.buffer[y]
            self._keep(top + y, (line[x] for x in range(film.columns)))

    def _keep(self, row: int, line: Iterable[Char]) -> None:
        """Add what is new in a line; what it had before and still has stays as it is."""
        cells = _trimmed(tuple(line))
        old = self._lines.get(row, ())
        if cells == old:
            return
        self._lines[row] = cells
        same = len(list(takewhile(lambda pair: pair[0] == pair[1], zip(old, cells, strict=False))))
        pieces = self._open.setdefault(row, [])
        while pieces and pieces[-1].column + len(pieces[-1].cells) > same:
            gone = pieces.pop()
            gone.ended = self.film.seconds
            same = min(same, gone.column)
        if len(cells) > same:
            new = Piece(row, same, cells[same:], self.film.seconds)
            pieces.append(new)
            self.film.pieces.append(new)


def _plain(cells: Cells) -> str:
    return "".join(cell.data for cell in cells)


def _trimmed(cells: Cells) -> Cells:
    end = len(cells)
    while end and cells[end - 1].data == " " and cells[end - 1].bg == "default":
        end -= 1
    return cells[:end]


def _without_dim(found: re.Match[str]) -> str:
    """Return a style in which faint is grey, which pyte can tell."""
    words = found[1].split(";")
    if "38" in words or "48" in words:
        return found[0]
    return f"\x1b[{';'.join('90' if word == '2' else word for word in words)}m"
