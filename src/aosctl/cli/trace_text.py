"""A trace on a terminal: the tree at the left, numbers beside it, a waterfall at the right."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aosctl.bars import bar, has_lines
from aosctl.cli.forest import tree_lines
from aosctl.repl.words import call_line, shorten
from aosctl.terminal import clean, display_width, use_colour

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from aosctl.db.runs import RunRow
    from aosctl.domain.previewing import Style
    from aosctl.domain.trace import Span

_LEAST_TREE, _LEAST_BAR, _MOST_BAR = 24, 10, 60
_FEWEST_COLUMNS, _MOST_COLUMNS = 40, 200
_WIDE = 2**31
_ALLOWANCE = "the allowance of "
_USUAL = ("completed", "succeeded")
_STYLES = {"turn": "bold", "tool": "new", "approval": "warn"}


def words(span: Span) -> str:
    """Return what stands for a span: on one line, safe for a terminal."""
    said = "" if span.state in _USUAL else f" · {span.state.replace('_', ' ')}"
    if span.kind == "turn":  # what matters first: the end may be cut
        number, _, text = span.text.partition(" ")
        error = f": {span.note}" if span.note else ""
        return shorten(f"turn {number}{said}{error}{' ·' if said and text else ''} {text}", _WIDE)
    if span.kind == "tool":
        name = clean(span.text)
        said = f"{said} · {span.note}" if span.note else said
        shown = call_line(span.text, span.args, 200).removeprefix(name)
        return shorten(f"{name}{said}{' ' if said else ''}{shown}", _WIDE)
    if span.kind == "approval":
        if span.note and span.note.startswith(_ALLOWANCE):  # short: who gave it must be seen
            return shorten(f"passed: {span.note.removeprefix('the ')}", _WIDE)
        by = f" by {span.note}" if span.note else ""
        waits = " waits" if span.state == "pending" else ""
        return shorten(f"approval {span.text}{by}{waits}", _WIDE)
    return shorten(f"{span.text}: {span.note}" if span.note else span.text, _WIDE)


def duration(seconds: float | None) -> str:
    """Return a time as 12ms, 1.4s, 42s, 3m07s, 2h05m; nothing where nobody knows."""
    if seconds is None:
        return ""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 9.95:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


def part_of(span: Span, turn: Span, now: datetime) -> tuple[float, float] | None:
    """Return begin and end of a span as parts of its turn, 0 to 1; None where nobody knows."""
    whole = turn.seconds(now)
    if span.begin is None or turn.begin is None or not whole:
        return None
    begin = (span.begin - turn.begin).total_seconds() / whole
    end = ((span.end or now) - turn.begin).total_seconds() / whole
    begin = min(max(begin, 0.0), 1.0)
    return begin, max(min(end, 1.0), begin)


class Line(NamedTuple):
    """A span as it is drawn: behind which lines of the tree, and in which turn."""

    lead: str
    span: Span
    turn: Span


class Picture(NamedTuple):
    """How a trace is drawn; without `blocks` in ASCII."""

    width: int
    style: Style
    blocks: bool

    def draw(self, run: RunRow, turns: Sequence[Span], now: datetime) -> str:
        """Return the picture, a line for each span and one for the run."""
        lines = [line for turn in turns for line in self._tree(turn, turn, "", "")]
        numbers = [_numbers(line.span, now) for line in lines]
        total = _numbers_of_run(run, turns, now)
        widths = [max([len(row[i]) for row in [*numbers, total]], default=0) for i in range(3)]
        columns = sum(width + 2 for width in widths)
        texts = [f"run {run.name} of {run.agent} · {run.state}", *(words(x.span) for x in lines)]
        needed = max(
            display_width(text) + len(lead)
            for text, lead in zip(texts, ["", *(line.lead for line in lines)], strict=True)
        )
        bar = self.width - columns - min(needed, max(self.width // 2, _LEAST_TREE)) - 2
        bar = min(bar, _MOST_BAR) if bar >= _LEAST_BAR else 0
        tree = max(self.width - columns - (bar + 2 if bar else 0), 10)
        tree = min(tree, needed)
        drawn = [
            self._row(self.style(self._fit(texts[0], tree), "bold"), texts[0], tree, total, widths)
        ]
        for line, text, found in zip(lines, texts[1:], numbers, strict=True):
            shown = self._fit(text, tree - len(line.lead))
            styled = self.style(line.lead, "dim") + self._paint(shown, line.span)
            row = self._row(styled, line.lead + shown, tree, found, widths)
            drawn.append(f"{row}  {self._bar(line, bar, now)}" if bar else row)
        return "".join(f"{row.rstrip()}\n" for row in drawn)

    def _fit(self, text: str, width: int) -> str:
        short = shorten(text, max(width, 4))
        return short if self.blocks else short.replace("…", "~").replace("·", "-")

    def _row(
        self, styled: str, plain: str, tree: int, numbers: Sequence[str], widths: Sequence[int]
    ) -> str:
        cut = min(display_width(plain), tree)
        cells = "".join(f"  {text:>{width}}" for text, width in zip(numbers, widths, strict=True))
        return f"{styled}{' ' * (tree - cut)}{cells}"

    def _tree(self, span: Span, turn: Span, lead: str, indent: str) -> Iterator[Line]:
        yield Line(lead, span, turn)
        middle, last, going, gone = tree_lines(drawn=self.blocks)
        for place, one in enumerate(span.below):
            is_last = place == len(span.below) - 1
            yield from self._tree(
                one,
                turn,
                indent + (last if is_last else middle),
                indent + (gone if is_last else going),
            )

    def _bar(self, line: Line, width: int, now: datetime) -> str:
        """Draw when it was, as a part of its turn; what goes on still ends with an arrow."""
        part = part_of(line.span, line.turn, now)
        if part is None:
            return ""
        text = bar(part[1] - part[0], width, blocks=self.blocks, begin=part[0])
        if line.span.end is None:
            text = text[: width - 1] + ">"
        return self._paint(text, line.span)

    def _paint(self, text: str, span: Span) -> str:
        kind = "gone" if span.has_failed else _STYLES.get(span.kind)
        return self.style(text, kind) if kind else text


def _numbers(span: Span, now: datetime) -> tuple[str, str, str]:
    return duration(span.seconds(now)), _tokens(span), _money(span)


def _numbers_of_run(run: RunRow, turns: Sequence[Span], now: datetime) -> tuple[str, str, str]:
    from aosctl.domain.money import money

    known = [seconds for turn in turns if (seconds := turn.seconds(now)) is not None]
    return duration(sum(known)), f"{run.input_tokens + run.output_tokens}", money(run.spent_usd)


def _tokens(span: Span) -> str:
    count = span.input_tokens + span.output_tokens
    return str(count) if count else ""


def _money(span: Span) -> str:
    from aosctl.domain.money import money

    return money(span.cost_usd) if span.cost_usd else ""


def picture_here(*, no_color: bool) -> Picture:
    """Return how a trace is drawn on this terminal, or where there is none."""
    import os
    import shutil
    import sys

    from aosctl.cli.approval_screen import style_for

    width = min(max(shutil.get_terminal_size((100, 24)).columns, _FEWEST_COLUMNS), _MOST_COLUMNS)
    colour = use_colour(sys.stdout, os.environ, no_color=no_color)
    return Picture(width, style_for(colour), blocks=has_lines())
