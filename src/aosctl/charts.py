"""Charts in a terminal, from a fenced block of Markdown that reads well without one.

    ```chart bar
    Revenue by category, EUR
    pens: 133.40
    paper: 231
    ```

`bar` is the usual kind; `line` joins its values, `spark` shows them on one line. Lines end in a
number; a first line that does not is the title. What is none of that is no chart: `chart_of`
returns None, and the block is shown as it was written.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Literal, NamedTuple, cast

from aosctl.bars import bar
from aosctl.terminal import display_width, shortened

Kind = Literal["bar", "line", "spark"]
Style = Callable[[str], str]
KINDS = ("bar", "line", "spark")
MOST_BARS = 100
MOST_VALUES = 10_000
LINE_ROWS = 8
_LONGEST = 500
"""Characters of a line; on longer ones the pattern takes its time."""
_WIDEST = 100
_NARROWEST = 20
_POINT = re.compile(
    r"(?P<label>.*?)[\s:|=,;]*(?P<number>[-+]?\d[\d_,]*(?:\.\d+)?(?:[eE][-+]?\d+)?)\s*%?"
)
_SPARKS = "▁▂▃▄▅▆▇█"
_PLAIN_SPARKS = "_.-=+*%#"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bits of a braille letter's eight dots: four rows of two."""


class Point(NamedTuple):
    """A value, its name, and the number as it was written."""

    label: str
    value: float
    number: str


class Chart(NamedTuple):
    """What is drawn: at least one point."""

    kind: Kind
    title: str
    points: tuple[Point, ...]


def chart_of(info: str, text: str) -> Chart | None:
    """Return the chart that a fenced block holds; None where it is no chart, or can't be read."""
    words = info.split()
    if not words or words[0] != "chart" or len(words) > 2 or (words[1:] and words[1] not in KINDS):
        return None
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    title = ""
    if lines and _point(lines[0]) is None:
        title = lines.pop(0)
    points = [_point(line) for line in lines]
    if not points or len(points) > MOST_VALUES or None in points:
        return None
    kind = cast(Kind, words[1] if len(words) > 1 else "bar")
    return Chart(kind, title, tuple(cast(list[Point], points)))


def draw(chart: Chart, width: int, *, blocks: bool, style: Style = str) -> list[str]:
    """Return the lines of a chart, none wider than `width`; its text must be clean.

    `blocks` False draws with ASCII alone; `style` colours what is drawn.
    """
    width = min(max(width, _NARROWEST), _WIDEST)
    title = [shortened(chart.title, width)] if chart.title else []
    drawn = {"bar": _bars, "line": _line, "spark": _spark}[chart.kind]
    return [*title, *drawn(chart.points, width, blocks, style)]


def _point(line: str) -> Point | None:
    found = _POINT.fullmatch(line) if len(line) <= _LONGEST else None
    if found is None:
        return None
    value = float(found["number"].replace(",", "").replace("_", ""))
    if not math.isfinite(value):
        return None
    label = found["label"].strip(" :|=,;-*")
    return Point(label, value, line[found.start("number") :].strip())


