"""`aosctl logs`: what happened in a run, or in all runs of an agent; once, or as it goes on."""

from __future__ import annotations

import sys
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import Selector
from aosctl.cli.globals import globals_of
from aosctl.cli.moments import parse_duration, parse_moment
from aosctl.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from uuid import UUID

    from aosctl.cli.event_lines import Line
    from aosctl.db.events import EventRow
    from aosctl.db.following import Which
    from aosctl.db.rows import AnyConnection, AnySession
    from aosctl.db.runs import RunRow

_TAIL_OF_MANY = 10


def command(
    ctx: typer.Context,
    target: Annotated[
        str | None, typer.Argument(metavar="RUN | agent/NAME", show_default=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("-f", "--follow", help="Go on as things happen, until the run is closed")
    ] = False,
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", help="Only the last N lines of each run")
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Not older than 45s, 5m, 2h30m, 3d"),
    ] = None,
    since_time: Annotated[
        str | None, typer.Option("--since-time", metavar="RFC3339", help="Not before this moment")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin with the time")] = False,
    prefix: Annotated[
        bool | None,
        typer.Option("--prefix/--no-prefix", help="Begin with the run; as a rule with several"),
    ] = None,
    selector: Selector = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json: an event a line")
    ] = None,
) -> None:
    """Show the events of a run, or of all runs of an agent, with what was said and done.

    -f survives a lost connection and a restart of the server, without a gap or a repetition.

    Examples:
      aosctl logs my_pg_bot-x7k2p
      aosctl logs -f x7k2p --tail 20
      aosctl logs agent/my_pg_bot --since 1h --timestamps
      aosctl logs x7k2p -o json | jq .kind
    """
    chosen = output.parse_output(output_format, allowed=("json",))
    if since and since_time:
        raise UsageError("only one of --since-time / --since may be used")
    if (target is None) == (selector is None):
        raise UsageError("expected one RUN, agent/NAME or -l LABELS", "aosctl ps -a lists the runs")
    if tail is not None and tail < -1:
        raise UsageError("--tail must be greater than or equal to -1")
    several = selector is not None or (target or "").startswith(("agent/", "agents/", "agent.aos/"))
    view = View(
        json=chosen.format == "json",
        timestamps=timestamps,
        prefix=several if prefix is None else prefix,
        tail=_TAIL_OF_MANY if tail is None and selector else tail if tail != -1 else None,
        since=_since(since, since_time),
    )
    given = globals_of(ctx)

    from aosctl.cli.wiring import quick_session_of, session_of

    if not follow:
        with closing(quick_session_of(given)) as session:
            _show(session, _which(session, target, selector), view)
        return
    from aosctl.db.following import Follower

    with closing(session_of(given)) as session:
        which = _which(session, target, selector)
        follower = Follower(
            session.connection,
            session.conninfo,
            "logs",
            which,
            lambda text: output.note(text, quiet=given.quiet),
        )
        with closing(follower):
            follower.seen = _show(session, which, view)
            follower.follow(lambda connection, run: _news(connection, run, view, follower.seen))


@dataclass(frozen=True, slots=True)
class View:
    """Which events to show, and how. `since` is an age, or a moment."""

    json: bool
    timestamps: bool
    prefix: bool
    tail: int | None
    since: timedelta | datetime | None

    def write(self, lines: list[Line]) -> None:
        """Print lines, at once."""
        with_times = self.timestamps and not self.json
        with_runs = self.prefix and not self.json
        output.write("".join(line.show(prefix=with_runs, timestamps=with_times) for line in lines))
        sys.stdout.flush()


def _since(age: str | None, moment: str | None) -> timedelta | datetime | None:
    if age:
        return parse_duration(age)
    return parse_moment(moment) if moment else None


def _which(session: AnySession, target: str | None, selector: str | None) -> Which:
    """Return the runs that were named. Raises NotFound."""
    from aosctl.db import manifests
    from aosctl.db.following import Which
    from aosctl.db.runs import find_run
    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.selectors import parse_selector

    tenant = session.require_tenant()
    if selector is not None:
        matches = parse_selector(selector)
        return Which(tenant, wanted=lambda run: matches(run.labels))
    kind, slash, name = (target or "").partition("/")
    if slash and kind in ("agent", "agents", "agent.aos"):
        if name not in manifests.names(session.connection, BY_NAME["Agent"].view, tenant):
            raise NotFound(f'agents.aos "{name}" not found', "aosctl get agents")
        return Which(tenant, agent=name)
    try:
        return Which(tenant, (find_run(session.connection, tenant, target or "").run_id,))
    except NotFound as error:
        agents = manifests.names(session.connection, BY_NAME["Agent"].view, tenant)
        if target not in agents:
            raise
        raise NotFound(error.message, f"of the agent: aosctl logs agent/{target}") from None


def _show(session: AnySession, which: Which, view: View) -> dict[UUID, int]:
    """Print what there is; return the number of the last event of each run."""
    seen: dict[UUID, int] = {}
    runs = which.read(session.connection)
    lines: list[Line] = []
    for run in runs:
        # What comes while we read has a higher number, and is news.
        seen[run.run_id] = run.last_seq
        if len(runs) == 1 and view.tail is None:
            _news(session.connection, run, view, seen, after=0)
        elif view.tail is None:
            for batch in _batches(session.connection, run, 0, view.since):
                lines += _lines(session.connection, run, batch, view)
        else:
            lines += _last(session.connection, run, view, view.tail)
    view.write(sorted(lines, key=attrgetter("at")))
    return seen


def _news(
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
    for batch in _batches(connection, run, start, since):
        view.write(_lines(connection, run, batch, view))
        seen[run.run_id] = max(seen.get(run.run_id, 0), batch[-1].seq)


def _batches(
    connection: AnyConnection, run: RunRow, after: int, since: timedelta | datetime | None
) -> Iterator[list[EventRow]]:
    from aosctl.db.events import BATCH, events

    while batch := events(connection, run, after=after, since=since):
        yield batch
        if len(batch) < BATCH:
            return
        after = batch[-1].seq


def _last(connection: AnyConnection, run: RunRow, view: View, count: int) -> list[Line]:
    """Return the last lines of a run; events may have several, or none."""
    from aosctl.db.events import events

    reach = count + _TAIL_OF_MANY
    while count:
        batch = events(connection, run, since=view.since, last=reach, until=run.last_seq)
        lines = _lines(connection, run, batch, view)
        if len(lines) >= count or len(batch) < reach:
            return lines[-count:]
        reach *= 2
    return []


def _lines(connection: AnyConnection, run: RunRow, batch: list[EventRow], view: View) -> list[Line]:
    from aosctl.cli.event_lines import json_line, text_lines
    from aosctl.db.events import content

    found = content(connection, run, batch)
    if view.json:
        return [json_line(event, found) for event in batch]
    return [line for event in batch for line in text_lines(event, found)]
