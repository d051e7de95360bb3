"""`aosctl top`: the runs as they are now, drawn again and again; once off a terminal."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, Selector
from aosctl.cli.globals import globals_of
from aosctl.cli.ps import open_session, pause_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.cli.changes import Changes
    from aosctl.cli.globals import Globals
    from aosctl.db.runs import RunRow


def command(
    ctx: typer.Context,
    subject: Annotated[
        str, typer.Argument(metavar="[runs|agents]", help="A row for each", show_default=False)
    ] = "runs",
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Runs without an open turn too, and closed ones")
    ] = False,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Go on; off a terminal too, with each change")
    ] = False,
    total: Annotated[bool, typer.Option("--sum", help="Add a row with the sums")] = False,
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

    It is drawn again when something changes, and after the interval. Of agents their runs are
    added up; with -a all runs count, not only the open ones.

    Keys: q ends, s sorts by the next key, a shows all runs or the open ones, space draws at once.
    Off a terminal it draws once, with -w again at each change.

    Examples:
      aosctl top
      aosctl top -A --sort-by tokens
      aosctl top agents -a --sum
      aosctl top --once | head
    """
    from aosctl.domain.selectors import parse_selector

    _check(subject, sort_by, interval)
    labels = parse_selector(selector or "")
    given = globals_of(ctx)
    live = not once and sys.stdin.isatty() and sys.stdout.isatty()
    watches = watch and not live
    with closing(open_session(given, watches=watches, all_tenants=all_tenants)) as session:
        from aosctl.cli.ps import read
        from aosctl.cli.top_screen import Screen, View, board
        from aosctl.cli.top_tables import ORDERS

        def rows(with_closed: bool) -> list[RunRow]:
            found = read(session, with_closed, all_tenants)
            return [row for row in found if labels(row.labels)]

        where = f"{session.tenant} tenant" if session.tenant else "all tenants"
        view = View(where, sort_by, subject, all_tenants, total)
        if live:
            Screen(rows, view, tuple(ORDERS), everything, _changes(given, all_tenants)).run(
                interval
            )
            return
        pause = pause_of(session, all_tenants) if watch else None
        shown: list[tuple[UUID, int, str]] | None = None
        while True:
            found = rows(everything)
            news = [(row.run_id, row.last_seq, row.state) for row in found]
            if news != shown:
                lines = [*([] if shown is None else [""]), *board(found, view, None)]
                output.write("".join(f"{line}\n" for line in lines))
                sys.stdout.flush()
            if pause is None:
                return
            shown = news
            pause(found)


def _check(subject: str, sort_by: str, interval: float) -> None:
    """Raise UsageError for what is not clear."""
    from aosctl.cli.top_tables import ORDERS, SUBJECTS

    if subject not in SUBJECTS:
        raise UsageError(f'there is no top of "{subject}"', f"one of {', '.join(SUBJECTS)}")
    if sort_by not in ORDERS:
        raise UsageError(f'cannot sort by "{sort_by}"', f"one of {', '.join(ORDERS)}")
    if not 0.1 <= interval <= 3600:  # nan is not
        raise UsageError(f"--interval is 0.1 to 3600 seconds, not {interval}")


def _changes(given: Globals, all_tenants: bool) -> Changes | None:
    """Return what tells of changes; nothing does in all tenants at once."""
    if all_tenants:
        return None
    from aosctl.cli.changes import Changes
    from aosctl.cli.wiring import session_of

    return Changes(lambda: session_of(given, progress=lambda _text: None))
