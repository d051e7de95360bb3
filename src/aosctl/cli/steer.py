"""`aosctl steer`: tell an agent something while it works."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.cli.piped import piped_text
from aosctl.errors import UsageError

_WHEN = {
    "running": "the model reads it with its next question",
    "queued": "the model reads it when a worker has the turn",
    "awaiting_approval": "the model reads it after the decision: aosctl approve",
    "awaiting_resolution": "the model reads it when the call is resolved: aosctl resolve",
    "awaiting_input": "the model reads it when the runs at work for it have ended",
    "limited": "the turn rests at a limit: aosctl resume {run} lets it go on",
}


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN")],
    text: Annotated[
        list[str], typer.Argument(metavar="TEXT", help="What the model is to read; - is stdin")
    ],
) -> None:
    """Send a message into the turn that is under way, without stopping it.

    The model reads it with its next question of the same turn: after the results of the tools it
    has called, or, when it was about to finish, instead of that. Whoever drives the turn need not
    know. When no turn is open nothing is sent, and the exit status is 1: `aosctl chat --resume
    RUN TEXT` sends it as the next message.

    Examples:
      aosctl steer my_pg_bot-x7k2p "only the last month, please"
      aosctl steer x7k2p - < remarks.txt
    """
    from aosctl.cli.wiring import quick_session_of
    from aosctl.db.runs import find_run, steer_turn
    from aosctl.messages import user

    words = " ".join(text) if text != ["-"] else piped_text().strip("\n")
    if not words.strip():
        raise UsageError("no message", 'aosctl steer RUN "what the model is to read"')
    given = globals_of(ctx)
    with closing(quick_session_of(given)) as session:
        tenant = session.require_tenant()
        found = find_run(session.connection, tenant, run)
        message = user(words).sanitised().to_json()
        turn, state = steer_turn(session.connection, tenant, found.run_id, message)
    output.write(f"run.aos/{found.name} steered\n")
    when = "the run is paused" if found.run_state == "paused" else _WHEN.get(state, "")
    output.note(f"turn {turn}: {when.format(run=found.name)}", quiet=given.quiet)
