"""What a skill's row says of tables and what its SQL may touch are one, whoever wrote the row."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from psycopg.types.json import Jsonb

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
