"""`aosctl fork`: a new run that begins with what was said in another."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of

if TYPE_CHECKING:
    from aosctl.db.new_runs import Fork
    from aosctl.db.rows import AnySession
    from aosctl.db.runs import RunRow


def command(
    ctx: typer.Context,
    origin: Annotated[str, typer.Argument(metavar="RUN[@STEP]")],
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the new run")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("-m", "--model", metavar="MODEL", help="The model of the new run"),
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="name")
    ] = None,
) -> None:
    """Begin a new run with the transcript of another, up to a step.

    It is cut back to the end of a turn; aosctl trace RUN shows the steps. The other run stays as
    it is. The new one has the same agent, persona, model (or --model) and limits, has spent
    nothing, and is tainted where the other was by that step. What waits in the other, an approval
    say, stays there.

    Examples:
      aosctl fork my_pg_bot-x7k2p
      aosctl fork x7k2p@12 --name second-try
      aosctl fork x7k2p@12 -m gpt-4o
      aosctl chat --resume $(aosctl fork x7k2p@12 -o name)
    """
    chosen = output.parse_output(output_format, allowed=("name",))
    typed, step = origin_of(origin, "aosctl fork")
    from aosctl.cli.wiring import quick_session_of, remember_names

    given = globals_of(ctx)
    with closing(quick_session_of(given)) as session:
        run, made = fork(session, typed, step, name, model)
    remember_names(given, ("run", "runs"), [made.name], whole=False)
    if chosen.format == "name":
        output.write(f"run.aos/{made.name}\n")
        return
    output.write(f"run.aos/{made.name} created\n")
    cut = "" if step in (None, made.steps) else f", before the turn that step {step} is in"
    output.note(
        f"from run/{run.name} at step {made.steps}{cut}; aosctl chat --resume {made.name}",
        quiet=given.quiet,
    )


def origin_of(text: str, example: str) -> tuple[str, int | None]:
    """Return the run and the step of RUN[@STEP]. Raises UsageError."""
    from aosctl.domain.steps import step_of

    typed, at, number = text.partition("@")
    return typed, step_of(number, f"such as {example} {typed}@12") if at else None


def fork(
    session: AnySession, typed: str, step: int | None, name: str | None, model: str | None
) -> tuple[RunRow, Fork]:
    """Fork the run that a person named; return it and the new one. Raises AosError."""
    from aosctl.db.new_runs import fork_run
    from aosctl.db.runs import find_run
    from aosctl.domain.steps import check_step

    tenant = session.require_tenant()
    run = find_run(session.connection, tenant, typed)
    check_step(run.name, step, run.last_step, f"aosctl trace {run.name}")
    return run, fork_run(session.connection, tenant, run.run_id, step, name, model)
