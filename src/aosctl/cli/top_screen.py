"""The picture of `aosctl top`, and the terminal that it is drawn on."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from aosctl.cli.own_terminal import own_terminal, pressed, signalled
from aosctl.terminal import cut, display_width

if TYPE_CHECKING:
    from aosctl.cli.changes import Changes
    from aosctl.db.runs import RunRow

_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


class View(NamedTuple):
    """What is shown: runs or agents, of where, in which order, with a row of sums or without."""

    where: str
    key: str
    subject: str = "runs"
    with_tenant: bool = False
    total: bool = False


def board(
    rows: Sequence[RunRow], view: View, rate: float | None, columns: int | None = None
) -> list[str]:
    """Return the picture: two lines of sums, an empty one, the table; safe for a terminal.

    What can best be done without is left out where the table has more than so many `columns`.
    """
    from aosctl.cli.table import cell, format_table
    from aosctl.cli.top_tables import LEFT_OUT, table

    headers, body = table(rows, view.subject, view.key, tenant=view.with_tenant, total=view.total)
    shown = [headers, *([cell(value) for value in line] for line in body)]
    laid_out = format_table(shown).splitlines()
    for name in LEFT_OUT[view.subject]:
        if columns is None or max(map(display_width, laid_out)) <= columns:
            break
        place = shown[0].index(name)
        shown = [[*line[:place], *line[place + 1 :]] for line in shown]
        laid_out = format_table(shown).splitlines()
    return [*_sums(rows, view, rate), "", *laid_out]


def _sums(rows: Sequence[RunRow], view: View, rate: float | None) -> list[str]:
    from decimal import Decimal

    from aosctl.bars import has_lines
    from aosctl.cli.table import cell
    from aosctl.domain.money import money
    from aosctl.repl.words import counted

    states: dict[str, int] = {}
    for row in rows:
        states[row.state] = states.get(row.state, 0) + 1
    waiting = sum(row.waiting_on == "approval" for row in rows)
    tokens = sum(row.input_tokens + row.output_tokens for row in rows)
    spent = sum((row.spent_usd for row in rows), Decimal(0))
    pace = "" if rate is None else f", {rate:,.0f} a minute"
    found = ", ".join(f"{count} {state.replace('_', ' ')}" for state, count in states.items())
    lines = [
        f"{counted(len(rows), 'run')} in {cell(view.where)}{f': {found}' if found else ''}",
        f"{tokens:,} tokens{pace} · {money(spent)} · {counted(waiting, 'approval')} pending"
        f" · by {view.key}",
    ]
    return lines if has_lines() else [line.replace("·", "-") for line in lines]


def fitted(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """Return what fits on the screen; the last line says how many do not."""
    shown = [cut(line, columns) for line in lines[:rows]]
    if len(lines) > rows > 0:
        shown[-1] = cut(f"({len(lines) - rows + 1} more)", columns)
    return shown


class Screen:
    """`aosctl top` on a terminal, until q; drawn at each change that `changes` tells of."""

    def __init__(
        self,
        read: Callable[[bool], list[RunRow]],
        view: View,
        orders: Sequence[str],
        everything: bool,
        changes: Changes | None,
    ) -> None:
        self._read = read
        self._view = view
        self._orders = list(orders)
        self._everything = everything
        self._changes = changes
        self._before: tuple[float, int] | None = None

    def run(self, interval: float) -> None:
        """Draw, and wait for keys; leave the terminal as it was, whatever happens."""
        files = []
        if self._changes is not None:
            self._changes.start()
            files = [self._changes.file]
        with own_terminal(_OTHER_SCREEN, _OWN_SCREEN), signalled() as wakes:
            while True:
                self._draw()
                key = pressed(interval, wakes, *files)
                if key in ("q", "Q", "\x04", None):
                    return
                if key == "s":
                    place = self._orders.index(self._view.key) + 1
                    self._view = self._view._replace(key=self._orders[place % len(self._orders)])
                elif key == "a":
                    self._everything = not self._everything

    def _draw(self) -> None:
        rows = self._read(self._everything)
        if self._changes is not None:
            self._changes.look_at((row.tenant_id, row.run_id) for row in rows if row.has_open_turn)
        size = shutil.get_terminal_size((80, 24))
        picture = board(rows, self._view, self._rate(rows), size.columns)
        picture[2] = "keys: q quit, s sort, a all or open"
        lines = fitted(picture, size.columns, size.lines - 1)
        drawn = "".join(f"{line}{_REST_OF_LINE}\r\n" for line in lines)
        sys.stdout.write(f"{_HOME}{drawn}{_REST}")
        sys.stdout.flush()

    def _rate(self, rows: Sequence[RunRow]) -> float | None:
        """Return the tokens a minute since the last picture; None at the first."""
        now, tokens = time.monotonic(), sum(r.input_tokens + r.output_tokens for r in rows)
        before, self._before = self._before, (now, tokens)
        if before is None or now <= before[0]:
            return None
        return max(tokens - before[1], 0) * 60 / (now - before[0])
