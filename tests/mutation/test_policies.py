"""Each policy and each flag of row-level security, broken in turn: somebody reaches other rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from aosctl.db.doctor import policies, tables
from aosctl.db.doctor.rule import Setting
from kernels import KernelDatabase
from probes import Reach

ALL_TENANTS = ("backup", "lookup", "iso_chief", "iso_chief, none selected", "views, none selected")
"""Callers that are meant to see every tenant, or are an administrator's."""

KEPT = {"people_update on aos_skills.skill"}
"""Checks of a row's tenant that a trigger makes as well: a skill keeps its own (test_grants)."""


class Mutation(NamedTuple):
    """A break of one object, the table on which it shows, and whether rights let it show at all."""

    name: str
    statement: str
    table: str
    matters: bool = True


# Whether a role of the policy may do what a part of it rules: see, change, or write a tenant's id.
_POLICIES = """
select quote_ident(p.polname) || ' on ' || t, t, pg_get_expr(p.polqual, p.polrelid) is not null
    and pg_get_expr(p.polqual, p.polrelid) <> 'true',
  coalesce(pg_get_expr(p.polwithcheck, p.polrelid) <> 'true', false),
  bool_or(p.polroles = '{0}' or p.polcmd in ('r', '*') and has_any_column_privilege(r, t, 'select')
    or p.polcmd in ('w', '*') and has_any_column_privilege(r, t, 'update')
    or p.polcmd in ('d', '*') and has_table_privilege(r, t, 'delete')),
  bool_or(p.polcmd in ('a', '*') and has_any_column_privilege(r, t, 'insert')
    or p.polcmd in ('w', '*') and has_column_privilege(r, t, 'tenant_id', 'update'))
from pg_policy p, lateral (select p.polrelid::regclass::text as t) n, unnest(p.polroles) r
where t like 'aos\\_%%' group by p.oid, p.polname, t order by 2, 1"""


def mutations(database: KernelDatabase) -> Iterator[Mutation]:
    """Yield, for every policy and every table of the live catalog, each way to break it."""
    for name, table, using, check, reads, writes in database.rows(_POLICIES):
        drop = f"drop policy {name}"
        yield Mutation(f"{name}: dropped", drop, table, reads or writes)
        if using:
            change = f"alter policy {name} using (true)"
            yield Mutation(f"{name}: using (true)", change, table, reads)
        if check:
            change = f"alter policy {name} with check (true)"
            matters = writes and name not in KEPT
            yield Mutation(f"{name}: with check (true)", change, table, matters)
    for (table,) in database.rows(
        "select c.oid::regclass::text from pg_class c where c.relrowsecurity and not"
        " c.relispartition and c.relnamespace::regnamespace::text like 'aos\\_%%' order by 1"
    ):
        for flag in ("disable", "no force"):
            change = f"alter table {table} {flag} row level security"
            yield Mutation(f"{table}: {flag}", change, table)


@pytest.fixture(scope="module")
def healthy(reach: Reach) -> dict[str, dict[str, list[str]]]:
    with reach.connection.transaction(force_rollback=True):
        return {table: reach.of(table) for table in reach.tables}


def test_on_a_healthy_kernel_nobody_reaches_the_other_tenant(
    reach: Reach, healthy: dict[str, dict[str, list[str]]]
) -> None:
    """No row is counted, changed or deleted; an insert is refused, not merely a duplicate."""
    found = [
        (table, caller, statement, outcome)
        for table, callers in healthy.items()
        for caller, said in callers.items()
        for statement, outcome in zip(reach.statements(table, caller), said, strict=True)
    ]
    through = [
        one
        for one in found
        if one[1] not in (*ALL_TENANTS, "iso_both", "kernel unbound")
        and one[:2] != ("aos_core.event_checkpoint", "owner")  # it cuts all streams
        and f"'{reach.there}'" in one[2]
        and not re.match(r"0 |42501|55000|AO0|0A000|23502", one[3])
    ]
    assert through == []
    own = [
        outcome
        for _, caller, statement, outcome in found
        if caller == "kernel bound" and statement.startswith("select")
        if f"'{reach.here}'" in statement
    ]
    assert len(own) > 20 and all(re.match(r"[1-9]", outcome) for outcome in own)


def test_every_broken_policy_and_flag_is_noticed(
    subject: KernelDatabase, reach: Reach, healthy: dict[str, dict[str, list[str]]]
) -> None:
    """By the doctor always; by what people and roles reach, wherever a right lets it matter."""
    connection = subject.superuser
    rules = (*policies.RULES, tables.RLS_OFF, tables.RLS_NOT_FORCED)
    untold, unfelt, felt, total = [], [], 0, 0
    for mutation in mutations(subject):
        total += 1
        with connection.transaction(force_rollback=True):
            connection.execute(mutation.statement.encode())
            if reach.differs(mutation.table, healthy[mutation.table]):
                felt += 1
            elif mutation.matters:
                unfelt.append(mutation.name)
            connection.execute("set local search_path = pg_catalog")
            setting = Setting(connection)
            told = [finding.object for rule in rules for finding in rule.check(setting)]
            if not any(mutation.table in name for name in told):
                untold.append(mutation.name)
    assert (untold, unfelt) == ([], [])
    assert total > 250 and felt > 200, f"{felt} of {total} are felt"
