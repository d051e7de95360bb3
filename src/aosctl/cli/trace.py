"""`aosctl trace`: a run as a tree of its steps, with what each took and cost."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.errors import NotFound, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from aosctl.cli.trace_text import Picture
    from aosctl.db.runs import RunRow
    from aosctl.domain.trace import Span

_DEPTHS = 4
_FEWEST, _MOST = 40, 200
"""Between these the picture keeps to the terminal's width."""


def command(
    ctx: typer.Context,
    run: Annotated[str, typer.Argument(metavar="RUN")],
    turn: Annotated[
        int | None, typer.Option("--turn", metavar="N", min=1, help="Only this turn")
    ] = None,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Draw it anew as things happen, to the turn's end")
    ] = False,
    depth: Annotated[
        int,
        typer.Option("--depth", metavar="N", help="1 turns, 2 models, 3 tools, 4 approvals"),
    ] = _DEPTHS,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Write it as a page; - is stdout")
    ] = None,
    svg: Annotated[
        str | None, typer.Option("--svg", metavar="FILE", help="Write it as a picture; - is stdout")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json")
    ] = None,
) -> None:
    """Show what a run did: turns, model calls, tool calls and approvals, with time and money.

    The bars of a turn are drawn on the turn's own time. A model call's time begins with the
    question, a tool call's with the model's wish for it, so it holds the wait for an approval.

    -w goes on until no turn is open; off a terminal it draws only then.

    --html and --svg write a new file that only you can read, and that loads nothing from
    elsewhere.

    Examples:
      aosctl trace my_pg_bot-x7k2p
      aosctl trace x7k2p --turn 3
      aosctl trace -w x7k2p
      aosctl trace x7k2p --svg trace.svg
      aosctl trace x7k2p -o json | jq '.turns[].seconds'
    """
    chosen = output.parse_output(output_format, allowed=("json",))
    if not 1 <= depth <= _DEPTHS:
        raise UsageError(f"--depth is 1 to {_DEPTHS}, not {depth}")
    from aosctl.cli.wiring import quick_session_of
    from aosctl.db.clock import moment
    from aosctl.db.runs import find_run
    from aosctl.db.traces import record
    from aosctl.domain.trace import cut, spans

    given = globals_of(ctx)
    if watch:
        from aosctl.cli.trace_watch import watched

        watched(given, run, turn, depth)
    with closing(quick_session_of(given)) as session:
        row = find_run(session.connection, session.require_tenant(), run)
        turns = cut(spans(record(session.connection, row, turn)), depth)
        now = moment(session.connection)
    if turn is not None and not turns:
        raise NotFound(f'run "{row.name}" has no turn {turn}', f"it has had {row.turn}")
    if not chosen.is_table:
        from aosctl.cli.trace_export import as_json

        output.write_json(as_json(row, turns, now))
    elif html is not None or svg is not None:
        _write_file(html, svg, row, turns, now)
    else:
        _write_picture(row, turns, now, no_color=given.no_color)


def _write_picture(row: RunRow, turns: list[Span], now: datetime, *, no_color: bool) -> None:
    import sys

    sys.stdout.write(picture_here(no_color=no_color).draw(row, turns, now))


def picture_here(*, no_color: bool) -> Picture:
    """Return how a trace is drawn on this terminal, or where there is none."""
    import os
    import shutil
    import sys

    from aosctl.bars import has_lines
    from aosctl.cli.approval_screen import style_for
    from aosctl.cli.trace_text import Picture
    from aosctl.terminal import use_colour

    width = min(max(shutil.get_terminal_size((100, 24)).columns, _FEWEST), _MOST)
    colour = use_colour(sys.stdout, os.environ, no_color=no_color)
    return Picture(width, style_for(colour), blocks=has_lines())


def _write_file(
    html: str | None, svg: str | None, row: RunRow, turns: list[Span], now: datetime
) -> None:
    import sys
    from pathlib import Path

    from aosctl.cli.trace_export import as_html, as_svg
    from aosctl.private_file import new_private_file

    text = as_html(row, turns, now) if html is not None else as_svg(row, turns, now)
    name = html if html is not None else svg
    if name == "-":
        sys.stdout.write(text)
        return
    with new_private_file(Path(name or "")) as file:
        file.write(text)
    output.note(f"written to {name}")
