"""A statement that counts how often it ran does what its approver saw, or nothing."""

from __future__ import annotations

from typing import Any

import pytest

from kernels import Asked, KernelDatabase, Tenant, apply, call, make_tenant

CORNER = """
create schema corner;
create table corner.items (id integer primary key, item text, price numeric);
"""
ROWS = "truncate corner.items; insert into corner.items values (1, 'pen', 1), (2, 'ink', 2)"
# What a rollback leaves, and what a session counts of itself.
BY_LOCKS = (
    "with seen as materialized (select count(*) as n from pg_locks"
    " where locktype = 'advisory' and pid = pg_backend_pid()),"
    " left_behind as materialized (select pg_advisory_lock(100 + n) from seen) "
)
COUNTERS = {
    "locks": "(select n from seen, left_behind)",
    "writes": "pg_stat_get_xact_tuples_updated('corner.items'::regclass)",
}
CHANGES = {
    "another row": "update corner.items set item = 'x' where id ="
    " case when {n} >= {at} then 2 else 1 end",
    "another value": "update corner.items set price = case when {n} >= {at} then 9"
    " else 1 end where id = 1",
}
COLUMNS = ("id", "item", "price")
BEFORE = [(1, "pen", 1), (2, "ink", 2)]


@pytest.fixture(scope="module")
def corner(kernel_database: KernelDatabase) -> Tenant:
    """A tenant whose agent may change a shop on the corner, if a person approves."""
    kernel_database.superuser.execute(CORNER.encode())
    tenant = make_tenant(kernel_database)
    apply(kernel_database.superuser, "aos_skills.apply_skill", tenant.id, "sql_execute", {
        "builtin": "sql_execute", "approval": "always", "sql": {"grants": [
            {"schema": "corner", "tables": ["items"], "privileges": ["select", "update"]}]},
    })  # fmt: skip
    return tenant


def previewed(tenant: Tenant, statement: str) -> tuple[Asked, dict[str, Any]]:
    asked = tenant.asked("sql_execute", {"statement": statement}, "clerk")
    claimed = call(tenant.worker, "aos_agent.claim_preview", tenant.id, asked.call)
    made = {"again": True}
    while "again" in made:
        made = call(tenant.worker, "aos_agent.preview_call", tenant.id, asked.call,
                    claimed["lease"])  # fmt: skip
        tenant.worker.execute("select pg_advisory_unlock_all()")  # as between two calls
    return asked, dict(made["preview"])


def items(tenant: Tenant) -> list[tuple[Any, ...]]:
    return tenant.database.rows("select id, item, price from corner.items order by id")


@pytest.mark.parametrize("counter", COUNTERS)
@pytest.mark.parametrize("change", CHANGES)
def test_what_counts_its_runs_does_what_was_shown_or_nothing(
    corner: Tenant, change: str, counter: str
) -> None:
    ran = 0
    for at in range(1, 7):  # whichever of its runs it changes its mind in
        corner.database.superuser.execute(ROWS.encode())
        statement = CHANGES[change].format(n=COUNTERS[counter], at=at)
        asked, shown = previewed(corner, (BY_LOCKS if counter == "locks" else "") + statement)
        corner.decide(asked.call, "approved")
        said = corner.execute(asked.call, corner.claim(run=asked.run))
        corner.worker.execute("select pg_advisory_unlock_all()")
        if said["ok"]:
            after = {row["after"]["id"]: row["after"] for row in shown["rows"]}
            told = set(shown.get("varies") or ())  # two looks differed in these: it was said
            for row, stays in zip(items(corner), BEFORE, strict=True):
                expected = after.get(row[0], dict(zip(COLUMNS, stays, strict=True)))
                found = dict(zip(COLUMNS, row, strict=True))
                assert {name for name in COLUMNS if found[name] != expected[name]} <= told, shown
            ran += 1
        else:
            assert said["status"] == "awaiting_approval" and items(corner) == BEFORE
    assert ran > 0  # it is not refused as such
