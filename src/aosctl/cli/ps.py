"""`aosctl ps`: the runs, what they do and what they wait for."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, NamedTuple
from uuid import UUID

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, NoHeaders, OutputText, Selector, SortBy
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.cli.globals import Globals
    from aosctl.db.rows import AnySession
    from aosctl.db.runs import RunRow

HEADERS = (
    "RUN",
    "AGENT",
    "STATE",
    "TURN",
    "STEP",
    "TOOL",
    "TOKENS",
    "COST",
    "AGE",
    "WAITING-ON",
)
_WIDE = ("KIND", "MODEL", "PERSONA", "WORKER", "UNTRUSTED", "TITLE")
_TITLE = 40
KIND_WORDS = ("run", "runs")
"""Those of the kind Run, whose module takes longer to load."""


def command(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Runs without an open turn too, and closed ones")
    ] = False,
    names_only: Annotated[bool, typer.Option("-q", "--quiet", help="Print the names only")] = False,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Go on, with a row for each change")
    ] = False,
    tree: Annotated[
        bool, typer.Option("--forest", help="Runs that were forked below those they came from")
    ] = False,
    last: Annotated[
        int | None,
        typer.Option("--last", metavar="N", min=1, help="The N runs begun last, in any state"),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--no-trunc", help="Every token and cent counted, titles not cut")
    ] = False,
    filters: Annotated[
        list[str] | None,
        typer.Option(
            "--filter", metavar="KEY=VALUE", help="Only such runs: state=limited, agent=…"
        ),
    ] = None,
    output_format: OutputText = None,
    selector: Selector = None,
    sort_by: SortBy = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """List the runs with an open turn.

    --filter takes the keys agent, state, kind, model, persona, tool, waiting-on, created-by, name
    (a part of it) and label. One key twice means either; different keys must all hold. A state
    that runs without an open turn may have, such as idle or cancelled, looks at all runs.

    What docker's ps calls -n N is --last N here: -n is the tenant, as everywhere.

    Examples:
      aosctl ps
      aosctl ps -a -A --forest
      aosctl ps --filter state=limited --filter agent=my_pg_bot
      aosctl ps --last 5
      aosctl ps -a --sort-by .status.costUsd
      aosctl kill $(aosctl ps -q)
    """
    from aosctl.cli.wiring import remember_names
    from aosctl.domain.run_filters import Filters
    from aosctl.domain.selectors import parse_selector

    chosen = output.parse_output(output_format)
    wanted = Filters(filters or ())
    in_order = _order(sort_by)
    labels = parse_selector(selector or "")
    everything = everything or last is not None or wanted.reaches_beyond_open
    given = globals_of(ctx)
    with closing(_open(given, watch, all_tenants)) as session:
        pause = pause_of(session, all_tenants) if watch else None
        shown: dict[UUID, object] = {}
        look = Look(chosen, names_only, all_tenants, tree, whole, [])
        while True:
            rows = [
                row
                for row in read(session, everything or watch, all_tenants)
                if row.run_id in shown
                or (labels(row.labels) and wanted.hold(row) and (everything or row.has_open_turn))
            ]
            if last is not None:
                rows = sorted(rows, key=lambda row: row.created_at)[-last:]
            faces = {row.run_id: look.face(row) for row in rows} if watch else {}
            news = in_order(
                [row for row in rows if not watch or shown.get(row.run_id) != faces[row.run_id]]
            )
            shown |= faces
            look.write(news, headers=not no_headers)
            if not all_tenants:
                remember_names(given, KIND_WORDS, [row.name for row in rows], whole=False)
            if pause is None:
                break
            no_headers = no_headers or bool(news)
            sys.stdout.flush()
            pause(rows)
    waiting = [row.name for row in rows if row.waiting_on == "resolution"]
    if waiting and chosen.is_table and not names_only:
        output.note(f"hint: aosctl resolve {_the_one(waiting)}", quiet=given.quiet)
    if not rows and chosen.is_table and not names_only:
        where = f" in {session.tenant} tenant" if session.tenant else ""
        more = "" if everything else "; aosctl ps -a lists all"
        output.note(f"No {'runs' if everything else 'open runs'}{where}{more}", quiet=given.quiet)


def open_session(given: Globals, *, watches: bool, all_tenants: bool) -> AnySession:
    """Open the session of a verb that looks at runs once, or goes on looking."""
    from aosctl.cli.wiring import quick_session_of, session_of

    return (session_of if watches else quick_session_of)(given, select_tenant=not all_tenants)


def _open(given: Globals, watches: bool, all_tenants: bool) -> AnySession:
    try:
        return open_session(given, watches=watches, all_tenants=all_tenants)
    except AosError as error:
        count = given.tenant or ""
        if not (count.isascii() and count.isdigit()):
            raise
        hint = f"-n is the tenant; the runs begun last: aosctl ps --last {count}"
        raise type(error)(error.message, hint) from None


def _order(sort_by: str | None) -> Callable[[list[RunRow]], list[RunRow]]:
    """Return what puts runs in order; without --sort-by they are. Raises UsageError."""
    if not sort_by:
        return lambda rows: rows
    from aosctl.cli.sorting import Order
    from aosctl.domain.kinds.run import RUN, run_resource

    order = Order(sort_by)
    return lambda rows: order.sort([(RUN, rows)], run_resource)[0][1]


def pause_of(session: AnySession, all_tenants: bool) -> Callable[[list[RunRow]], None]:
    """Return what waits until something may have changed in the runs that were read."""
    from aosctl.db.connection import Session
    from aosctl.db.watching import Watch

    if not isinstance(session, Session):
        raise TypeError("only a session of psycopg can be told of changes")
    tenant = None if all_tenants else session.require_tenant()
    watch = Watch(session.connection, tenant=tenant, new_runs=True)

    def pause(rows: list[RunRow]) -> None:
        # Of those without an open turn the tenant's notices tell.
        busy = [(row.tenant_id, row.run_id) for row in rows if tenant and row.has_open_turn]
        watch.wait(busy, told=tenant is not None)

    return pause


def _the_one(waiting: list[str]) -> str:
    """Return how to resolve what a run waits for; several are listed first."""
    if len(waiting) > 1:
        return "lists the calls whose outcome is unknown"
    return f"{waiting[0]} --retry, --result TEXT, or --fail"


def read(session: AnySession, everything: bool, all_tenants: bool) -> list[RunRow]:
    """Read the runs of the tenant or of all that the session sees; else those with an open turn."""
    from aosctl.db import tenants
    from aosctl.db.runs import runs

    if not all_tenants:
        return runs(session.connection, session.require_tenant(), open_only=not everything)
    return tenants.everywhere(
        session.connection, lambda: runs(session.connection, open_only=not everything)
    )


class Look(NamedTuple):
    """How runs are shown."""

    chosen: output.Output
    names_only: bool
    with_tenant: bool
    tree: bool
    whole: bool = False
    widths: list[int] | None = None

    def face(self, row: RunRow) -> object:
        """Return what changes where -w prints a run anew: in a table what stands in it."""
        if self.names_only or not self.chosen.is_table:
            return row
        shown = cells(row, whole=self.whole)
        del shown[HEADERS.index("AGE")]
        return (*shown, *(_wide(row, self.whole) if self.chosen.format == "wide" else ()))

    def write(self, rows: list[RunRow], *, headers: bool) -> None:
        """Print runs, nothing where there are none and the format has no empty list."""
        if self.names_only:
            output.write("".join(f"{row.name}\n" for row in rows))
        elif not self.chosen.is_table:
            from aosctl.domain.kinds.run import RUN, run_resource

            manifests = [RUN.to_manifest(run_resource(row)) for row in rows]
            output.write_objects(manifests, self.chosen, show_headers=headers)
        elif rows:
            self._write_table(rows, headers)

    def _write_table(self, rows: list[RunRow], headers: bool) -> None:
        from aosctl.cli.forest import forest
        from aosctl.cli.table import write_table

        wide = self.chosen.format == "wide"
        first = ["TENANT"] if self.with_tenant else []
        names = [*first, *HEADERS, *(_WIDE if wide else ())]
        lines = []
        for lead, row in forest(rows) if self.tree else (("", row) for row in rows):
            name, *rest = cells(row, whole=self.whole)
            tenant = [row.tenant] if self.with_tenant else []
            lines.append(
                [*tenant, f"{lead}{name}", *rest, *(_wide(row, self.whole) if wide else ())]
            )
        write_table(names, lines, show_headers=headers, widths=self.widths)


def cells(row: RunRow, *, whole: bool = False) -> list[object]:
    """Return a run's cells below HEADERS; with `whole` no number is rounded."""
    from datetime import UTC, datetime

    from aosctl.cli.table import short_duration
    from aosctl.domain.money import exact, money

    count = row.input_tokens + row.output_tokens
    age = (datetime.now(UTC) - row.created_at).total_seconds()
    return [
        row.name,
        row.agent,
        row.state,
        row.turn,
        row.last_step,
        row.tool,
        count if whole else _tokens(count),
        f"${exact(row.spent_usd)}" if whole else money(row.spent_usd),
        short_duration(age),
        row.children if row.waiting_on == "run" else row.waiting_on,
    ]


def _wide(row: RunRow, whole: bool) -> list[object]:
    from aosctl.repl.words import shorten

    title = row.title if whole or row.title is None else shorten(row.title, _TITLE)
    persona = f"{row.persona}@{row.persona_version}"
    return [row.kind, row.model, persona, row.lease_worker, row.taint, title]


def _tokens(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1_000_000:.0f}M"
