"""`aosctl cost`: what was paid for, added up from the ledger."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, cast, get_args

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, NoHeaders
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from decimal import Decimal

    from aosctl.db.costs import By, CostRow
    from aosctl.db.rows import AnySession

_BAR_CELLS = 24


def command(
    ctx: typer.Context,
    by: Annotated[
        str, typer.Option("--by", metavar="KEY,…", help="tenant, agent, model, day (UTC), run")
    ] = "agent",
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Not before: 24h, 7d, or 2026-11-01 (UTC)"),
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json")
    ] = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """Show what was paid for: answers, tokens and US dollars, each answer at the price of its time.

    With -o json, sums of money are strings, so that no digit of them is lost.

    Examples:
      aosctl cost
      aosctl cost --by day --since 7d
      aosctl cost --by agent,day
      aosctl cost --by tenant -A -o json
    """
    from aosctl.cli.moments import parse_since
    from aosctl.cli.wiring import quick_session_of

    chosen = output.parse_output(output_format, allowed=("json",))
    keys = _keys(by)
    begin = parse_since(since) if since else None
    everywhere = all_tenants or "tenant" in keys
    given = globals_of(ctx)
    with closing(quick_session_of(given, select_tenant=not everywhere)) as session:
        rows = _read(session, keys, begin, everywhere)
    if not chosen.is_table:
        output.write_json(_as_json(keys, rows))
    elif rows:
        _write(keys, rows, show_headers=not no_headers)
    else:
        where = f" in {session.tenant} tenant" if session.tenant else ""
        output.note(f"Nothing was paid for{where}", quiet=given.quiet)


def _keys(text: str) -> list[By]:
    from aosctl.db.costs import By

    known = get_args(By)
    keys = [part.strip() for part in text.split(",")]
    for key in keys:
        if key not in known:
            raise UsageError(
                f'cannot add up by "{key}"', f"{', '.join(known)}, or several: agent,day"
            )
    if len(set(keys)) < len(keys):
        raise UsageError(f'"{text}" adds up by one thing twice', "--by agent,day")
    return cast("list[By]", keys)


def _read(
    session: AnySession, keys: Sequence[By], since: datetime | None, everywhere: bool
) -> Sequence[CostRow]:
    from aosctl.db import tenants
    from aosctl.db.costs import costs

    if not everywhere:
        return costs(session.connection, keys, session.require_tenant(), since)
    found = tenants.everywhere(
        session.connection, lambda: costs(session.connection, keys, None, since)
    )
    return _merged(found, keys)


def _merged(rows: Sequence[CostRow], keys: Sequence[By]) -> Sequence[CostRow]:
    """Add up rows of several tenants that have the same names."""
    from aosctl.db.costs import in_order

    sums: dict[tuple[str, ...], CostRow] = {}
    for row in rows:
        before = sums.get(tuple(row.names))
        if before is not None:
            row = row._replace(
                answers=row.answers + before.answers,
                input_tokens=row.input_tokens + before.input_tokens,
                output_tokens=row.output_tokens + before.output_tokens,
                cost_usd=row.cost_usd + before.cost_usd,
            )
        sums[tuple(row.names)] = row
    return in_order(sums.values(), keys)


def _total(rows: Sequence[CostRow]) -> tuple[int, int, int, Decimal]:
    from decimal import Decimal

    return (
        sum(row.answers for row in rows),
        sum(row.input_tokens for row in rows),
        sum(row.output_tokens for row in rows),
        sum((row.cost_usd for row in rows), Decimal(0)),
    )


def _as_json(keys: Sequence[By], rows: Sequence[CostRow]) -> dict[str, object]:
    from aosctl.domain.money import exact

    def one(answers: int, tokens_in: int, tokens_out: int, usd: Decimal) -> dict[str, object]:
        return {
            "answers": answers,
            "inputTokens": tokens_in,
            "outputTokens": tokens_out,
            "costUsd": exact(usd),
        }

    return {
        "by": ",".join(keys),
        "items": [{**dict(zip(keys, row.names, strict=True)), **one(*row[1:])} for row in rows],
        "total": one(*_total(rows)),
    }


def _write(keys: Sequence[By], rows: Sequence[CostRow], *, show_headers: bool) -> None:
    from aosctl.cli.table import write_table
    from aosctl.domain.money import money

    most = max(row.cost_usd for row in rows)
    lines: list[Sequence[object]] = [
        (*row.names, *row[1:4], money(row.cost_usd), _bar(row.cost_usd, most)) for row in rows
    ]
    if len(rows) > 1:
        *counts, usd = _total(rows)
        lines.append(("TOTAL", *[""] * (len(keys) - 1), *counts, money(usd), ""))
    headers = (*(key.upper() for key in keys), "ANSWERS", "IN", "OUT", "COST", "")
    write_table(headers, lines, show_headers=show_headers)


def _bar(usd: Decimal, most: Decimal) -> str:
    """Return a bar as long as `usd` is of `most`; none for nothing."""
    from aosctl.bars import bar, has_lines

    return bar(float(usd / most), _BAR_CELLS, blocks=has_lines()) if usd else ""
