"""What was approved is what is done: each attack between the look and the run asks again."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from kernels import Asked, KernelDatabase, Tenant, call, let_change, make_tenant

MARKET = """
create schema market;
create table market.items (id integer primary key, item text, price numeric);
create table market.rates (id integer primary key, rate numeric);
create table market.chosen (id integer);
create table market.plain (id integer, price numeric);
create table market.stamped (id integer primary key, word text, at timestamptz);
create table market.made (id integer generated always as identity primary key, word text,
  token uuid default gen_random_uuid(), at timestamptz default now());
create function market.stamp() returns trigger language plpgsql
  as $$ begin new.at := clock_timestamp(); return new; end $$;
create trigger stamp before insert or update on market.stamped for each row
  execute function market.stamp();
create sequence market.calls;
create table market.pause (at bigint);
create function market.pause() returns boolean language plpgsql security definer
  set search_path = pg_catalog, pg_temp
  as $$ begin
    if nextval('market.calls') = (select at from market.pause) then
      perform pg_advisory_xact_lock(4242);
    end if;
    return true;
  end $$;
"""
ROWS = """
insert into market.items values (1, 'pen', 1.50), (2, 'ink', 2), (3, 'pad', 3);
insert into market.rates values (1, 10), (2, 20);
insert into market.chosen values (1);
insert into market.plain values (1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 6), (7, 7);
insert into market.stamped values (1, 'one'), (2, 'two');
"""
ALL = ["select", "insert", "update", "delete"]
GRANTS = [
    {"schema": "market", "tables": ["items", "plain", "stamped", "made"], "privileges": ALL},
    {"schema": "market", "tables": ["rates", "chosen"], "privileges": ["select"]},
]
TABLES = ("items", "rates", "chosen", "plain", "stamped", "made", "pause")


@pytest.fixture(scope="module")
def market(kernel_database: KernelDatabase) -> Tenant:
    """A tenant whose agent may change a market, if a person approves."""
    kernel_database.superuser.execute(MARKET.encode())
    tenant = make_tenant(kernel_database)
    let_change(tenant, "market", GRANTS)
    return tenant


@pytest.fixture(autouse=True)
def filled(kernel_database: KernelDatabase, market: Tenant) -> None:
    tables = ", ".join(f"market.{table}" for table in TABLES)
    kernel_database.superuser.execute(f"truncate {tables} restart identity; {ROWS}".encode())


def asked_and_shown(tenant: Tenant, statement: str) -> tuple[Asked, dict[str, Any]]:
    """Let the model ask and the worker look, as often as the kernel wants."""
    asked = tenant.asked("sql_execute", {"statement": statement}, "clerk")
    return asked, tenant.preview(asked.call)


def approved(tenant: Tenant, statement: str) -> tuple[Asked, dict[str, Any]]:
    asked, shown = asked_and_shown(tenant, statement)
    tenant.decide(asked.call, "approved")
    return asked, shown


def run(tenant: Tenant, asked: Asked) -> dict[str, Any]:
    return dict(tenant.execute(asked.call, tenant.claim(run=asked.run)))


def rows_of(tenant: Tenant) -> dict[str, list[Any]]:
    return {
        table: tenant.database.rows(f"select t::text from market.{table} t order by 1")  # noqa: S608
        for table in TABLES
    }


def question(tenant: Tenant, asked: Asked) -> tuple[str, dict[str, Any]]:
    """Return the reason and the preview of what waits now."""
    approval, state = tenant.approval(asked.call)
    assert state == "pending"
    reason, preview = tenant.database.rows(
        "select reason, preview from aos_core.approval_status where approval_id = %s", approval
    )[0]
    return str(reason), dict(preview)


BY_RATE = "update items set price = (select rate from rates where rates.id = 1) where id = 1"
WRITES = "what it writes is not what was approved"
CONTENTS = "not as they were when it was approved"
# name: statement, what another session commits between the look and the run, what is said. Each
# leaves the number of rows that the statement changes as it was.
ATTACKS = {
    "a price that it copies": (BY_RATE, "update market.rates set rate = 1000000", WRITES),
    "a price that it multiplies": (
        "update items set price = price * 2 where id = 1",
        "update market.items set price = 1000 where id = 1", CONTENTS),
    "a price that it inserts": (
        "insert into items select 7, 'x', rate from rates where id = 1",
        "update market.rates set rate = 1000000", WRITES),
    "another column of the row": (
        "update items set price = 7 where id = 1",
        "update market.items set item = 'gold' where id = 1", CONTENTS),
    "another row": (
        "update items set price = 7 where id = (select id from chosen)",
        "update market.chosen set id = 2", CONTENTS),
    "another row to delete": (
        "delete from items where id = (select id from chosen)",
        "update market.chosen set id = 2", CONTENTS),
    "another key to insert": (
        "insert into items select id + 100, 'x', 1 from chosen",
        "update market.chosen set id = 2", WRITES),
    "the same values in other rows": (
        "insert into items select id + 100, 'x', rate from rates",
        "update market.rates set rate = 30 - rate", WRITES),
    "a row of a table without a key": (
        "update plain set price = 70 where id = (select id from chosen)",
        "update market.chosen set id = 2", None),
    "what an upsert writes": (
        "insert into items select 1, 'x', rate from rates where id = 1"
        " on conflict (id) do update set price = excluded.price",
        "update market.rates set rate = 1000000", WRITES),
    "what a column of a stamped row gets": (
        "update stamped set word = (select rate::text from rates where rates.id = 1) where id = 1",
        "update market.rates set rate = 1000000", WRITES),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_what_changed_between_the_look_and_the_run_is_asked_again(
    market: Tenant, name: str
) -> None:
    statement, meanwhile, said = ATTACKS[name]
    asked, shown = approved(market, statement)
    market.database.superuser.execute(meanwhile.encode())
    before = rows_of(market)
    answer = run(market, asked)
    assert (answer["status"], answer["next"]) == ("awaiting_approval", "wait")
    assert rows_of(market) == before
    reason, now = question(market, asked)
    assert reason.startswith(said) if said == WRITES else (said or "") in reason
    assert now["counts"] == shown["counts"] and now["rows"] != shown["rows"]
    market.decide(asked.call, "approved")
    assert run(market, asked)["ok"] and rows_of(market) != before
    assert market.approval(asked.call)[1] == "consumed" and market.faults(asked.run) == []


@pytest.mark.parametrize("name", ATTACKS)
def test_without_an_attack_it_runs_at_once(market: Tenant, name: str) -> None:
    statement, _, _ = ATTACKS[name]
    asked, _ = approved(market, statement)
    market.database.superuser.execute("update market.items set item = 'other' where id = 3")
    assert run(market, asked)["ok"]
    assert market.approval(asked.call)[1] == "consumed"


def test_the_reason_names_the_columns(market: Tenant) -> None:
    asked, _ = approved(market, BY_RATE)
    market.database.superuser.execute("update market.rates set rate = 11")
    run(market, asked)
    assert question(market, asked)[0] == f'{WRITES}: "price"'


# statement: the columns that differ each time
VOLATILE = {
    "update stamped set word = 'x' where id = 1": ["at"],
    "update stamped set word = random()::text": ["at", "word"],
    "insert into made (word) values ('a'), ('b')": ["at", "id", "token"],
    "insert into plain values (8, extract(epoch from now()))": ["price"],
    "delete from items where id = 1": None,
    "update items set price = 7": None,
}


@pytest.mark.parametrize("statement", VOLATILE)
def test_what_differs_each_time_does_not_ask_again(market: Tenant, statement: str) -> None:
    asked, shown = approved(market, statement)
    assert shown.get("varies") == VOLATILE[statement]
    assert run(market, asked)["ok"]


def test_a_column_that_comes_out_otherwise_twice_is_not_compared_any_more(market: Tenant) -> None:
    """As one that holds the second: two looks after one another find it the same."""
    asked, _ = approved(market, BY_RATE)
    for rate, varies in ((11, None), (12, ["price"])):
        market.database.superuser.execute(b"update market.rates set rate = %d" % rate)
        assert run(market, asked)["status"] == "awaiting_approval"
        assert question(market, asked)[1].get("varies") == varies
        again = call(market.worker, "aos_agent.claim_preview", market.id, asked.call)
        assert again is None  # it was made, and what it knows of the columns is not to be lost
        market.decide(asked.call, "approved")
    market.database.superuser.execute("update market.rates set rate = 13")
    assert run(market, asked)["ok"]


def test_one_look_is_no_preview_yet(market: Tenant) -> None:
    asked = market.asked("sql_execute", {"statement": BY_RATE}, "clerk")
    claimed = call(market.worker, "aos_agent.claim_preview", market.id, asked.call)
    made = call(market.worker, "aos_agent.preview_call", market.id, asked.call, claimed["lease"])
    assert made["again"] and "preview" not in made
    status = "select preview, previewing from aos_core.approval_status where approval_id = %s"
    assert market.database.rows(status, market.approval(asked.call)[0]) == [(None, True)]
    market.decide(asked.call, "approved")
    assert run(market, asked)["ok"]  # as any approval that has no preview


def test_looks_that_find_other_rows_each_time_end_with_counts(market: Tenant) -> None:
    asked = market.asked("sql_execute", {"statement": BY_RATE}, "clerk")
    claimed = call(market.worker, "aos_agent.claim_preview", market.id, asked.call)
    for look in range(3):
        made = call(
            market.worker, "aos_agent.preview_call", market.id, asked.call, claimed["lease"]
        )
        assert made.get("again", False) == (look < 2)
        market.database.superuser.execute("update market.items set price = price + 1 where id = 1")
    assert made["preview"]["varies"] == ["id", "item", "price"]


RESULTS = [
    "update items set price = 7 where id = 1",
    'update items set price = 7 returning id, item, \'x\' as "odd ""name", price',
    "update plain set price = 7 returning *",  # more than the five rows that are shown
    "delete from plain where id < 3 returning id",
    "insert into items values (9, 'new', null) returning item, price",
    "insert into items values (1, 'pen', 2) on conflict (id) do update set price = 3"
    " returning price",
    "update items set price = 7 where false returning id",
]


@pytest.mark.parametrize("statement", RESULTS)
def test_the_model_reads_the_same_as_without_a_preview(market: Tenant, statement: str) -> None:
    asked, _ = approved(market, statement)
    seen = run(market, asked)["result"]
    admin = market.database.superuser
    admin.execute(f"truncate {', '.join(f'market.{t}' for t in TABLES)}; {ROWS}".encode())
    bare = market.asked("sql_execute", {"statement": statement}, "clerk")
    market.decide(bare.call, "approved")
    assert run(market, bare)["result"] == seen
    assert seen["truncated"] == ("plain set" in statement)


PAUSED = "update items set price = {price} where id = 1 and market.pause()"


def pause_before_the_last(market: Tenant, price: str) -> Asked:
    """Approve an update that stops in its last execution, the one that stays."""
    value = market.database.value
    first, _ = approved(market, PAUSED.format(price=price))
    looked = value("select last_value from market.calls")
    assert run(market, first)["ok"]
    runs = value("select last_value from market.calls") - looked
    market.database.superuser.execute("update market.items set price = 1.50 where id = 1")
    asked, _ = approved(market, PAUSED.format(price=price))
    at = value("select last_value from market.calls") + runs
    market.database.superuser.execute(b"insert into market.pause values (%d)" % at)
    return asked


def wait_for_lock(market: Tenant, running: Future[Any]) -> None:
    waits = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
    while market.database.value(waits) == 0:
        assert not running.done()


@pytest.mark.parametrize("price", ["7", "price * 2"])
def test_nobody_gets_in_between_the_last_look_and_the_commit(market: Tenant, price: str) -> None:
    asked = pause_before_the_last(market, price)
    other = market.database.connect("aos_superuser")
    other.execute("set lock_timeout = '200ms'")
    lease = market.claim(run=asked.run)
    with ThreadPoolExecutor(1) as pool:
        with other.transaction():
            other.execute("select pg_advisory_xact_lock(4242)")
            running = pool.submit(market.execute, asked.call, lease)
            wait_for_lock(market, running)
            try:
                with market.database.connect("aos_superuser") as third:
                    third.execute("set lock_timeout = '200ms'")
                    third.execute("update market.items set price = 99 where id = 1")
                got_in = True
            except psycopg.errors.LockNotAvailable:
                got_in = False
        done = running.result(20)
    assert got_in == (market.database.superuser.info.server_version >= 180000)
    now = str(market.database.value("select price from market.items where id = 1"))
    if got_in:  # its change is seen in the row before, and stays
        assert (done["status"], now) == ("awaiting_approval", "99")
        assert CONTENTS in question(market, asked)[0]
    else:  # the row was locked before it was read
        assert done["ok"] and float(now) == {"7": 7, "price * 2": 3}[price]
