"""`aosctl attach`: what a run has done so far, then what it does, until one leaves or it ends."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.cli.targets import AGENT_WORDS
from aosctl.errors import UsageError

_FAILED = 4


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN")],
    tail: Annotated[
        int | None, typer.Option("--tail", metavar="N", min=0, help="Begin with the last N lines")
    ] = None,
    timestamps: Annotated[bool, typer.Option("--timestamps", help="Begin with the time")] = False,
) -> int:
    """Show what a run has done, step by step, and go on as it does more.

    Ctrl-C detaches; the run goes on. It ends by itself when the run is closed: with status 0, or 4
    when the run failed or was killed. A lost connection loses and repeats nothing.

    Examples:
      aosctl attach my_pg_bot-x7k2p
      aosctl attach x7k2p --tail 20
    """
    if run.partition("/")[0] in AGENT_WORDS:
        raise UsageError("attach is to one run", f"aosctl logs -f {run}")
    from aosctl.cli.log_view import View, news, show
    from aosctl.cli.wiring import session_of
    from aosctl.db.following import Follower, Which
    from aosctl.db.runs import RunRow, find_run

    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        tenant = session.require_tenant()
        row = find_run(session.connection, tenant, run)
        view = View(timestamps=timestamps, tail=tail)
        which = Which(tenant, (row.run_id,))
        follower: Follower[RunRow] = Follower(
            session.connection,
            session.conninfo,
            "attach",
            which,
            lambda text: output.note(text, quiet=given.quiet),
        )
        with closing(follower):
            hint = f"attached to run/{row.name}, which is {row.state}; Ctrl-C detaches"
            output.note(hint, quiet=given.quiet)
            try:
                follower.seen = show(session.connection, which, view)
                follower.follow(lambda link, one: news(link, one, view, follower.seen))
                state = follower.read()[0].state
            except KeyboardInterrupt:
                text = f"\ndetached; run/{row.name} goes on: aosctl attach {row.name}"
                output.note(text, quiet=given.quiet)
                return 0
    output.note(f"run/{row.name} is {state}", quiet=given.quiet)
    return 0 if state == "completed" else _FAILED
