"""`aosctl kill`: end, pause or resume runs, in the words of signals."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.bulk import AllRuns, Choice, Yes
from aosctl.cli.flags import Selector
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, DatabaseUnavailable, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.db.rows import AnySession
    from aosctl.db.runs import RunRow

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
    cascade: Annotated[
        bool,
        typer.Option("--cascade", help="And the runs forked or replayed from them, and from those"),
    ] = False,
    selector: Selector = None,
    everything: AllRuns = False,
    yes: Yes = False,
) -> None:
    """End runs for good; with -s STOP let them rest, with -s CONT let them go on.

    A worker's next write to an ended run is refused, so its open turn leaves no more effects;
    within about a second it hangs up on its model.
    A run is named by its name, a unique beginning or end of it, run/NAME or its id. With -l or
    --all the runs that are meant are listed, and you are asked; off a terminal only -y does it.
    So it is with --cascade where there are runs that came from those, the only ones a run has below
    it.

    Examples:
      aosctl kill my_pg_bot-x7k2p --reason "wrong table"
      aosctl kill -s STOP x7k2p
      aosctl kill -s CONT x7k2p
      aosctl kill -l team=data --reason "the schema changes tonight"
      aosctl kill -s STOP --all -y
      aosctl kill x7k2p --cascade
    """
    from aosctl.cli.targets import each
    from aosctl.cli.wiring import quick_session_of

    name = signal.upper().removeprefix("SIG")
    name = _NUMBERS.get(name, name)
    if name not in DONE:
        raise UsageError(f'unknown signal "{signal}"', f"one of {', '.join(DONE)}")
    choice = Choice("run", runs or (), selector, everything, _command(name, cascade))
    choice.check()
    if not runs and not choice.is_bulk:
        raise UsageError("which run? aosctl kill RUN…", "aosctl ps lists the runs")
    given = globals_of(ctx)
    with closing(quick_session_of(given)) as session:
        typed = choice.meant(
            session, _FITS[name], _WORDS[name], yes=yes or cascade, quiet=given.quiet
        )
        if cascade:
            typed = _with_those_below(session, choice, typed, name, yes=yes)
        each(typed, lambda run: output.write(f"run.aos/{_send(session, run, name, reason)}\n"))


_WORDS = {"TERM": "kill", "KILL": "kill", "STOP": "stop", "CONT": "continue"}
_FITS: dict[str, Callable[[RunRow], bool]] = {
    "TERM": lambda run: not run.is_closed,
    "KILL": lambda run: not run.is_closed,
    "STOP": lambda run: run.run_state == "active",
    "CONT": lambda run: run.rests,
}
"""Which runs a signal is for, where they are not named."""


def _command(signal: str, cascade: bool) -> str:
    command = "aosctl kill" if signal == "TERM" else f"aosctl kill -s {signal}"
    return f"{command} --cascade" if cascade else command


def _with_those_below(
    session: AnySession, choice: Choice, typed: list[str], signal: str, *, yes: bool
) -> list[str]:
    """Return the runs that are meant and all that came from them, after a question.

    Those that are named and have none below them are not asked about.
    """
    from aosctl.cli.bulk import lines_of
    from aosctl.cli.forest import descendants
    from aosctl.db.runs import find_run, runs

    tenant = session.require_tenant()
    named = {find_run(session.connection, tenant, one).run_id: one for one in typed}
    rows = runs(session.connection, tenant)
    below = [row for row in descendants(rows, named) if _FITS[signal](row)]
    if below or choice.is_bulk:
        shown = [*(row for row in rows if row.run_id in named), *below]
        choice.confirm(_WORDS[signal], lines_of(shown), session.tenant or "", yes)
    return [*named.values(), *(str(row.run_id) for row in below)]


def _send(session: AnySession, typed: str, signal: str, reason: str | None) -> str:
    """Do to one run what the signal says; return its name and what was done."""
    from aosctl.cli.resume import refuse_ended
    from aosctl.db.runs import cancel_run, find_run, pause_run, resume_run

    tenant = session.require_tenant()
    run = find_run(session.connection, tenant, typed)
    if run.is_closed and signal in ("STOP", "CONT"):
        refuse_ended(run)
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
