"""Which events of runs are shown, and how; the reading that `logs` and `attach` share."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.errors import UsageError
from aosctl.numbers import whole

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from uuid import UUID

    from aosctl.cli.event_lines import Line
    from aosctl.db.events import EventRow
    from aosctl.db.following import Which
    from aosctl.db.rows import AnyConnection
    from aosctl.db.runs import RunRow

TAIL_OF_MANY = 10
LEVELS = ("info", "warning", "error")


@dataclass(frozen=True, slots=True)
class View:
    """Which events to show, and how. `since` is an age, or a moment.

    `level` is the least of LEVELS; `cursors` the number of the last event that is known already,
    by the name of its run. A `printer` prints the lines in its own way.
    """

    json: bool = False
    timestamps: bool = False
    prefix: bool = False
    tail: int | None = None
    since: timedelta | datetime | None = None
    until: datetime | None = None
    grep: re.Pattern[str] | None = None
    level: str = "info"
    cursors: Mapping[str, int] = field(default_factory=dict)
    printer: Callable[[list[Line]], None] | None = None

    def write(self, lines: list[Line]) -> None:
        """Print lines, at once."""
        if self.printer is not None:
            self.printer(lines)
            return
        with_times = self.timestamps and not self.json
        with_runs = self.prefix and not self.json
        output.write("".join(line.show(prefix=with_runs, timestamps=with_times) for line in lines))
        sys.stdout.flush()

    def wants(self, event: EventRow) -> bool:
        """Tell whether the event is as grave as wanted."""
        return LEVELS.index(level_of(event)) >= LEVELS.index(self.level)


_GRAVE = {
    "turn.failed": "error",
    "run.failed": "error",
    "turn.limited": "warning",
    "turn.retrying": "warning",
    "model.fell_back": "warning",
    "turn.reclaimed": "warning",
    "turn.cancelled": "warning",
    "turn.set_aside": "warning",
    "lease.given_up": "warning",
    "run.cancelled": "warning",
    "approval.requested": "warning",
    "approval.denied": "warning",
    "approval.expired": "warning",
    "webhook.given_up": "warning",
}


def level_of(event: EventRow) -> str:
    """Return how grave an event is, one of LEVELS.

    What waits for a person or was stopped is a warning; what failed an error, a tool's failure,
    with which the model goes on, a warning.
    """
    if event.kind == "tool.result":
        return "info" if event.data.get("ok") else "warning"
    calls = event.data.get("calls")
    if event.kind == "model.answered" and isinstance(calls, list):
        loud = ("awaiting_approval", "denied", "failed")
        return "warning" if any(c.get("status") in loud for c in calls) else "info"
    return _GRAVE.get(event.kind, "info")


def pattern_of(text: str | None) -> re.Pattern[str] | None:
    """Return --grep's expression; without capitals it matches them too. Raises UsageError."""
    if text is None:
        return None
    try:
        return re.compile(text, re.IGNORECASE if text == text.lower() else 0)
    except (re.error, RecursionError, OverflowError) as error:
        raise UsageError(
            f'invalid pattern "{text}": {error}', "a regular expression, as of Python"
        ) from None


def cursors_of(text: str | None) -> dict[str, int]:
    """Return `RUN@N,RUN@N` as numbers by name. Raises UsageError."""
    found: dict[str, int] = {}
    for part in text.split(",") if text is not None else ():
        name, at, number = part.strip().rpartition("@")
        cursor = whole(number)
        if not at or not name or cursor is None:
            raise UsageError(
                f'invalid cursor "{part}"', "RUN@N, as --show-cursor and -o json print it"
            )
        found[name] = cursor
    return found


def show(connection: AnyConnection, which: Which, view: View) -> dict[UUID, int]:
    """Print what there is; return the number of the last event of each run."""
    seen: dict[UUID, int] = {}
    runs = which.read(connection)
    if strange := set(view.cursors) - {run.name for run in runs}:
        raise UsageError(f'the cursor is of run "{min(strange)}", which is not among those shown')
    lines: list[Line] = []
    for run in runs:
        # What comes while we read has a higher number, and is news.
        seen[run.run_id] = run.last_seq
        after = view.cursors.get(run.name, 0)
        if len(runs) == 1 and view.tail is None:
            news(connection, run, view, seen, after=after)
        elif view.tail is None:
            for batch in _batches(connection, run, after, view.since, view.until):
                lines += _lines(connection, run, batch, view)
        else:
            lines += _last(connection, run, view, view.tail)
    view.write(sorted(lines, key=attrgetter("at")))
    return seen


def news(
    connection: AnyConnection,
    run: RunRow,
    view: View,
    seen: dict[UUID, int],
    after: int | None = None,
) -> None:
    """Print what came after the last event seen, and count it as seen once it is printed."""
    # An age would slide over what a lost connection has kept from us: it limits the start only.
    since = None if after is None else view.since
    start = seen.get(run.run_id, 0) if after is None else after
    for batch in _batches(connection, run, start, since, view.until):
        view.write(_lines(connection, run, batch, view))
        seen[run.run_id] = max(seen.get(run.run_id, 0), batch[-1].seq)


def _batches(
    connection: AnyConnection,
    run: RunRow,
    after: int,
    since: timedelta | datetime | None,
    until: datetime | None,
) -> Iterator[list[EventRow]]:
    from aosctl.db.events import BATCH, events

    while batch := events(connection, run, after=after, since=since, not_after=until):
        yield batch
        if len(batch) < BATCH:
            return
        after = batch[-1].seq


def _last(connection: AnyConnection, run: RunRow, view: View, count: int) -> list[Line]:
    """Return the last lines of a run; events may have several, or none."""
    from aosctl.db.events import events

    after = view.cursors.get(run.name, 0)
    reach = count + TAIL_OF_MANY
    while count:
        batch = events(
            connection,
            run,
            after=after,
            since=view.since,
            not_after=view.until,
            last=reach,
            until=run.last_seq,
        )
        lines = _lines(connection, run, batch, view)
        if len(lines) >= count or len(batch) < reach:
            return lines[-count:]
        reach *= 2
    return []


def _lines(connection: AnyConnection, run: RunRow, batch: list[EventRow], view: View) -> list[Line]:
    from aosctl.cli.event_lines import json_line, text_lines
    from aosctl.db.events import content

    wanted = [event for event in batch if view.wants(event)]
    found = content(connection, run, wanted)
    if view.json:
        lines = [json_line(event, found) for event in wanted]
    else:
        lines = [line for event in wanted for line in text_lines(event, found)]
    return [line for line in lines if view.grep is None or view.grep.search(line.text)]
