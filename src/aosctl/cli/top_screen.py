"""The picture of `aosctl top`, and the terminal that it is drawn on."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from aosctl.cli.own_terminal import own_terminal, pressed, signalled
from aosctl.terminal import cut, display_width

if TYPE_CHECKING:
    from aosctl.db.runs import RunRow

_OTHER_SCREEN, _OWN_SCREEN = "\x1b[?1049h\x1b[?25l", "\x1b[?25h\x1b[?1049l"
_LEFT_OUT = ("STEP", "TURN", "AGENT", "TOOL", "TOKENS")
"""Columns that a narrow terminal goes without, one after the other."""
_HOME, _REST_OF_LINE, _REST = "\x1b[H", "\x1b[K", "\x1b[J"


def board(
    rows: Sequence[RunRow],
    where: str,
    key: str,
    rate: float | None,
    *,
    with_tenant: bool = False,
    columns: int | None = None,
) -> list[str]:
    """Return the picture: two lines of sums, an empty one, the table; safe for a terminal.

    What can best be done without is left out where the table has more than so many `columns`.
    """
    from decimal import Decimal

    from aosctl.cli.forest import has_lines
    from aosctl.cli.ps import HEADERS, cells
    from aosctl.cli.table import cell, format_table
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
        f"{counted(len(rows), 'run')} in {cell(where)}{f': {found}' if found else ''}",
        f"{tokens:,} tokens{pace} · {money(spent)} · {counted(waiting, 'approval')} pending"
        f" · by {key}",
        "",
    ]
    if not has_lines():
        lines = [line.replace("·", "-") for line in lines]
    table = [[*(["TENANT"] if with_tenant else []), *HEADERS]]
    table += [
        [cell(value) for value in [*([row.tenant] if with_tenant else []), *cells(row)]]
        for row in rows
    ]
    laid_out = format_table(table).splitlines()
    for name in _LEFT_OUT:
        if columns is None or max(map(display_width, laid_out)) <= columns:
            break
        place = table[0].index(name)
        table = [[*row[:place], *row[place + 1 :]] for row in table]
        laid_out = format_table(table).splitlines()
    return lines + laid_out


def fitted(lines: Sequence[str], columns: int, rows: int) -> list[str]:
    """Return what fits on the screen; the last line says how many do not."""
    shown = [cut(line, columns) for line in lines[:rows]]
    if len(lines) > rows > 0:
        shown[-1] = cut(f"({len(lines) - rows + 1} more)", columns)
    return shown


class Screen:
    """`aosctl top` on a terminal, until q."""

    def __init__(
        self,
        read: Callable[[bool, str], list[RunRow]],
        where: str,
        orders: Sequence[str],
        order: str,
        everything: bool,
        with_tenant: bool,
    ) -> None:
        self._read = read
        self._where = where
        self._orders = list(orders)
        self._order = order
        self._everything = everything
        self._with_tenant = with_tenant
        self._before: tuple[float, int] | None = None

    def run(self, interval: float) -> None:
        """Draw, and wait for keys; leave the terminal as it was, whatever happens."""
        with own_terminal(_OTHER_SCREEN, _OWN_SCREEN), signalled() as wakes:
            while True:
                self._draw()
                key = pressed(interval, wakes)
                if key in ("q", "Q", "\x04", None):
                    return
                if key == "s":
                    place = self._orders.index(self._order) + 1
                    self._order = self._orders[place % len(self._orders)]
                elif key == "a":
                    self._everything = not self._everything

    def _draw(self) -> None:
        rows = self._read(self._everything, self._order)
        size = shutil.get_terminal_size((80, 24))
        picture = board(
            rows,
            self._where,
            self._order,
            self._rate(rows),
            with_tenant=self._with_tenant,
            columns=size.columns,
        )
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
