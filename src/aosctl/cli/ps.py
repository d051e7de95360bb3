"""`aosctl ps`: the runs, what they do and what they wait for."""

from __future__ import annotations

import sys
import time
from contextlib import closing
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, NoHeaders, OutputText, Selector
from aosctl.cli.globals import globals_of

if TYPE_CHECKING:
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
_WATCH_SECONDS = 1.0


def command(
    ctx: typer.Context,
    everything: Annotated[
        bool, typer.Option("-a", "--all", help="Runs without an open turn too, and closed ones")
    ] = False,
    names_only: Annotated[bool, typer.Option("-q", "--quiet", help="Print the names only")] = False,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Go on, with a row for each change")
    ] = False,
    output_format: OutputText = None,
    selector: Selector = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """List the runs with an open turn.

    Examples:
      aosctl ps
      aosctl ps -a -A
      aosctl kill $(aosctl ps -q)
    """
    from aosctl.cli.wiring import quick_session_of
    from aosctl.domain.selectors import parse_selector

    chosen = output.parse_output(output_format)
    matches = parse_selector(selector or "")
    given = globals_of(ctx)
    with closing(quick_session_of(given, select_tenant=not all_tenants)) as session:
        shown: dict[UUID, RunRow] = {}
        while True:
            rows = [
                row
                for row in _read(session, everything or watch, all_tenants)
                if matches(row.labels) and (everything or row.has_open_turn or row.run_id in shown)
            ]
            news = [row for row in rows if shown.get(row.run_id) != row]
            shown |= {row.run_id: row for row in news}
            _print(news, chosen, names_only, all_tenants, headers=not no_headers)
            if not watch:
                break
            no_headers = no_headers or bool(news)
            sys.stdout.flush()
            time.sleep(_WATCH_SECONDS)
    waiting = [row.name for row in rows if row.waiting_on == "resolution"]
    if waiting and chosen.is_table and not names_only:
        output.note(f"hint: aosctl resolve {_the_one(waiting)}", quiet=given.quiet)
    if not rows and chosen.is_table and not names_only:
        where = f" in {session.tenant} tenant" if session.tenant else ""
        more = "" if everything else "; aosctl ps -a lists all"
        output.note(f"No {'runs' if everything else 'open runs'}{where}{more}", quiet=given.quiet)


def _the_one(waiting: list[str]) -> str:
    """Return how to resolve what a run waits for; several are listed first."""
    if len(waiting) > 1:
        return "lists the calls whose outcome is unknown"
    return f"{waiting[0]} --retry, --result TEXT, or --fail"


def _read(session: AnySession, everything: bool, all_tenants: bool) -> list[RunRow]:
    from aosctl.db import tenants
    from aosctl.db.runs import runs

    if not all_tenants:
        return runs(session.connection, session.require_tenant(), open_only=not everything)
    return tenants.everywhere(
        session.connection, lambda: runs(session.connection, open_only=not everything)
    )


def _print(
    rows: list[RunRow],
    chosen: output.Output,
    names_only: bool,
    all_tenants: bool,
    *,
    headers: bool,
) -> None:
    if names_only:
        output.write("".join(f"{row.name}\n" for row in rows))
    elif not chosen.is_table:
        from aosctl.domain.kinds.run import RUN, run_resource

        manifests = [RUN.to_manifest(run_resource(row)) for row in rows]
        output.write_objects(manifests, chosen, show_headers=headers)
    elif rows:
        from aosctl.cli.table import write_table

        wide = chosen.format == "wide"
        names = [*(["TENANT"] if all_tenants else []), *HEADERS, *(_WIDE if wide else ())]
        lines = [
            [*([row.tenant] if all_tenants else []), *_cells(row), *(_wide(row) if wide else ())]
            for row in rows
        ]
        write_table(names, lines, show_headers=headers)


def _cells(row: RunRow) -> list[object]:
    from datetime import UTC, datetime

    from aosctl.cli.table import short_duration
    from aosctl.domain.money import money

    age = (datetime.now(UTC) - row.created_at).total_seconds()
    return [
        row.name,
        row.agent,
        row.state,
        row.turn,
        row.last_step,
        row.tool,
        _tokens(row.input_tokens + row.output_tokens),
        money(row.spent_usd),
        short_duration(age),
        row.waiting_on,
    ]


def _wide(row: RunRow) -> list[object]:
    persona = f"{row.persona}@{row.persona_version}"
    return [row.kind, row.model, persona, row.lease_worker, row.taint, row.title]


def _tokens(count: int) -> str:
    if count < 10_000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 10_000_000 else f"{count / 1_000_000:.0f}M"
