"""The ledger, added up."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import UUID

from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

By = Literal["tenant", "agent", "model", "day", "run"]


class CostRow(NamedTuple):
    """What one tenant, agent, model, day (UTC) or run has cost, in US dollars."""

    name: str
    answers: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


def costs(
    connection: AnyConnection, by: By, tenant: UUID | None, since: datetime | None
) -> list[CostRow]:
    """Add up the ledger (aos_core.ledger), the dearest first; days in their order.

    A run that was not touched since then has nothing since then: its steps are not read.
    """
    rows = rows_of(
        connection,
        CostRow,
        "select case %(by)s when 'tenant' then tenant when 'agent' then agent when 'run' then run"
        " when 'model' then model else to_char(at at time zone 'UTC', 'YYYY-MM-DD') end as name,"
        " count(*) as answers, sum(input_tokens)::bigint as input_tokens,"
        " sum(output_tokens)::bigint as output_tokens, sum(cost_usd) as cost_usd"
        " from aos_core.ledger"
        " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
        " and (%(since)s::timestamptz is null or run_updated_at >= %(since)s::timestamptz)"
        " and (%(since)s::timestamptz is null or at >= %(since)s::timestamptz)"
        " group by 1",
        {"by": by, "tenant": tenant, "since": since.isoformat() if since else None},
    )
    return sorted(rows, key=lambda row: row.name if by == "day" else (-row.cost_usd, row.name))
