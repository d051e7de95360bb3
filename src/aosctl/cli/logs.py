"""`aosctl logs`: what happened in a run, or in all runs of an agent; once, or as it goes on."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import Selector
from aosctl.cli.globals import globals_of
from aosctl.cli.log_view import LEVELS, TAIL_OF_MANY, View, cursors_of, news, pattern_of, show
from aosctl.cli.moments import parse_duration, parse_moment, parse_since
from aosctl.cli.targets import AGENT_WORDS
from aosctl.errors import AosError, NotFound, UsageError

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from uuid import UUID

    from aosctl.db.following import Which
    from aosctl.db.rows import AnySession


def command(
    ctx: typer.Context,
    targets: Annotated[
        list[str] | None, typer.Argument(metavar="RUN… | agent/NAME", show_default=False)
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
    until: Annotated[
        str | None,
        typer.Option("--until", metavar="TIME", help="Not after: an age, or a moment"),
    ] = None,
    grep: Annotated[
        str | None,
        typer.Option("-g", "--grep", metavar="PATTERN", help="Only lines that match"),
    ] = None,
    level: Annotated[
        str, typer.Option("--level", metavar="LEVEL", help="At least: info, warning or error")
    ] = "info",
    after_cursor: Annotated[
        str | None,
        typer.Option("--after-cursor", metavar="CURSOR", help="Only what came after it"),
    ] = None,
    show_cursor: Annotated[
        bool, typer.Option("--show-cursor", help="Print the cursor of the end to stderr")
    ] = False,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin with the time")] = False,
    prefix: Annotated[
        bool | None,
        typer.Option("--prefix/--no-prefix", help="Begin with the run; as a rule with several"),
    ] = None,
    previous: Annotated[
        bool,
        typer.Option(
            "-p", "--previous", help="Of the run before: agent/NAME's last that ended, a run's"
        ),
    ] = False,
    max_streams: Annotated[
        int | None,
        typer.Option(
            "--max-log-requests", metavar="N", min=1, help="Follow no more open runs than this"
        ),
    ] = None,
    selector: Selector = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json: an event a line")
    ] = None,
) -> None:
    """Show the events of runs, or of all runs of an agent, with what was said and done.

    -f ends when all runs that were named are closed, and survives a lost connection and a restart
    of the server without a gap or a repetition. A pattern without capitals matches them too.

    A warning is what waits for a person, was stopped, tried again, refused or taken over, and a
    tool's failure; an error is a turn or run that failed.

    With -p an agent's run that ended last is shown, or of a run the one that its agent had begun
    before it. However many runs are followed, one connection is enough: unlike kubectl there is no
    limit unless --max-log-requests sets one.

    A cursor is RUN@N, several with commas between them; -o json has one in each event.

    Examples:
      aosctl logs my_pg_bot-x7k2p
      aosctl logs -f x7k2p m4d7q --tail 20
      aosctl logs agent/my_pg_bot --since 1h --timestamps
      aosctl logs -l team=data --level warning -g 'permission denied'
      aosctl logs x7k2p -o json | jq .kind
    """
    chosen = output.parse_output(output_format, allowed=("json",))
    named = targets or []
    _check(named, selector)
    if previous and len(named) > 1:
        raise UsageError("-p is of one run or agent", "aosctl logs -p agent/NAME")
    if max_streams is not None and not follow:
        raise UsageError("--max-log-requests limits what -f follows", "aosctl logs -f")
    if tail is not None and tail < -1:
        raise UsageError("--tail must be greater than or equal to -1")
    if level not in LEVELS:
        raise UsageError(f'unknown level "{level}"', f"one of {', '.join(LEVELS)}")
    several = selector is not None or len(named) > 1 or named[0].partition("/")[0] in AGENT_WORDS
    view = View(
        json=chosen.format == "json",
        timestamps=timestamps,
        prefix=several if prefix is None else prefix,
        tail=TAIL_OF_MANY if tail is None and selector else tail if tail != -1 else None,
        since=_since(since, since_time),
        until=parse_since(until) if until else None,
        grep=pattern_of(grep),
        level=level,
        cursors=cursors_of(after_cursor),
    )
    given = globals_of(ctx)

    from aosctl.cli.wiring import quick_session_of, session_of

    if not follow:
        with closing(quick_session_of(given)) as session:
            which = _which(session, named, selector, previous)
            seen = show(session.connection, which, view)
            if not seen:
                from aosctl.cli.resource_table import note_none

                note_none(session.tenant, quiet=given.quiet)
            elif show_cursor:
                output.note(_cursor(session, which, seen))
        return
    from aosctl.db.following import Follower
    from aosctl.db.watching import Watch

    with closing(session_of(given)) as session:
        which = _which(session, named, selector, previous)
        _check_streams(session, which, max_streams)
        follower = Follower(
            session.connection,
            session.conninfo,
            "logs",
            which,
            lambda text: output.note(text, quiet=given.quiet),
            # Those that begin later come too, where none were named.
            new_watch=Watch if which.ids else partial(Watch, tenant=which.tenant, new_runs=True),
        )
        with closing(follower):
            follower.seen = show(session.connection, which, view)
            follower.follow(lambda connection, run: news(connection, run, view, follower.seen))


def _check(named: list[str], selector: str | None) -> None:
    """Raise UsageError where it is not clear whose log is meant."""
    if not named and selector is None:
        raise UsageError("expected one RUN, agent/NAME or -l LABELS", "aosctl ps -a lists the runs")
    if len(named) > 1 and any(word.partition("/")[0] in AGENT_WORDS for word in named):
        raise UsageError("agent/NAME stands alone", "several runs, or one agent, or -l LABELS")


def _since(age: str | None, moment: str | None) -> timedelta | datetime | None:
    if age:
        return parse_duration(age)
    return parse_moment(moment) if moment else None


def _cursor(session: AnySession, which: Which, seen: dict[UUID, int]) -> str:
    """Return the cursor behind what was shown."""
    runs = which.read(session.connection)
    at = [f"{run.name}@{seen[run.run_id]}" for run in runs if run.run_id in seen]
    return f"-- cursor: {','.join(at)}"


def _check_streams(session: AnySession, which: Which, most: int | None) -> None:
    """Raise kubectl's error where more open runs than `most` would be followed."""
    if most is None:
        return
    count = len(which.open_runs(which.read(session.connection)))
    if count > most:
        raise AosError(
            f"you are attempting to follow {count} log streams, but maximum allowed concurrency is"
            f" {most}, use --max-log-requests to increase the limit"
        )


