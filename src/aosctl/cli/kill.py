"""`aosctl kill`: end, pause or resume runs, in the words of signals."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, DatabaseUnavailable, UsageError

if TYPE_CHECKING:
    from aosctl.db.rows import AnySession

DONE = {"TERM": "killed", "KILL": "killed", "STOP": "stopped", "CONT": "continued"}
"""What each signal is, when it is done: TERM and KILL end the run, STOP and CONT don't."""

_NUMBERS = {"15": "TERM", "9": "KILL", "19": "STOP", "18": "CONT"}


def command(
    ctx: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN…", show_default=False)] = None,
    signal: Annotated[
        str,
        typer.Option("-s", "--signal", metavar="SIGNAL", help="TERM, KILL, STOP or CONT"),
    ] = "TERM",
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Why, for the audit trail")
    ] = None,
) -> None:
    """End runs for good; with -s STOP let them rest, with -s CONT let them go on.

    A worker's next write to an ended run is refused, so its open turn leaves no more effects;
    within about a second it hangs up on its model.
    A run is named by its name, a unique end of it, run/NAME or its id.

    Examples:
      aosctl kill my_pg_bot-x7k2p --reason "wrong table"
      aosctl kill -s STOP x7k2p
      aosctl kill -s CONT x7k2p
    """
    from aosctl.cli.targets import each
    from aosctl.cli.wiring import quick_session_of

    name = signal.upper().removeprefix("SIG")
    name = _NUMBERS.get(name, name)
    if name not in DONE:
        raise UsageError(f'unknown signal "{signal}"', f"one of {', '.join(DONE)}")
    if not runs:
        raise UsageError("which run? aosctl kill RUN…", "aosctl ps lists the runs")
    with closing(quick_session_of(globals_of(ctx))) as session:
        each(runs, lambda typed: output.write(f"run.aos/{_send(session, typed, name, reason)}\n"))


def _send(session: AnySession, typed: str, signal: str, reason: str | None) -> str:
    """Do to one run what the signal says; return its name and what was done."""
    from aosctl.db.runs import cancel_run, find_run, pause_run, resume_run

    tenant = session.require_tenant()
    run = find_run(session.connection, tenant, typed)
    try:
        if signal == "STOP":
            pause_run(session.connection, tenant, run.run_id, reason)
        elif signal == "CONT":
            if resume_run(session.connection, tenant, run.run_id) == "unchanged":
                return f"{run.name} unchanged"
        else:
            cancel_run(session.connection, tenant, run.run_id, reason)
    except AosError as error:
        if isinstance(error, DatabaseUnavailable) or run.name in error.message:
            raise
        raise error.about(f"run.aos/{run.name}") from error
    return f"{run.name} {DONE[signal]}"