def _bars(points: tuple[Point, ...], width: int, blocks: bool, style: Style) -> list[str]:
    shown = points[:MOST_BARS]
    numbers = max(display_width(one.number) for one in shown)
    names = min(max(display_width(one.label) for one in shown), max(width // 3, 4))
    numbers = min(numbers, max(width // 3, 4))
    room = max(width - names - numbers - 2, 1)
    low = min(0.0, *(one.value for one in shown))
    span = max(0.0, *(one.value for one in shown)) - low
    lines = []
    for one in shown:
        drawn = _bar_of(one.value, low, span, room, blocks)
        name = _padded(shortened(one.label, names), names)
        number = shortened(one.number, numbers)
        lines.append(
            f"{name} {style(drawn)}{' ' * (room - display_width(drawn))} "
            f"{' ' * (numbers - display_width(number))}{number}".rstrip()
        )
    if len(points) > len(shown):
        lines.append(f"… and {len(points) - len(shown)} more" if blocks else "... and more")
    return lines


def _bar_of(value: float, low: float, span: float, room: int, blocks: bool) -> str:
    """Return the bar of a value between the line of zero and itself; of zero, none."""
    if not value or not span:
        return ""
    begin = (min(value, 0.0) - low) / span
    drawn = bar(min(abs(value) / span, 1.0), room, blocks=blocks, begin=begin)
    return drawn[:room]


def _line(points: tuple[Point, ...], width: int, blocks: bool, style: Style) -> list[str]:
    values = [one.value for one in points]
    low, high = min(values), max(values)
    ends = [_number(high), _number(low)]
    margin = min(max(map(display_width, ends)), width // 3)
    room = max(width - margin - 2, 2)
    columns = min(room, max(len(values), 2) * 8)
    rows = _plotted(values, columns, low, high) if blocks else _starred(values, columns, low, high)
    lines = []
    for number, row in enumerate(rows):
        end = ends[0] if number == 0 else ends[1] if number == len(rows) - 1 else ""
        edge = "┤" if blocks else "|"
        lines.append(f"{shortened(end, margin):>{margin}} {edge}{style(row)}".rstrip())
    first, last = points[0].label, points[-1].label
    if first or last:
        each = max((columns - 1) // 2, 1)
        left, right = shortened(first, each), shortened(last, each) if len(points) > 1 else ""
        gap = max(columns - display_width(left) - display_width(right), 1)
        lines.append(f"{'':>{margin}}  {left}{' ' * gap}{right}".rstrip())
    return lines


def _at(values: list[float], place: float) -> float:
    """Return the value at a share of the way, between two points on the line from one to other."""
    at = place * (len(values) - 1)
    before = min(int(at), len(values) - 1)
    after = min(before + 1, len(values) - 1)
    return values[before] + (values[after] - values[before]) * (at - before)


def _heights(values: list[float], columns: int, most: int, low: float, high: float) -> list[int]:
    """Return how high, from 0 to `most`, the line is in each column."""
    scale = max(abs(low), abs(high), 1.0)  # so that no difference of large numbers is infinite
    span = high / scale - low / scale
    found = []
    for column in range(columns):
        value = _at(values, column / max(columns - 1, 1)) / scale
        share = (value - low / scale) / span if span else 0.5
        found.append(min(max(round(share * most), 0), most))
    return found


def _plotted(values: list[float], columns: int, low: float, high: float) -> list[str]:
    """Draw in braille: two dots wide and four high a cell, each joined to the one before."""
    most = LINE_ROWS * 4 - 1
    heights = _heights(values, columns * 2, most, low, high)
    cells = [[0] * columns for _ in range(LINE_ROWS)]
    before = heights[0]
    for column, height in enumerate(heights):
        step = 1 if height >= before else -1
        for dot in range(before + step if height != before else height, height + step, step):
            row, line = divmod(most - dot, 4)
            cells[row][column // 2] |= _DOTS[line][column % 2]
        before = height
    return ["".join(chr(0x2800 + bits) if bits else " " for bits in row) for row in cells]


def _starred(values: list[float], columns: int, low: float, high: float) -> list[str]:
    rows = [[" "] * columns for _ in range(LINE_ROWS)]
    for column, height in enumerate(_heights(values, columns, LINE_ROWS - 1, low, high)):
        rows[LINE_ROWS - 1 - height][column] = "*"
    return ["".join(row) for row in rows]


def _spark(points: tuple[Point, ...], width: int, blocks: bool, style: Style) -> list[str]:
    values = [one.value for one in points]
    low, high = min(values), max(values)
    words = f" {_number(values[-1])} ({_number(low)} to {_number(high)})"
    columns = max(min(len(values), width - display_width(words)), 1)
    marks = _SPARKS if blocks else _PLAIN_SPARKS
    heights = _heights(values, columns, len(marks) - 1, low, high)
    drawn = style("".join(marks[one] for one in heights))
    return [drawn + shortened(words, width - columns)]


def _number(value: float) -> str:
    return f"{value:,.6g}" if abs(value) < 1e15 else f"{value:.3g}"


def _padded(text: str, width: int) -> str:
    return text + " " * (width - display_width(text))
