"""`aosctl top`: the runs as they are now, drawn again and again; once off a terminal."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, Selector
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.db.runs import RunRow

_ORDERS: dict[str, Callable[[RunRow], object]] = {
    "cost": lambda run: (-run.spent_usd, run.name),
    "tokens": lambda run: (-(run.input_tokens + run.output_tokens), run.name),
    "age": lambda run: (run.created_at, run.name),
    "activity": lambda run: (-run.updated_at.timestamp(), run.name),
    "name": lambda run: run.name,
}


def command(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Runs without an open turn too, and closed ones")
    ] = False,
    once: Annotated[bool, typer.Option("--once", help="Draw once and end")] = False,
    interval: Annotated[
        float, typer.Option("--interval", metavar="SECONDS", help="Draw again after so long")
    ] = 2.0,
    sort_by: Annotated[
        str,
        typer.Option("--sort-by", metavar="KEY", help="cost, tokens, age, activity or name"),
    ] = "cost",
    selector: Selector = None,
    all_tenants: AllTenants = False,
) -> None:
    """Watch the runs with an open turn: what they do, wait for, use and cost.

    Keys: q ends, s sorts by the next key, a shows all runs or the open ones, space draws at once.
    Off a terminal it draws once.

    Examples:
      aosctl top
      aosctl top -A --sort-by tokens
      aosctl top --once | head
    """
    from aosctl.cli.wiring import quick_session_of
    from aosctl.domain.selectors import parse_selector

    if sort_by not in _ORDERS:
        raise UsageError(f'cannot sort by "{sort_by}"', f"one of {', '.join(_ORDERS)}")
    if not 0.1 <= interval <= 3600:  # nan is not
        raise UsageError(f"--interval is 0.1 to 3600 seconds, not {interval}")
    labels = parse_selector(selector or "")
    given = globals_of(ctx)
    live = not once and sys.stdin.isatty() and sys.stdout.isatty()
    with closing(quick_session_of(given, select_tenant=not all_tenants)) as session:
        from aosctl.cli.ps import read
        from aosctl.cli.top_screen import Screen, board

        def rows(with_closed: bool, key: str) -> list[RunRow]:
            found = read(session, with_closed, all_tenants)
            found = [row for row in found if labels(row.labels)]
            return sorted(found, key=_ORDERS[key])  # type: ignore[arg-type]

        where = f"{session.tenant} tenant" if session.tenant else "all tenants"
        if not live:
            found = rows(everything, sort_by)
            lines = board(found, where, sort_by, None, with_tenant=all_tenants)
            output.write("".join(f"{line}\n" for line in lines))
            return
        screen = Screen(rows, where, list(_ORDERS), sort_by, everything, all_tenants)
        screen.run(interval)
