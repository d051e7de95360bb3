"""The ledger, added up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Literal, NamedTuple
from uuid import UUID

from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

By = Literal["tenant", "agent", "model", "day", "run"]


class CostRow(NamedTuple):
    """What one tenant, agent, model, day (UTC) or run has cost, in US dollars.

    `names` has one for each key that is added up by.
    """

    names: list[str]
    answers: int
    input_tokens: int
    output_tokens: int
    cost_usd: Decimal


def costs(
    connection: AnyConnection, by: Sequence[By], tenant: UUID | None, since: datetime | None
) -> list[CostRow]:
    """Add up the ledger (aos_core.ledger), the dearest first; days, and several keys, in order.

    A run that was not touched since then has nothing since then: its steps are not read.
    """
    rows = rows_of(
        connection,
        CostRow,
        "select names, count(*) as answers, sum(input_tokens)::bigint as input_tokens,"
        " sum(output_tokens)::bigint as output_tokens, sum(cost_usd) as cost_usd"
        " from (select l.*, (select jsonb_agg(case k when 'tenant' then tenant"
        "  when 'agent' then agent when 'run' then run when 'model' then model"
        "  else to_char(at at time zone 'UTC', 'YYYY-MM-DD') end order by n)"
        "  from unnest(%(by)s::text[]) with ordinality u(k, n)) as names"
        "  from aos_core.ledger l) l"
        " where (%(tenant)s::uuid is null or tenant_id = %(tenant)s)"
        " and (%(since)s::timestamptz is null or run_updated_at >= %(since)s::timestamptz)"
        " and (%(since)s::timestamptz is null or at >= %(since)s::timestamptz)"
        " group by 1",
        {"by": list(by), "tenant": tenant, "since": since.isoformat() if since else None},
    )
    return in_order(rows, by)


def in_order(rows: Iterable[CostRow], by: Sequence[By]) -> list[CostRow]:
    """Return rows as they are shown."""
    by_name = len(by) > 1 or by[0] == "day"
    return sorted(rows, key=lambda row: row.names if by_name else (-row.cost_usd, row.names))
