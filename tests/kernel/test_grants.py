"""What a skill's row says of tables and what its SQL may touch are one, whoever wrote the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from aosctl.db.declared_grants import give_declared
from kernels import (
    Connection,
    KernelDatabase,
    Tenant,
    apply,
    call,
    make_tenant,
    refused,
    select_tenant,
)

INSERT = (
    "insert into aos_skills.skill (tenant_id, name, builtin, grants)"
    " values (%s, 'planted', 'sql_query', %s)"
)
INJECTED = "select on shop.orders from public; alter role grants_dev superuser; revoke select"


def grant(schema: str, table: str, privilege: str = "select") -> list[dict[str, Any]]:
    return [{"schema": schema, "tables": [table], "privileges": [privilege]}]


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    made = make_tenant(kernel_database)
    login = kernel_database.person("grants_dev", "aos_developer")
    superuser = kernel_database.superuser
    apply(superuser, "aos_auth.apply_principal", made.id, "mallory", {
        "type": "user", "dbRole": login, "roles": ["developer"],
    })  # fmt: skip
    superuser.execute(
        "create schema shop; create table shop.orders (n int); create schema bare;"
        " grant usage on schema shop to grants_dev with grant option;"
        " grant create on schema shop to grants_dev;"
        " create schema payroll; create table payroll.salaries (n int)"
    )
    select_tenant(superuser, made.id)
    yield made
    select_tenant(superuser, None)
    superuser.execute("drop schema shop, payroll, bare cascade; alter role grants_dev nosuperuser")


@pytest.fixture
def mallory(tenant: Tenant) -> Connection:
    """A developer of the tenant, who owns shop.own and has no right on the other tables."""
    connection = tenant.database.connect("grants_dev", tenant.id)
    connection.execute("create table shop.own (n int)")
    return connection


def may_read(tenant: Tenant, table: str) -> bool:
    return bool(tenant.database.value(
        "select bool_or(has_table_privilege(i.db_role, %s, 'select')) from aos_auth.sql_identity i"
        " where i.tenant_id = %s", table, tenant.id,
    ))  # fmt: skip


def change(tenant: Tenant, tables: list[str], name: str = "lawful") -> None:
    """An administrator applies a skill that reads tables of the shop."""
    grants = [{"schema": "shop", "tables": tables, "privileges": ["select"]}]
    spec = {"builtin": "sql_query", "sql": {"grants": grants}}
    apply(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, name, spec)


def test_a_row_says_nothing_that_its_writer_may_not_grant(
    tenant: Tenant, mallory: Connection
) -> None:
    with refused("42501"):
        mallory.execute(INSERT, (tenant.id, Jsonb(grant("payroll", "salaries"))))
    mallory.execute(INSERT, (tenant.id, Jsonb(grant("shop", "own"))))
    assert may_read(tenant, "shop.own"), "the rights follow a row that she may write"
    with refused("42501"):
        mallory.execute(
            "update aos_skills.skill set grants = %s where name = 'planted'",
            (Jsonb(grant("payroll", "salaries")),),
        )
    change(tenant, ["orders"])
    change(tenant, [])
    assert may_read(tenant, "shop.own") and not may_read(tenant, "shop.orders")
    assert not may_read(tenant, "payroll.salaries")


def test_a_row_that_goes_takes_its_rights_along(tenant: Tenant, mallory: Connection) -> None:
    change(tenant, ["orders"])
    mallory.execute(INSERT, (tenant.id, Jsonb(grant("shop", "own"))))
    mallory.execute("update aos_skills.skill set grants = '[]' where name = 'planted'")
    assert not may_read(tenant, "shop.own")
    mallory.execute("delete from aos_skills.skill where name = 'planted'")
    with refused("42501"):
        mallory.execute("delete from aos_skills.skill where name = 'lawful'")
    tenant.database.superuser.execute("delete from aos_skills.skill where name = 'lawful'")
    assert not may_read(tenant, "shop.orders")


@pytest.mark.parametrize("schema", ["shop", "bare"])
def test_a_privilege_is_a_word_and_no_statement(
    tenant: Tenant, mallory: Connection, schema: str
) -> None:
    """An empty schema has no table whose grant would be refused: who may grant it may say so."""
    row = (tenant.id, Jsonb(grant(schema, "*", INJECTED)))
    superuser = tenant.database.superuser
    if schema == "shop":
        with refused("AO006", "cannot be granted"):
            mallory.execute(INSERT, row)
    else:
        with refused("AO004", "usage on all of schema bare"):
            mallory.execute(INSERT, row)
        superuser.execute("grant usage on schema bare to grants_dev with grant option")
        mallory.execute(INSERT, row)
        superuser.execute("create table bare.late (n int)")
        with superuser.transaction(force_rollback=True):
            call(superuser, "aos_skills.delete_skill", tenant.id, "planted")
        call(superuser, "aos_auth.erase_tenant", tenant.name, tenant.name)
    assert tenant.database.value("select not rolsuper from pg_roles where rolname = 'grants_dev'")


def test_an_old_row_is_not_run_either(tenant: Tenant, mallory: Connection) -> None:
    """One that an earlier kernel let in."""
    superuser = tenant.database.superuser
    guards = ("grants_follow", "grants_given")
    for name in guards:
        superuser.execute(f"alter table aos_skills.skill disable trigger {name}".encode())
    try:
        mallory.execute(INSERT, (tenant.id, Jsonb(grant("shop", "orders", INJECTED))))
    finally:
        for name in guards:
            superuser.execute(f"alter table aos_skills.skill enable trigger {name}".encode())
    change(tenant, [], "planted")
    call(superuser, "aos_skills.delete_skill", tenant.id, "planted")
    assert tenant.database.value("select not rolsuper from pg_roles where rolname = 'grants_dev'")


LONG = "orders_" + "x" * 56
"""63 bytes: PostgreSQL takes any longer name that begins like this for it."""


@pytest.mark.parametrize(
    ("made", "named", "privilege", "refusal"),
    [
        ("sequence shop.numbers", "numbers", "update", "AO001"),
        (f"table shop.{LONG} (n int)", f"{LONG}yz", "delete", "AO001"),
        ("table shop.notes (n int)", "notes", "select", "AO004"),
    ],
    ids=["a sequence", "a name that is cut", "what everybody may"],
)
def test_a_row_claims_no_right_that_an_upgrade_would_give_later(
    tenant: Tenant, mallory: Connection, made: str, named: str, privilege: str, refusal: str
) -> None:
    """PostgreSQL only warns who has some right on a table and grants one that is not theirs."""
    superuser, what = tenant.database.superuser, made.split()[1]
    superuser.execute(f"create {made}; grant select on {what} to public".encode())
    mallory.execute(INSERT, (tenant.id, Jsonb(grant("shop", "own"))))
    superuser.execute("revoke select on shop.own from public")
    claim = "update aos_skills.skill set grants = %s where name = 'planted'"
    with refused(refusal):
        mallory.execute(claim, (Jsonb(grant("shop", named, privilege)),))
    superuser.execute(f"revoke select on {what} from public".encode())  # noqa: S608 - ours
    select_tenant(superuser, None)
    give_declared(superuser)
    role = tenant.database.value("select aos_auth.sql_role(%s, 'planted')", tenant.id)
    held = (
        "select array_agg(table_name || ' ' || privilege) from aos_skills.held_rights(%s)"
        " where schema_name = 'shop'"
    )
    assert tenant.database.value(held, role) == ["own select"]
    superuser.execute(f"grant {privilege} on {what} to grants_dev with grant option".encode())
    if "sequence" not in made:
        mallory.execute(claim, (Jsonb(grant("shop", named[:63], privilege)),))
        assert tenant.database.value(held, role) == [f"{named[:63]} {privilege}"]


@pytest.mark.parametrize("by", ["who owns the table", "who may not grant"])
def test_a_right_that_is_taken_out_of_a_manifest_is_gone_or_the_change_is_refused(
    tenant: Tenant, mallory: Connection, by: str
) -> None:
    """REVOKE takes back what the revoker granted, and says nothing of what others did."""
    superuser = tenant.database.superuser
    superuser.execute("grant select on shop.orders to grants_dev with grant option;"
                      " create table shop.more (n int)")  # fmt: skip
    if by == "who owns the table":
        mallory.execute(INSERT, (tenant.id, Jsonb(grant("shop", "orders"))))
        keeps = 'keep select on shop.orders, which "grants_dev" granted'
        with refused("AO004", keeps):
            change(tenant, ["more"], "planted")
        with refused("AO004", keeps):
            column = [{**grant("shop", "orders")[0], "columns": ["n"]}]
            apply(superuser, "aos_skills.apply_skill", tenant.id, "planted", {
                "builtin": "sql_query", "sql": {"grants": column},
            })  # fmt: skip
        change(tenant, ["more", "orders"], "planted")  # what it keeps it may go on to name
        apply(superuser, "aos_skills.apply_skill", tenant.id, "planted", {"builtin": "sql_query"})
        change(tenant, ["more"], "planted")
    else:
        change(tenant, ["orders"], "planted")
        with refused("AO004", "keep select on shop.orders"):
            mallory.execute(
                "update aos_skills.skill set grants = %s where name = 'planted'",
                (Jsonb(grant("shop", "own")),),
            )  # fmt: skip
        change(tenant, ["more"], "planted")
    assert may_read(tenant, "shop.more") and not may_read(tenant, "shop.orders")


def test_a_schema_and_a_table_of_any_name(tenant: Tenant) -> None:
    superuser = tenant.database.superuser
    superuser.execute(
        'create schema "My shop"; create table "My shop"."a "".b" ("c, d" int, e int)'
    )
    try:
        for columns in ([], ["c, d"]):
            one = {"schema": "My shop", "tables": ['a ".b'], "privileges": ["select"]}
            apply(superuser, "aos_skills.apply_skill", tenant.id, "quoted", {
                "builtin": "sql_query", "sql": {"grants": [{**one, "columns": columns}]},
            })  # fmt: skip
            role = tenant.database.value("select aos_auth.sql_role(%s, 'quoted')", tenant.id)
            assert tenant.database.rows(
                "select has_schema_privilege(%s, 'My shop', 'usage'),"
                " has_column_privilege(%s, '\"My shop\".\"a \"\".b\"', 'c, d', 'select'),"
                " has_column_privilege(%s, '\"My shop\".\"a \"\".b\"', 'e', 'select')",
                role, role, role,
            ) == [(True, True, columns == [])]  # fmt: skip
    finally:
        superuser.execute('drop schema "My shop" cascade')


def test_a_skill_moves_to_no_other_tenant(tenant: Tenant) -> None:
    """Not by an administrator either: its rights are its tenant's, and so is its trail."""
    change(tenant, ["orders"])
    superuser, other = tenant.database.superuser, make_tenant(tenant.database)
    select_tenant(superuser, None)
    with refused("AO006", "keeps its name and its tenant"):
        superuser.execute(
            "update aos_skills.skill set tenant_id = %s where name = 'lawful'", (other.id,)
        )
    superuser.execute("update aos_skills.skill set tenant_id = tenant_id where name = 'lawful'")
    assert may_read(tenant, "shop.orders") and not may_read(other, "shop.orders")
