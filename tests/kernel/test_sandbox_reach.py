"""What a SQL skill reaches: the granted rows of its own tenant, under a lease that lives."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from psycopg import sql

from kernels import SCHEMAS, KernelDatabase, Tenant, call, make_tenant, refused
from shop import ask_for, items, query, run

pytestmark = pytest.mark.usefixtures("orders")
Clock = Callable[[str], None]


READ_ONLY = [
    "insert into orders (id, item) values (9, 'x')",
    "with x as (delete from orders returning 1) select * from x",
    "select shop.add_order()",
    "with x as materialized (select set_config('transaction_read_only', 'off', true) as c)"
    " select shop.add_order() from x",
    "select set_config('transaction_read_only', 'off', false), shop.add_order()",
    "select set_config('default_transaction_read_only', 'off', false), shop.add_order()",
    "select set_config('transaction_read_only', null, false), shop.add_order()",  # RESET
    "select set_config('transaction_read_only', null, true), shop.add_order(),"
    " set_config('transaction_read_only', 'on', true)",
    "select nextval('no_such'), shop.add_order()",
    "select * from orders for update",
]


@pytest.mark.parametrize("statement", READ_ONLY)
def test_a_reading_skill_cannot_write_not_even_through_a_function(
    owner: Tenant, statement: str
) -> None:
    assert not query(owner, statement)["ok"]
    assert items(owner) == [(1, "pen"), (2, "ink"), (3, "pad")]


def test_a_writing_skill_may_call_that_function(owner: Tenant) -> None:
    assert run(owner, "select shop.add_order()")["result"]["rows"] == [[99]]
    assert items(owner)[-1] == (99, "sneaked")


OTHERS_ROWS = [
    "select * from orders where tenant_id <> aos_auth.tenant_of(current_user)",
    "update orders set item = 'mine' where item = 'theirs' returning id",
    "delete from orders where id = 4 returning id",
    "select aos_auth.tenant_of(rolname) from pg_roles where rolname <> current_user"
    " and aos_auth.tenant_of(rolname) is not null",
    "select tenant_id from aos_auth.sql_identity where db_role <> current_user",
    "with x as materialized (select set_config('aos.kernel_tenant', '{other}', false),"
    " set_config('aos.tenant_id', '{other}', false)) select o.* from x, orders o where o.id = 4",
]


@pytest.mark.parametrize("statement", OTHERS_ROWS)
def test_rows_of_another_tenant_are_out_of_reach(
    owner: Tenant, other: Tenant, statement: str
) -> None:
    said = run(owner, statement.format(other=other.id))
    assert not said["ok"] or said["result"]["rows"] == []
    assert items(other) == [(4, "theirs")]
    assert owner.faults(owner.id) == []


def test_a_view_of_the_docs_keeps_a_materialized_view_to_its_tenant(
    owner: Tenant, other: Tenant
) -> None:
    database = owner.database
    database.superuser.execute(
        "create materialized view shop.sums as"
        " select tenant_id, count(*) as n from shop.orders group by 1;"
        " create view shop.my_sums with (security_barrier) as select * from shop.sums"
        " where tenant_id = (select aos_auth.tenant_of(current_user))"
    )
    try:
        role = database.value("select aos_auth.sql_role(%s, 'sql_query')", owner.id)
        grant = "grant select on shop.sums, shop.my_sums to {}"
        database.superuser.execute(sql.SQL(grant).format(sql.Identifier(role)))
        assert query(owner, "select tenant_id, n from sums order by n")["result"]["rows"] == [
            [str(other.id), 1], [str(owner.id), 3],
        ]  # fmt: skip
        assert query(owner, "select tenant_id, n from my_sums")["result"]["rows"] == [
            [str(owner.id), 3]
        ]
    finally:
        database.superuser.execute("drop materialized view shop.sums cascade")


def test_a_row_cannot_be_given_to_another_tenant(owner: Tenant, other: Tenant) -> None:
    for statement in (
        "insert into orders (tenant_id, id, item) values ('{}', 9, 'gift')",
        "update orders set tenant_id = '{}' where id = 1",
    ):
        said = run(owner, statement.format(other.id))
        assert not said["ok"] and said["result"]["sqlstate"] == "42501"
    assert items(other) == [(4, "theirs")]


def test_what_is_not_granted_is_out_of_reach(owner: Tenant) -> None:
    for statement in (
        "select * from shop.secret",
        "select amount from wages",
        "select * from wages",
        "insert into wages values ('x', 1, 'y')",
        "select set_config('role', 'aos_owner', true)",
        "select pg_read_file('/etc/passwd')",
        "select * from pg_authid",
    ):
        said = run(owner, statement)
        assert not said["ok"] and said["result"]["sqlstate"] in ("42501", "42P01", "22023"), said
    assert query(owner, "select name, note from wages")["ok"]


def test_every_table_of_the_kernel_is_out_of_reach(
    kernel_database: KernelDatabase, owner: Tenant
) -> None:
    names = kernel_database.rows(
        "select n.nspname || '.' || c.relname from pg_class c"
        " join pg_namespace n on n.oid = c.relnamespace where c.relkind in ('r', 'p', 'v')"
        " and n.nspname = any (%s) order by 1",
        list(SCHEMAS),
    )
    asked = owner.start_run("clerk")
    assert asked and len(names) > 40
    for (name,) in names:
        for statement in (f"select * from {name}", f"delete from {name}"):  # noqa: S608 - our own
            said = run(owner, statement)
            assert not said["ok"], (statement, said)
            assert said["result"]["sqlstate"] in ("42501", "55000"), (statement, said)


def test_a_lease_that_was_lost_meanwhile_takes_the_effect_back(
    kernel_database: KernelDatabase, owner: Tenant, clock: Clock
) -> None:
    asked = ask_for(owner, "update orders set item = 'late' where id = 1")
    ended: list[Any] = []

    def late() -> None:
        try:
            ended.append(owner.execute(asked.call, asked.lease))
        except psycopg.Error as error:
            ended.append(error.sqlstate)

    blocker = kernel_database.connect("aos_superuser")
    thread = threading.Thread(target=late)
    with blocker.transaction():
        blocker.execute("select from shop.orders where id = 1 for update")
        thread.start()
        wait_until_blocked(kernel_database)
        clock("61 seconds")
        second = kernel_database.connect("aos_worker")
        lease = call(second, "aos_agent.claim_turn", owner.id, "w2", 60, asked.run)
        assert lease["calls"][0]["call_id"] == str(asked.call)
    thread.join(20)
    assert ended == ["AO003"]
    assert items(owner)[0] == (1, "pen")
    done = call(second, "aos_agent.execute_sql_call", owner.id, asked.call, lease["lease"])
    assert done["ok"] and items(owner)[0] == (1, "late")
    assert owner.faults(asked.run) == []


def wait_until_blocked(database: KernelDatabase) -> None:
    for _ in range(2000):
        if database.value(
            "select true from pg_locks where not granted and locktype in ('transactionid', 'tuple')"
        ):
            return
        database.value("select pg_sleep(0.005)")
    raise AssertionError("nobody waits for the lock")


def test_a_session_with_an_open_cursor_runs_no_skill(owner: Tenant) -> None:
    asked = ask_for(owner, "select 1", "sql_query")
    owner.worker.execute("declare c cursor with hold for select 1")
    with refused("AO004", "cursor"):
        owner.execute(asked.call, asked.lease)
    owner.worker.execute("close all")
    assert owner.execute(asked.call, asked.lease)["ok"]


@pytest.mark.parametrize(
    "change",
    [
        "alter function aos_sandbox.{} owner to aos_superuser",
        "alter function aos_sandbox.{} security invoker",
        "create or replace function aos_sandbox.{}(p_query text, p_read_only boolean, p_max_rows"
        " integer, p_max_bytes integer, p_search_path text) returns jsonb language plpgsql"
        " security definer as 'begin return null; end'",
        "drop function aos_sandbox.{}",
    ],
)
@pytest.mark.parametrize("known", [True, False])
def test_a_changed_sandbox_function_is_not_called(
    kernel_database: KernelDatabase, owner: Tenant, change: str, known: bool
) -> None:
    """Whether the kernel knows the catalog's row of the function, or only the digest."""
    asked = ask_for(owner, "select 1", "sql_query")
    identity = kernel_database.value("select aos_auth.sql_role(%s, 'sql_query')", owner.id)
    superuser = kernel_database.superuser
    with superuser.transaction(force_rollback=True):
        if not known:
            superuser.execute(FORGOTTEN, (identity,))
        superuser.execute(sql.SQL(change).format(sql.Identifier(identity)))  # type: ignore[arg-type]
        with refused("AO004", "sandbox"):
            call(
                superuser, "aos_agent.execute_sql_call", owner.id, asked.call, asked.lease["lease"]
            )
    assert owner.execute(asked.call, asked.lease)["ok"]


