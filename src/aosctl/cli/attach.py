"""`aosctl attach`: what a run has done so far, then what it does, until one leaves or it ends."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.cli.targets import AGENT_WORDS
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.cli.live_answer import LiveAnswer
    from aosctl.cli.log_view import View
    from aosctl.db.connection import Connection, Session
    from aosctl.db.following import Which
    from aosctl.db.runs import RunRow
    from aosctl.db.watching import Watch

_FAILED = 4
_NEXT = {
    "approval": "a person has to decide: aosctl approve -i, or deny",
    "resolution": "a person has to say what came of a call: aosctl resolve {run}",
    "resume": "it is paused: aosctl resume {run}",
}


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN")],
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Begin with the last N lines")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin with the time")] = False,
    live: Annotated[
        bool | None,
        typer.Option("--live/--no-live", help="Answers as they come; as a rule at a terminal"),
    ] = None,
    detach_keys: Annotated[
        str, typer.Option("--detach-keys", metavar="KEYS", help="Leave with these keys")
    ] = "ctrl-p,ctrl-q",
) -> int:
    """Show what a run has done, step by step, and go on as it does more.

    At a terminal an answer shows while the model writes it, whichever worker or chat drives the
    run. It only shows: write to the run in a chat, and decide with approve or deny.

    Ctrl-C, or docker's Ctrl-P Ctrl-Q, detaches; the run goes on. It ends by itself when the run is
    closed: with status 0, or 4 when the run failed or was killed. A lost connection loses and
    repeats nothing that is stored.

    Examples:
      aosctl attach my_pg_bot-x7k2p
      aosctl attach x7k2p --tail 20
      aosctl attach x7k2p --detach-keys ctrl-x,d
    """
    from aosctl.cli.detaching import parse_keys

    keys = parse_keys(detach_keys)
    if run.partition("/")[0] in AGENT_WORDS:
        raise UsageError("attach is to one run", f"aosctl logs -f {run}")
    from aosctl.cli.live_answer import LiveAnswer
    from aosctl.cli.log_view import View
    from aosctl.cli.wiring import session_of
    from aosctl.db.following import Which
    from aosctl.db.runs import find_run

    given = globals_of(ctx)

    is_live = sys.stdout.isatty() if live is None else live
    answer = LiveAnswer(timestamps=timestamps) if is_live else None

    def note(text: str) -> None:
        if answer is not None:
            answer.interrupt()
        output.note(text, quiet=given.quiet)

    with closing(session_of(given)) as session:
        row = find_run(session.connection, session.require_tenant(), run)
        which = Which(row.tenant_id, (row.run_id,))
        view = View(timestamps=timestamps, tail=tail, printer=answer.write if answer else None)
        leave = "" if row.is_closed else "; Ctrl-C detaches"
        note(f"attached to run/{row.name}, which is {row.state}{leave}")
        try:
            state = _follow(session, row, which, view, answer, keys, note)
        except KeyboardInterrupt:
            note(f"\ndetached; run/{row.name} goes on: aosctl attach {row.name}")
            return 0
    note(f"run/{row.name} is {state}")
    return 0 if state == "completed" else _FAILED


def _follow(
    session: Session,
    row: RunRow,
    which: Which,
    view: View,
    answer: LiveAnswer | None,
    keys: bytes,
    note: Callable[[str], None],
) -> str:
    """Print what there is, then what comes; return the run's state when it is closed."""
    from aosctl.cli.detaching import detaching
    from aosctl.cli.log_view import news, show
    from aosctl.db.following import Follower
    from aosctl.db.live import LiveWatch
    from aosctl.db.watching import Watch

    def watch(connection: Connection) -> Watch:
        return LiveWatch(connection, row.run_id, answer.show) if answer else Watch(connection)

    def typed() -> None:
        note(f"attach only shows: aosctl chat --resume {row.name} to write, in another terminal")

    told: list[str] = []

    def read(connection: Connection, one: RunRow) -> None:
        news(connection, one, view, follower.seen)
        hint = _NEXT.get(one.waiting_on or "", "").format(run=one.name)
        if hint and hint not in told[-1:]:
            note(f"hint: {hint}")
        told.append(hint)

    follower: Follower[RunRow] = Follower(
        session.connection, session.conninfo, "attach", which, note, new_watch=watch
    )
    with closing(follower), detaching(keys, typed):
        try:
            follower.seen = show(session.connection, which, view)
            follower.follow(read)
            return follower.read()[0].state
        finally:
            if answer is not None:
                answer.interrupt()
