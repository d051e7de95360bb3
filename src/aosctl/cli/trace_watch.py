"""`aosctl trace -w`: the tree of a run that goes on, drawn anew where it stood."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aosctl.cli import output
from aosctl.terminal import folded, reflows

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection
    from aosctl.db.runs import RunRow

_UP_AND_CLEAR = "\x1b[{}A\r\x1b[J"


class Busy(NamedTuple):
    """A run that is followed for as long as a turn of it is open."""

    row: RunRow

    @property
    def tenant_id(self) -> UUID:
        return self.row.tenant_id

    @property
    def run_id(self) -> UUID:
        return self.row.run_id

    @property
    def last_seq(self) -> int:
        return self.row.last_seq

    @property
    def is_closed(self) -> bool:
        return not self.row.has_open_turn


class OneRun(NamedTuple):
    """What is followed; durations grow without a notice."""

    tenant: UUID
    ids: tuple[UUID, ...]
    is_told: bool = False

    def read(self, connection: AnyConnection) -> list[Busy]:
        """Read the run as it stands now."""
        from aosctl.db.runs import runs

        return [Busy(row) for row in runs(connection, self.tenant, ids=self.ids)]

    def open_runs(self, found: Sequence[Busy]) -> list[tuple[UUID, UUID]]:
        """Return the run, of which notices are asked for."""
        return [(one.tenant_id, one.run_id) for one in found if not one.is_closed]


def watched(given: Globals, typed: str, turn: int | None, depth: int) -> None:
    """Draw a run for as long as a turn of it is open, and take the drawing away again.

    Off a terminal nothing is drawn. A lost connection is made anew. Raises NotFound.
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db.following import Follower
    from aosctl.db.runs import find_run

    with closing(session_of(given)) as session:
        tenant = session.require_tenant()
        run = find_run(session.connection, tenant, typed).run_id
        drawing = Drawing(turn, depth, no_color=given.no_color)

        def note(text: str) -> None:
            drawing.take_away()
            output.note(text, quiet=given.quiet)

        follower: Follower[Busy] = Follower(
            session.connection, session.conninfo, "trace", OneRun(tenant, (run,)), note
        )
        with closing(follower):
            try:
                follower.follow(drawing.draw)
            finally:
                drawing.take_away()


class Drawing:
    """What stands on the terminal of a run that goes on."""

    def __init__(self, turn: int | None, depth: int, *, no_color: bool) -> None:
        self._turn, self._depth, self._no_color = turn, depth, no_color
        self._shown: list[str] = []

    def draw(self, connection: Connection, one: Busy) -> None:
        """Draw the run as it is now, in place of what stood there."""
        if not sys.stdout.isatty():
            return
        from aosctl.cli.trace_text import picture_here
        from aosctl.db.clock import moment
        from aosctl.db.traces import record
        from aosctl.domain.trace import cut, spans

        turns = cut(spans(record(connection, one.row, self._turn)), self._depth)
        text = picture_here(no_color=self._no_color).draw(one.row, turns, moment(connection))
        # What has left the screen at the top could not be taken away again, nor what it wraps.
        columns, rows = shutil.get_terminal_size((100, 24))
        lines = [row for line in text.splitlines() for row in folded(line, columns)]
        shown = lines[-max(rows - 1, 1) :]
        sys.stdout.write(self._clearing() + "".join(f"{line}\n" for line in shown))
        sys.stdout.flush()
        self._shown = shown

    def take_away(self) -> None:
        """Clear what was drawn."""
        if clearing := self._clearing():
            sys.stdout.write(clearing)
            sys.stdout.flush()

    def _clearing(self) -> str:
        """Return what clears it; a terminal that got narrower has wrapped the long lines."""
        shown, self._shown = self._shown, []
        if not shown:
            return ""
        columns, rows = shutil.get_terminal_size((100, 24))
        height = len(shown)
        if reflows(os.environ):
            height = sum(len(folded(line, columns)) for line in shown)
        return _UP_AND_CLEAR.format(min(height, max(rows - 1, 1)))
