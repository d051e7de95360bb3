"""The tables of `aosctl top`: a row for each run, or for each agent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from aosctl.db.runs import RunRow

SUBJECTS = ("runs", "agents")
LEFT_OUT = {
    "runs": ("STEP", "TURN", "AGENT", "TOOL", "TOKENS"),
    "agents": ("LAST", "WAITING", "TOKENS"),
}
"""Columns that a narrow terminal goes without, one after the other."""
AGENT_HEADERS = ("AGENT", "RUNS", "RUNNING", "WAITING", "TOKENS", "COST", "LAST")


class Line(NamedTuple):
    """What runs are added up to: of one, or of all of an agent."""

    name: str
    tenant: str
    runs: Sequence[RunRow]
    tokens: int
    usd: Decimal
    created_at: datetime
    updated_at: datetime


ORDERS: dict[str, Callable[[Line], object]] = {
    "cost": lambda line: (-line.usd, line.name),
    "tokens": lambda line: (-line.tokens, line.name),
    "age": lambda line: (line.created_at, line.name),
    "activity": lambda line: (-line.updated_at.timestamp(), line.name),
    "name": lambda line: line.name,
}


def table(rows: Sequence[RunRow], subject: str, key: str, *, tenant: bool, total: bool) -> Table:
    """Return the headers and the rows of cells, in the order of `key`; with `total` a last one."""
    from aosctl.cli.ps import HEADERS, cells

    lines = sorted(_lines(rows, subject), key=ORDERS[key])  # type: ignore[arg-type]
    made = cells if subject == "runs" else None
    headers = [*(["TENANT"] if tenant else []), *(HEADERS if made else AGENT_HEADERS)]
    body = [
        [*([line.tenant] if tenant else []), *(made(line.runs[0]) if made else _agent(line))]
        for line in lines
    ]
    if total and rows:
        body.append(_total(headers, rows))
    return headers, body


Table = tuple[list[str], list[list[object]]]


def _lines(rows: Sequence[RunRow], subject: str) -> list[Line]:
    found: dict[tuple[str, str], list[RunRow]] = {}
    for row in rows:
        found.setdefault((row.tenant, row.name if subject == "runs" else row.agent), []).append(row)
    return [
        Line(
            name,
            tenant,
            runs,
            _tokens(runs),
            _usd(runs),
            min(run.created_at for run in runs),
            max(run.updated_at for run in runs),
        )
        for (tenant, name), runs in found.items()
    ]


def _agent(line: Line) -> list[object]:
    from datetime import UTC, datetime

    from aosctl.cli.table import short_duration
    from aosctl.domain.money import money

    return [
        line.name,
        len(line.runs),
        sum(run.state == "running" for run in line.runs),
        sum(run.waiting_on is not None for run in line.runs),
        line.tokens,
        money(line.usd),
        short_duration((datetime.now(UTC) - line.updated_at).total_seconds()),
    ]


def _total(headers: Sequence[str], rows: Sequence[RunRow]) -> list[object]:
    from aosctl.domain.money import money

    known = {"TOKENS": _tokens(rows), "COST": money(_usd(rows))}
    if "RUNS" in headers:
        known["RUNS"] = len(rows)
    return ["TOTAL", *(known.get(header, "") for header in headers[1:])]


def _tokens(rows: Sequence[RunRow]) -> int:
    return sum(row.input_tokens + row.output_tokens for row in rows)


def _usd(rows: Sequence[RunRow]) -> Decimal:
    return sum((row.spent_usd for row in rows), Decimal(0))