@pytest.mark.parametrize(
    "arguments",
    ["", "text, boolean, integer, integer, name", "text, boolean, bigint, bigint, text",
     "text, text, integer, integer, text", "text, boolean, numeric, numeric, varchar",
     "anyelement, boolean, integer, integer, text",
     "text, boolean, integer, integer, variadic text[]"],
)  # fmt: skip
def test_a_second_function_of_the_name_is_not_the_one_that_is_called(
    kernel_database: KernelDatabase, owner: Tenant, arguments: str
) -> None:
    """The kernel's call has the very types of the one that was made: no other fits better."""
    asked = ask_for(owner, "select 1 as one", "sql_query")
    identity = kernel_database.value("select aos_auth.sql_role(%s, 'sql_query')", owner.id)
    superuser = kernel_database.superuser
    second = sql.SQL("function aos_sandbox.{}(" + arguments + ")")  # type: ignore[arg-type]
    name = second.format(sql.Identifier(identity))
    superuser.execute(sql.SQL("create {} returns jsonb").format(name) + SECOND)
    try:
        done = owner.execute(asked.call, asked.lease)
    finally:
        superuser.execute(sql.SQL("drop {}").format(name))
    assert done["ok"] and done["result"]["rows"] == [[1]]


SECOND = sql.SQL(""" language plpgsql as 'begin return jsonb ''"second"''; end'""")
FORGOTTEN = (
    "update aos_auth.sql_identity set function_xmin = null, function_ctid = null where db_role = %s"
)
KNOWN = """select bool_and(p.xmin = i.function_xmin and p.ctid = i.function_ctid)
from aos_auth.sql_identity i left join pg_proc p on p.proname = i.db_role where i.tenant_id = %s"""


