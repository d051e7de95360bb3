"""What a SQL skill admits: one statement of a few kinds, whatever hides in quotes and comments."""

from __future__ import annotations

import pytest

from kernels import Tenant
from shop import items, query, run

pytestmark = pytest.mark.usefixtures("orders")

NO_STATEMENT_FOR_A_SKILL = [
    "set role aos_owner",
    "reset all",
    "do $$ begin delete from shop.orders; end $$",
    "copy shop.orders to stdout",
    "copy shop.orders to program 'id'",
    "explain analyze delete from shop.orders",
    "begin",
    "commit",
    "rollback",
    "savepoint x",
    "prepare transaction 'x'",
    "prepare x as delete from shop.orders",
    "execute x",
    "declare c cursor with hold for select 1",
    "lock table shop.orders",
    "listen aos_run",
    "notify aos_work",
    "vacuum",
    "create table shop.mine (a int)",
    "create temp table mine (a int)",
    "drop table shop.orders",
    "alter table shop.orders disable row level security",
    "grant select on shop.secret to public",
    "truncate shop.orders",
    "call shop.nothing()",
    "discard all",
    "security label on table shop.orders is 'x'",
    "",
    ";",
    "   -- only a comment",
    "/* only a comment */",
    "1",
    "'select 1'",
    '"select" 1',
    "\\copy orders to 'x'",
    "selec 1",
    "/* a */ -- b\n set role aos_owner",
    "/* /* nested */ select 1; */ drop table shop.orders",
    "(((set role aos_owner)))",
]
SEVERAL_STATEMENTS = [
    "select 1; select 2",
    "select 1;delete from shop.orders",
    "select 1; /* c */ -- d\n; delete from shop.orders",
    "delete from shop.orders; commit",
    "select ';'; delete from shop.orders",
    'select 1 as "a;"; delete from shop.orders',
    "select $$;$$; delete from shop.orders",
    "select $a$ $b$ ; $a$; delete from shop.orders",
    "select 1 as a$b; select 2 as c$b",
    "select E'\\';'; delete from shop.orders",
    "select 'a\\'; delete from shop.orders; --'",
    "select e'a'';'; delete from shop.orders --'",
    "select U&'\\003B'; delete from shop.orders",
    "select /* ; */ 1; delete from shop.orders",
    "select 1 -- ;\n; delete from shop.orders",
]
NEVER_ENDING = [
    "select 'abc",
    'select "abc',
    "select $$abc",
    "select $x$ abc $y$",
    "select 1 /* abc",
    "select /* /* */ 1",
    "select E'abc\\'",
]


@pytest.mark.parametrize("skill", ["sql_query", "sql_execute"])
@pytest.mark.parametrize(
    "statement", [*NO_STATEMENT_FOR_A_SKILL, *SEVERAL_STATEMENTS, *NEVER_ENDING]
)
def test_what_is_no_single_statement_of_the_admitted_kinds_is_refused(
    owner: Tenant, statement: str, skill: str
) -> None:
    said = run(owner, statement, skill)
    assert not said["ok"]
    assert said["result"]["sqlstate"] in ("AO011", "42601"), said
    if said["result"]["sqlstate"] == "AO011":
        assert said["result"]["hint"]
    assert items(owner) == [(1, "pen"), (2, "ink"), (3, "pad")]


ODD_BUT_FINE = {
    "select ';'": ";",
    "select 'it''s; fine';": "it's; fine",
    "select $$;$$ ;; ": ";",
    "select $tag$ ; $$ $tag$": " ; $$ ",
    "select E'\\';'": "';",
    "/* a */ select 1 /* b */ ; -- c": 1,
    "-- a\nselect 2": 2,
    "/* /* nested */ */ select 3": 3,
    "(select 4)": 4,
    "values (5)": 5,
    "SELECT 6;": 6,
    "with x as (select 7 as n) select n from x": 7,
    "select a$b from (select 8 as a$b) x": 8,
    "select 9 -- ; drop": 9,
    "select '/* no comment */'": "/* no comment */",
    "select '-- no comment'": "-- no comment",
    'select "a;b" from (select 10 as "a;b") x': 10,
    "select 'a\\'": "a\\",
    "select 11--x": 11,
    "select 4/2": 2,
    "select 3*4": 12,
    "\n\t select\n13\n": 13,
    "select 'x' 'y'": None,
    "select 1 as \"é\"": 1,
}  # fmt: skip


@pytest.mark.parametrize("statement", ODD_BUT_FINE)
def test_semicolons_quotes_and_comments_in_odd_places_are_fine(
    owner: Tenant, statement: str
) -> None:
    said = query(owner, statement)
    if ODD_BUT_FINE[statement] is None:
        assert not said["ok"]
    else:
        assert said["ok"], said
        assert said["result"]["rows"] == [[ODD_BUT_FINE[statement]]]


@pytest.mark.parametrize("begins", ["select ", "SELECT ", "select\n", "sElEcT ", "\tselect "])
@pytest.mark.parametrize("ends", ["", " ", "\n", "\t", "\r", "\f", ";", " ; ;"])
def test_what_stands_around_a_statement_is_left_out_however_it_begins(
    owner: Tenant, begins: str, ends: str
) -> None:
    """The usual ones are admitted by another, cheaper look."""
    admitted = "select aos_core.single_statement(%s, true)"
    assert owner.database.value(admitted, f"{begins}'x'{ends}") == f"{begins}'x'".lstrip()
    assert not query(owner, f"{begins}'{'x' * 100000}'{ends}")["ok"]


def test_many_tokens_are_read_in_time(owner: Tenant) -> None:
    owner.worker.execute("set statement_timeout = '10s'")
    try:
        said = query(owner, "select 1 where " + "(" * 3000 + "true" + ")" * 3000)
        assert said["result"].get("sqlstate") != "57014"
        for long in (
            "select 1 --" + ";" * 90000,
            "select " + "$$;$$ || " * 9000 + "1",
            "select $x$" + "$" * 90000 + ";$x$",
            "select $" + "x" * 40000 + "$;$" + "x" * 40000 + "$",
            "select " + "/*;*/" * 18000 + "1",
        ):
            began = owner.database.value("select clock_timestamp()")
            query(owner, long)
            took = owner.database.value("select clock_timestamp() - %s", began)
            assert took.total_seconds() < 8, long[:20]
    finally:
        owner.worker.execute("reset statement_timeout")
