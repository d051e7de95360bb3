"""`aosctl events`: what happened in a tenant, once or as it goes on."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, NoHeaders
from aosctl.cli.globals import Globals, globals_of
from aosctl.cli.moments import read_since
from aosctl.errors import UsageError
from aosctl.timestamps import rfc3339

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from uuid import UUID

    from aosctl.db.connection import Session
    from aosctl.db.rows import AnyConnection, AnySession
    from aosctl.db.trail import TrailRow

HEADERS = ("AGE", "EVENT", "OBJECT", "BY", "DETAIL")
_TAIL = 1000
_WIDTH = 80
_WHOLE = timedelta(days=100 * 365)
_DIGESTS = ("sha256", "digest", "hash")


def command(
    ctx: typer.Context,
    since: Annotated[
        str | None,
        typer.Option(
            "--since",
            metavar="TIME",
            help="Not before: an age or a moment [1h]",
            callback=read_since,
        ),
    ] = None,
    types: Annotated[
        str | None,
        typer.Option("--types", metavar="KIND,…", help="Only these: approval, turn.failed, …"),
    ] = None,
    subject: Annotated[
        str | None,
        typer.Option("--for", metavar="RUN | agent/NAME", help="Only of this run or agent"),
    ] = None,
    tail: Annotated[
        int, typer.Option("--tail", metavar="N", min=-1, help="The last N; -1 for all")
    ] = _TAIL,
    watch: Annotated[bool, typer.Option("-w", "--watch", help="Go on as things happen")] = False,
    output_format: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FORMAT", help="wide; json: an event a line"),
    ] = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """List what happened in a tenant in the last hour, the newest last.

    These are the facts of the audit trail, of runs and of what people changed; what was said
    stands in aosctl logs. You see what your role may: all of it an auditor. With --for the whole
    life of a run or agent is listed. -w goes on through a lost connection.

    Examples:
      aosctl events
      aosctl events --types approval,turn.failed --since 1d
      aosctl events --for my_pg_bot-x7k2p
      aosctl events -w -o json | jq -r .kind
    """
    from aosctl.cli.wiring import quick_session_of, session_of

    chosen = output.parse_output(output_format, allowed=("json", "wide"))
    given = globals_of(ctx)
    asked = Asked(_kinds(types), since, subject, tail if tail >= 0 else None)
    look = Look(chosen, all_tenants)
    if watch:
        with closing(session_of(given)) as session:
            _follow(session, asked, look, given, headers=not no_headers)
        return
    with closing(quick_session_of(given, select_tenant=not all_tenants)) as session:
        rows = _everywhere(session, asked) if all_tenants else _in_tenant(session, asked)
        tenant = session.tenant
    look.write(rows, headers=not no_headers)
    _say_what_is_missing(rows, asked, tenant, given)


class Asked(NamedTuple):
    """Which events are wanted; `since` as it was typed."""

    kinds: tuple[str, ...]
    since: str | None
    subject: str | None
    tail: int | None

    def moment(self, now: datetime) -> datetime:
        """Return from when on: an hour ago, or ever of one run or agent, unless said."""
        from aosctl.cli.moments import parse_duration, parse_since

        if self.since is None:
            return now - (_WHOLE if self.subject else timedelta(hours=1))
        try:
            return now - parse_duration(self.since)
        except UsageError:
            return parse_since(self.since)


class Look(NamedTuple):
    """How events are shown."""

    chosen: output.Output
    with_tenant: bool = False

    def write(self, rows: Sequence[TrailRow], *, headers: bool) -> None:
        """Print events, at once."""
        if self.chosen.format == "json":
            output.write("".join(f"{json_of(row)}\n" for row in rows))
        elif rows:
            from aosctl.cli.table import write_table

            names = [*(["TENANT"] if self.with_tenant else []), *HEADERS]
            lines = [
                [*([row.tenant] if self.with_tenant else []), *self._cells(row)] for row in rows
            ]
            write_table(names, lines, show_headers=headers)
        sys.stdout.flush()

    def _cells(self, row: TrailRow) -> list[object]:
        from aosctl.cli.table import age
        from aosctl.domain.holder import shown

        width = None if self.chosen.format == "wide" else _WIDTH
        return [age(row.at), row.kind, object_of(row), shown(row.actor), detail(row.data, width)]


def json_of(row: TrailRow) -> str:
    """Return an event as one line of JSON, safe for a terminal."""
    from aosctl.terminal import visible

    whole = {
        "at": rfc3339(row.at),
        "tenant": row.tenant,
        "object": object_of(row),
        "run": row.run,
        "agent": row.agent,
        "seq": row.seq,
        "kind": row.kind,
        "actor": row.actor,
        "data": dict(row.data),
    }
    return visible(json.dumps(whole, ensure_ascii=False))


def object_of(row: TrailRow) -> str:
    """Return what an event is about: run/NAME, KIND/NAME or tenant/NAME."""
    if row.run is not None:
        return f"run/{row.run}"
    name = row.data.get("name")
    kind = row.kind.partition(".")[0]
    return f"{kind}/{name}" if isinstance(name, str) else f"tenant/{row.tenant}"


def detail(data: Mapping[str, object], width: int | None) -> str:
    """Return the facts of an event on one line, without ids and digests; cut to `width` cells."""
    from aosctl.repl.words import shorten

    parts = [
        f"{key}={_fact(value)}"
        for key, value in data.items()
        if key != "name" and not key.endswith("_id") and not any(d in key for d in _DIGESTS)
    ]
    return shorten(" ".join(parts), width or 2**31)


def _fact(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        return ",".join(":".join(str(part) for part in each.values()) for each in value)
    return json.dumps(value, ensure_ascii=False)


def _kinds(types: str | None) -> tuple[str, ...]:
    from aosctl.domain.event_kinds import check_kinds

    kinds = tuple(part.strip() for part in (types or "").split(",") if part.strip())
    if types is not None and not kinds:
        raise UsageError("--types names no kind of event", "such as --types approval,turn.failed")
    check_kinds(kinds)
    return kinds


def _in_tenant(session: AnySession, asked: Asked) -> list[TrailRow]:
    from aosctl.db.clock import moment
    from aosctl.db.trail import trail

    tenant = session.require_tenant()
    streams, agent = _subject(session, tenant, asked.subject)
    return trail(
        session.connection,
        tenant,
        since=asked.moment(moment(session.connection)),
        kinds=asked.kinds,
        streams=streams,
        agent=agent,
        last=asked.tail,
    )


def _everywhere(session: AnySession, asked: Asked) -> list[TrailRow]:
    from aosctl.db import tenants
    from aosctl.db.clock import moment
    from aosctl.db.trail import trail

    since = asked.moment(moment(session.connection))
    found = tenants.everywhere(
        session.connection,
        lambda: trail(session.connection, None, since=since, kinds=asked.kinds, last=asked.tail),
    )
    found.sort(key=lambda row: row.at)
    return found if asked.tail is None else found[max(len(found) - asked.tail, 0) :]


def _subject(
    session: AnySession, tenant: UUID, subject: str | None
) -> tuple[list[UUID] | None, str | None]:
    """Return the run's id, or the agent's name, that --for names. Raises NotFound."""
    from aosctl.cli.targets import agent_of
    from aosctl.db.runs import find_run

    if subject is None:
        return None, None
    agent = agent_of(session.connection, tenant, subject)
    if agent is not None:
        return None, agent
    return [find_run(session.connection, tenant, subject).run_id], None


def _follow(session: Session, asked: Asked, look: Look, given: Globals, *, headers: bool) -> None:
    """Print what there is, then what comes, until interrupted."""
    from aosctl.db.clock import moment
    from aosctl.db.following import Follower
    from aosctl.db.trail import Stream, Trail, trail

    tenant = session.require_tenant()
    only, agent = _subject(session, tenant, asked.subject)
    since = asked.moment(moment(session.connection))
    source = Trail(tenant, since, only or ())
    follower: Follower[Stream] = Follower(
        session.connection,
        session.conninfo,
        "events",
        source,
        lambda text: output.note(text, quiet=given.quiet),
        new_watch=source.watch,
    )
    with closing(follower):
        # What comes while we read has a higher number, and is news.
        follower.seen = {one.run_id: one.last_seq for one in source.read(session.connection)}
        rows = _in_tenant(session, asked)
        rows = [row for row in rows if row.seq <= follower.seen.get(row.stream_id, 0)]
        look.write(rows, headers=headers)
        headers = headers and not rows

        def read(connection: AnyConnection, stream: Stream) -> None:
            nonlocal headers
            after = follower.seen.get(stream.run_id, 0)
            came = trail(
                connection,
                tenant,
                since=since,
                kinds=asked.kinds,
                streams=[stream.run_id],
                agent=agent,
                after=after,
            )
            look.write(came, headers=headers)
            headers = headers and not came
            last = max([stream.last_seq, *(row.seq for row in came)])
            follower.seen[stream.run_id] = last

        follower.follow(read)


def _say_what_is_missing(
    rows: Sequence[TrailRow], asked: Asked, tenant: str | None, given: Globals
) -> None:
    if not rows:
        where = f" in {tenant} tenant" if tenant else ""
        when = "" if asked.since or asked.subject else " in the last hour; aosctl events --since 1d"
        output.note(f"No events{where}{when}", quiet=given.quiet)
    elif asked.tail is not None and len(rows) == asked.tail:
        output.note(f"the last {asked.tail}; --tail -1 lists all", quiet=given.quiet)