def test_the_catalogs_row_tells_that_a_sandbox_function_is_the_one_that_was_made(
    kernel_database: KernelDatabase, owner: Tenant
) -> None:
    """Any change makes it another row, one of the transaction that made the function too."""
    assert kernel_database.value(KNOWN, owner.id) is True
    identity = kernel_database.value("select aos_auth.sql_role(%s, 'sql_query')", owner.id)
    superuser = kernel_database.superuser
    with superuser.transaction(force_rollback=True):
        superuser.execute(
            "update aos_auth.sql_identity set (db_role, function_digest) ="
            " ('aos_sql_00000000000000fd', aos_auth.provision_sql_role('aos_sql_00000000000000fd'))"
            " where db_role = %s", (identity,),
        )  # fmt: skip
        superuser.execute(
            "update aos_auth.sql_identity i set (function_xmin, function_ctid) = (select p.xmin,"
            " p.ctid from pg_proc p where p.proname = i.db_role) where i.tenant_id = %s",
            (owner.id,),
        )
        assert superuser.execute(KNOWN.encode(), (owner.id,)).fetchone() == (True,)
        superuser.execute("alter function aos_sandbox.aos_sql_00000000000000fd cost 99")
        assert superuser.execute(KNOWN.encode(), (owner.id,)).fetchone() == (False,)


def test_a_sandbox_function_whose_row_moved_is_known_by_its_digest(
    kernel_database: KernelDatabase, owner: Tenant
) -> None:
    asked = ask_for(owner, "select 1", "sql_query")
    identity = kernel_database.value("select aos_auth.sql_role(%s, 'sql_query')", owner.id)
    kernel_database.superuser.execute(FORGOTTEN, (identity,))
    assert owner.execute(asked.call, asked.lease)["ok"]


def test_the_sandbox_is_reached_through_the_kernel_only(
    kernel_database: KernelDatabase, owner: Tenant
) -> None:
    identity = kernel_database.value("select aos_auth.sql_role(%s, 'sql_query')", owner.id)
    statement = sql.SQL("select aos_sandbox.{}('select 1', true, 1, 1000, 'public')").format(
        sql.Identifier(identity)
    )
    for connection in (owner.person, owner.worker):
        with refused("42501"):
            connection.execute(statement)


def test_a_skill_without_grants_reaches_no_business_table(kernel_database: KernelDatabase) -> None:
    tenant = make_tenant(kernel_database)
    asked = tenant.asked("sql_query", {"query": "select * from shop.orders"})
    said = tenant.execute(asked.call, asked.lease)
    assert not said["ok"] and said["result"]["sqlstate"] == "42501"
