"""`aosctl run`: one task for an agent, in the foreground."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli import output, talk
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError


def command(
    ctx: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Agent to work on it")],
    task: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TASK]", help="What to do; stdin is appended, - is stdin alone"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the run")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait for approvals; off a terminal the run is parked else"),
    ] = False,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json")
    ] = None,
) -> int:
    """Give an agent one task and wait for the answer.

    The run is closed with its answer. One that was parked for an approval goes on when that is
    decided, in `aosctl worker` or `aosctl chat --resume RUN`, and is closed then. The answer alone
    goes to stdout; the exit status is that of `aosctl chat AGENT MESSAGE`.

    Examples:
      aosctl run my_pg_bot "Which products are out of stock?"

      # Parked with exit status 3 when an approval is needed; or wait for it
      aosctl run my_pg_bot --wait "delete from orders where status = 'cancelled'"
    """
    given = globals_of(ctx)
    chosen = output.parse_output(output_format, allowed=("json",))
    text = talk.message_of(list(task or []))
    if not text:
        raise UsageError("no task: the command line has none, and stdin is empty")
    from aosctl.cli.wiring import session_of
    from aosctl.domain.agents import find_agent

    session = session_of(given)
    try:
        found = find_agent(session.connection, session.require_tenant(), agent)
    except AosError:
        session.close()
        raise
    access = talk.Access(given, session, found.name, kind="task", name=name)
    return talk.one_shot(
        given,
        access,
        access.open(None),
        text,
        talk.decider_here() or (talk.decider_elsewhere() if wait else None),
        as_json=not chosen.is_table,
    )