def _which(
    session: AnySession, targets: list[str], selector: str | None, previous: bool = False
) -> Which:
    """Return the runs that were named, or the one before. Raises NotFound."""
    from aosctl.cli.targets import agent_of
    from aosctl.db.following import Which
    from aosctl.domain.selectors import parse_selector

    tenant = session.require_tenant()
    if selector is not None:
        matches = parse_selector(selector)
        return Which(tenant, wanted=lambda run: matches(run.labels))
    agent = agent_of(session.connection, tenant, targets[0])
    if previous:
        return Which(tenant, (_before(session, tenant, targets[0], agent),))
    if agent is not None:
        return Which(tenant, agent=agent)
    return Which(tenant, tuple(dict.fromkeys(_run(session, tenant, word) for word in targets)))


def _before(session: AnySession, tenant: UUID, word: str, agent: str | None) -> UUID:
    """Return the agent's run that ended last, or the one begun before the run. Raises NotFound."""
    from aosctl.db.runs import find_run, runs

    if agent is not None:
        ended = [(r.closed_at, r.run_id) for r in runs(session.connection, tenant, agent=agent)]
        found = [(at, run) for at, run in ended if at is not None]
        if not found:
            raise NotFound(
                f'previous terminated run of agent "{agent}" not found', f"aosctl logs {word}"
            )
        return max(found)[1]
    run = find_run(session.connection, tenant, word)
    earlier = [
        row
        for row in runs(session.connection, tenant, agent=run.agent)
        if (row.created_at, row.run_id) < (run.created_at, run.run_id)
    ]
    if not earlier:
        raise NotFound(
            f'previous run of agent "{run.agent}" before "{run.name}" not found',
            f"aosctl logs {run.name}",
        )
    return max(earlier, key=lambda row: (row.created_at, row.run_id)).run_id


def _run(session: AnySession, tenant: UUID, word: str) -> UUID:
    from aosctl.db import manifests
    from aosctl.db.runs import find_run
    from aosctl.domain.kinds import BY_NAME

    try:
        return find_run(session.connection, tenant, word).run_id
    except NotFound as error:
        agents = manifests.names(session.connection, BY_NAME["Agent"].view, tenant)
        if word not in agents:
            raise
        raise NotFound(error.message, f"it is an agent: aosctl logs agent/{word}") from None
