"""`aosctl resume`: let runs go on that rest at a limit or are paused."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.bulk import AllRuns, Choice, Yes
from aosctl.cli.flags import Selector
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aosctl.cli.globals import Globals
    from aosctl.db.rows import AnySession
    from aosctl.db.runs import Limits, RunRow

_MOST_USD = 1_000_000_000  # as in a Budget
_MOST_TOKENS = 2**63 - 1
_MOST_STEPS = 2**31 - 1
_MOST_SECONDS = 1_000_000_000


def command(
    ctx: typer.Context,
    runs: Annotated[list[str] | None, typer.Argument(metavar="RUN…", show_default=False)] = None,
    max_usd: Annotated[
        str | None, typer.Option("--max-usd", metavar="USD", help="What it may cost in all")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option("--max-tokens", metavar="N", min=1, help="Tokens in all")
    ] = None,
    max_steps: Annotated[
        int | None, typer.Option("--max-steps", metavar="N", min=1, help="Steps of one turn")
    ] = None,
    max_seconds: Annotated[
        float | None, typer.Option("--max-seconds", metavar="N", min=1, help="Time of one turn")
    ] = None,
    max_turns: Annotated[
        int | None,
        typer.Option("--max-turns", metavar="N", min=1, help="Questions to the model in one turn"),
    ] = None,
    selector: Selector = None,
    everything: AllRuns = False,
    yes: Yes = False,
) -> None:
    """Let runs go on that are paused or rest at a limit, with other limits where they are given.

    The turn waits in the queue then: a worker takes it, or `aosctl chat --resume RUN`.
    `unchanged` is printed of a run that nothing had stopped, `configured` when its limits are new.
    A turn that a Budget has stopped goes on by itself when a higher one is applied. With -l or
    --all the runs that rest are listed, and you are asked; off a terminal only -y does it.
    `schedule/NAME` lets a schedule go on, as `aosctl schedule resume` does.

    Examples:
      aosctl resume my_pg_bot-x7k2p --max-usd 5
      aosctl resume x7k2p --max-steps 100
      aosctl resume -l team=data -y
    """
    from aosctl.cli.targets import each
    from aosctl.cli.wiring import quick_session_of
    from aosctl.db.runs import Limits

    choice = Choice("run", runs or (), selector, everything, "aosctl resume")
    choice.check()
    if not runs and not choice.is_bulk:
        raise UsageError("which run? aosctl resume RUN…", "aosctl ps lists the runs")
    at_most("--max-tokens", max_tokens, _MOST_TOKENS)
    at_most("--max-steps", max_steps)
    at_most("--max-turns", max_turns)
    at_most("--max-seconds", max_seconds, _MOST_SECONDS)
    limits = Limits(amount("--max-usd", max_usd), max_tokens, max_steps, max_seconds, max_turns)
    given = globals_of(ctx)
    if any("/" in run for run in runs or ()):
        runs = _without_schedules(given, runs or (), limits)
        if not runs:
            return
        choice = Choice("run", runs, selector, everything, "aosctl resume")
    with closing(quick_session_of(given)) as session:
        typed = choice.meant(session, lambda row: row.rests, "resume", yes=yes, quiet=given.quiet)

        def resume(run: str) -> None:
            name, what = _resume(session, run, limits)
            output.write(f"run.aos/{name} {what}\n")
            if what != "resumed":
                why = f"{name} was not paused, and rested at no limit"
                output.note(why, quiet=given.quiet)

        each(typed, resume)


def _without_schedules(given: Globals, words: Sequence[str], limits: Limits) -> list[str]:
    """Let the schedules among what was named go on; return the rest."""
    from aosctl.cli.schedule import change_all, split

    schedules, runs = split(words)
    if schedules and any(limit is not None for limit in limits):
        raise UsageError("a schedule keeps its limits", "aosctl edit schedule changes them")
    if schedules:
        change_all(given, schedules, suspend=False)
    return runs


def _resume(session: AnySession, typed: str, limits: Limits) -> tuple[str, str]:
    """Let one run go on; return its name and what became of it."""
    from aosctl.db.runs import find_run, resume_run

    tenant = session.require_tenant()
    run = find_run(session.connection, tenant, typed)
    refuse_ended(run)
    return run.name, resume_run(session.connection, tenant, run.run_id, limits)


def refuse_ended(run: RunRow) -> None:
    """Raise AosError for a run that is over."""
    if run.run_state in ("completed", "failed", "cancelled"):
        text = f'run "{run.name}" is already {run.run_state}'
        raise AosError(text, f"aosctl chat {run.agent} begins another")


def at_most(flag: str, value: float | None, most: int = _MOST_STEPS) -> None:
    """Raise UsageError for more than a run can count: steps, or what is told."""
    if value is not None and not value <= most:  # nan is not
        raise UsageError(f"{flag} is at most {most:,}, not {value}")


def amount(flag: str, text: str | None) -> str | None:
    """Return a sum of US dollars as it was typed. Raises UsageError when it is none."""
    from decimal import Decimal, InvalidOperation

    if text is None:
        return None
    try:
        amount = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        amount = Decimal("nan")
    if not amount.is_finite() or amount < 0:
        raise UsageError(f'"{text}" is no sum of US dollars', f"such as {flag} 2.50")
    if amount > _MOST_USD:
        raise UsageError(f"{flag} is at most {_MOST_USD:,}, not {text}")
    return str(amount)
