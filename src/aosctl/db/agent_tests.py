"""What tests of agents read of a run, and the SQL that they bring."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any, LiteralString, NamedTuple
from uuid import UUID

from aosctl.db.errors import translated
from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

_CALLS: LiteralString = (
    "select c.call_id, c.skill, c.args, c.state, c.step_seq, c.reason, t.message as result,"
    " exists (select from aos_core.approval_status a where a.tenant_id = c.tenant_id"
    "  and a.call_id = c.call_id) as parked, c.finished_at <= c.created_at as at_once"
    " from aos_core.call_status c left join aos_core.transcript t on t.tenant_id = c.tenant_id"
    "  and t.run_id = c.run_id and t.seq = c.result_seq"
    " where c.tenant_id = %(tenant)s and c.run_id = %(run)s and c.step_seq > %(since)s"
    " order by c.step_seq, c.call_id"
)
_SPENT: LiteralString = (
    "select coalesce(sum(cost_usd), 0) as usd,"
    " coalesce(sum(coalesce(input_tokens, 0) + coalesce(output_tokens, 0)), 0)::bigint as tokens,"
    " count(*) filter (where role = 'assistant') as answers"
    " from aos_core.transcript where tenant_id = %(tenant)s"
)


class CallRow(NamedTuple):
    """One call of a run; `result` is the message that holds it.

    `parked`: a person was asked. `at_once`: it ended at the moment at which it was made.
    """

    call_id: UUID
    skill: str
    args: Mapping[str, Any] | None
    state: str
    step_seq: int
    reason: str | None
    result: Mapping[str, Any] | None
    parked: bool
    at_once: bool | None

    @property
    def gate(self) -> str:
        """Return what the kernel decided when the call was made, in a word."""
        if self.parked:
            return "parked"
        refused = self.state == "denied" or (self.state == "failed" and self.at_once)
        return "denied" if refused else "allowed"


class SpentRow(NamedTuple):
    """What all runs of a tenant have used together."""

    usd: Decimal
    tokens: int
    answers: int


def calls(connection: Connection, tenant: UUID, run: UUID, since: int) -> list[CallRow]:
    """List the calls that were made after a step."""
    return rows_of(connection, CallRow, _CALLS, {"tenant": tenant, "run": run, "since": since})


def spent(connection: Connection, tenant: UUID) -> SpentRow:
    """Add up what the models of a tenant have answered."""
    return rows_of(connection, SpentRow, _SPENT, {"tenant": tenant})[0]


def run_sql(connection: Connection, text: str) -> None:
    """Run SQL of a test as it stands, all of it or nothing. Raises AosError."""
    with translated(), connection.transaction(), _own_path(connection):
        connection.execute(text.encode())


def query(connection: Connection, text: str) -> tuple[Sequence[str], list[tuple[Any, ...]]]:
    """Return the columns and rows of a statement, whose effects are taken back. Raises AosError."""
    with translated(), connection.transaction(force_rollback=True), _own_path(connection):
        cursor = connection.execute(text.encode())
        if cursor.description is None:
            return (), []
        return [column.name for column in cursor.description], cursor.fetchall()


@contextmanager
def _own_path(connection: Connection) -> Iterator[None]:
    """Look names up as the login has it set, as psql does."""
    connection.execute("reset search_path")
    yield
    connection.execute("set search_path = pg_catalog, pg_temp")
