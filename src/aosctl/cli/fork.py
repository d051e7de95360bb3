"""`aosctl fork`: a new run that begins with what was said in another."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError

_MOST_DIGITS = 18


def command(
    ctx: typer.Context,
    origin: Annotated[str, typer.Argument(metavar="RUN[@STEP]")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the new run")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="name")
    ] = None,
) -> None:
    """Begin a new run with the transcript of another, up to a step.

    It is cut back to the end of a turn; aosctl trace RUN shows the steps. The other run stays as
    it is. The new one has the same agent, persona and limits, has spent nothing, and is tainted
    where the other was by that step. What waits in the other, an approval say, stays there.

    Examples:
      aosctl fork my_pg_bot-x7k2p
      aosctl fork x7k2p@12 --name second-try
      aosctl chat --resume $(aosctl fork x7k2p@12 -o name)
    """
    chosen = output.parse_output(output_format, allowed=("name",))
    typed, at, number = origin.partition("@")
    if at and not (number.isascii() and number.isdigit() and len(number) <= _MOST_DIGITS):
        raise UsageError(f'"{number}" is no step', f"such as aosctl fork {typed}@12")
    from aosctl.cli.wiring import quick_session_of, remember_names
    from aosctl.db.runs import find_run, fork_run

    given = globals_of(ctx)
    with closing(quick_session_of(given)) as session:
        tenant = session.require_tenant()
        run = find_run(session.connection, tenant, typed)
        step = int(number) if at else None
        if step is not None and step > run.last_step:
            raise AosError(
                f'run "{run.name}" has no step {step}, only {run.last_step}',
                f"aosctl trace {run.name}",
            )
        made = fork_run(session.connection, tenant, run.run_id, step, name)
    remember_names(given, ("run", "runs"), [made.name], whole=False)
    if chosen.format == "name":
        output.write(f"run.aos/{made.name}\n")
        return
    output.write(f"run.aos/{made.name} created\n")
    output.note(
        f"from run/{run.name} at step {made.steps}; aosctl chat --resume {made.name}",
        quiet=given.quiet,
    )
