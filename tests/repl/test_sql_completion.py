"""What the prompt for SQL offers, and where a statement ends; `|` marks the cursor."""

from __future__ import annotations

import pytest

from aosctl.repl.sql_completion import Catalog, Table, offers
from aosctl.repl.sql_lexer import is_whole, statements, tokens

CATALOG = Catalog(
    tables=(
        Table("shop", "orders", ("order_id", "customer_id", "Total")),
        Table("shop", "customer", ("customer_id", "name", "city")),
        Table("shop", "Odd Name", ("from", "x")),
        Table("aos_core", "run_status", ("run_id", "name", "agent"), is_view=True),
        Table("pg_catalog", "pg_class", ("oid", "relname")),
        Table("information_schema", "tables", ("table_name",)),
    ),
    functions=(
        ("shop", "order_total"),
        ("aos_auth", "my_tenants"),
        ("pg_catalog", "now"),
        ("pg_catalog", "lower"),
        ("pg_catalog", "pg_sleep"),
    ),
    schemas=("aos_auth", "aos_core", "information_schema", "pg_catalog", "shop"),
    path=("shop", "pg_catalog"),
)
SHOP = ["orders", "customer", '"Odd Name"']
ORDERS = ["order_id", "customer_id", '"Total"']


def offered(marked: str) -> list[str]:
    cursor = marked.index("|")
    return [one.text for one in offers(marked.replace("|", "", 1), cursor, CATALOG)]


@pytest.mark.parametrize(
    ("marked", "first"),
    [
        # where a statement begins
        ("|", ["select", "insert into", "update"]),
        ("sel|", ["select"]),
        ("  -- why\n SEL|", ["SELECT"]),
        ("select 1; up|", ["update"]),
        ("explain |", ["select", "analyze"]),
        ("EXPLAIN |", ["SELECT", "ANALYZE"]),
        # tables, after the words that take them
        ("select * from |", SHOP),
        ("select * from orders, |", SHOP),
        ("select * from orders o join |", SHOP),
        ("select * from orders o left join cu|", ["customer"]),
        ("update |", SHOP),
        ("insert into |", SHOP),
        ("delete from o|", ["orders"]),
        ("truncate |", SHOP),
        ("drop table |", SHOP),
        ("table |", SHOP),
        ("SELECT * FROM cu|", ["customer"]),
        ("SELECT * FROM CU|", ["CUSTOMER"]),
        ("select * from run|", ["aos_core.run_status"]),
        ("select * from aos_core.|", ["run_status"]),
        ("select * from aos_auth.|", ["my_tenants"]),
        ("select * from pg_cl|", ["pg_class"]),
        ('select * from "O|', ['"orders"', '"Odd Name"']),
        ("select * from inf|", ["information_schema"]),
        ("select * from stat|", ["aos_core.run_status"]),  # after an underscore
        # what follows a table
        ("select * from orders |", ["join", "left join"]),
        ("select * from orders wh|", ["where", "when"]),
        ("update orders |", ["set"]),
        ("insert into orders |", ["values", "select"]),
        ("select * from orders o join customer c |", ["on", "using"]),
        # columns of what is in scope
        ("select | from orders", ORDERS),
        ("select o.| from orders o", ORDERS),
        ("select orders.| from orders", ORDERS),
        ("select o.c| from orders as o", ["customer_id"]),
        ("select * from orders where |", ORDERS),
        ("select * from orders where order_id = 1 and c|", ["customer_id"]),
        ("select * from orders order by |", ORDERS),
        ("select * from orders group by |", ORDERS),
        ("select count(|) from orders", ORDERS),
        ("select * from orders o join customer c on o.|", ORDERS),
        ("select * from orders o join customer c on o.customer_id = c.cu|", ["customer_id"]),
        ("select na| from orders o, customer c", ["name"]),
        ("update orders set |", ORDERS),
        ("update orders set order_id = 1 where cu|", ["customer_id"]),
        ("delete from customer where n|", ["name"]),
        ("delete from customer where x = 1 returning n|", ["name"]),
        ("insert into orders (|", ORDERS),
        ("insert into orders (order_id, |", ORDERS),
        ("select r.ag| from aos_core.run_status r", ["agent"]),
        ("select aos_core.run_status.a| from aos_core.run_status", ["agent"]),
        ("select run_status.a| from aos_core.run_status", ["agent"]),
        ('select | from "Odd Name"', ['"from"', "x"]),
        ("select SHOP.ORDERS.o| from shop.orders", ["order_id"]),
        ("select 1; select ci| from customer; select x from orders", ["city"]),
        ("select \"T| from orders", ['"Total"']),
        # sub-queries and WITH
        ("select * from orders where customer_id in (select na| from customer)", ["name"]),
        ("select * from orders where customer_id in (select orde| from customer)", ["order_id"]),
        ("select * from (select name, city as town from customer) s where s.|", ["name", "town"]),
        ("with x as (select name, city as town from customer) select | from x", ["name", "town"]),
        ("with x (a, b) as (values (1, 2)) select x.| from x", ["a", "b"]),
        ("with x as (select name from customer) select * from |", ["x", *SHOP]),
        ("with x as (select na| from customer) select * from x", ["name"]),
        ("with x as (select 1 as one), y as (select on| from x) select 1", ["one"]),
        ("select * from orders o where exists (select | from customer c)",
         ["customer_id", "name", "city", "order_id"]),
        # functions, types, schemas
        ("select ord| ", ["order_id", "order_total"]),
        ("select lo|", ["lower"]),
        ("select now()::ti|", ["time", "timestamp", "timestamptz"]),
        ("call |", ["order_total"]),
        ("create schema |", ["aos_auth", "aos_core"]),
        ("select * from customer where city = 'x' a|", ["and", "as"]),
        ("select name | from customer", ["and", "or", "from", "as"]),
        ("select count(*) | from customer", ["and", "or", "from", "as"]),
        ("select * from customer WHERE city = 'x' O|", ["OR", "ORDER BY"]),
    ],
)  # fmt: skip
def test_the_likeliest_come_first(marked: str, first: list[str]) -> None:
    assert offered(marked)[: len(first)] == first


@pytest.mark.parametrize(
    "marked",
    [
        "select 'from |", "select '|' from orders", "select E'a\\' |", "-- select |", "/* a |",
        "select $$ from |", "select $x$ $$ |", "select 1|", "select 1.5|", 'select "order_id"|',
        "select nothing.| from orders",
    ],
)  # fmt: skip
def test_nothing_is_offered_within_text_comments_and_numbers(marked: str) -> None:
    assert offered(marked) == []


def test_what_stands_elsewhere_is_not_offered() -> None:
    assert "name" not in offered("select | from orders")
    assert "order_id" not in offered("insert into customer (|")
    assert "pg_sleep" not in offered("select | from orders"), "PostgreSQL's own wait for a letter"
    assert "pg_sleep" in offered("select pg_sl| from orders")
    assert "tables" not in offered("select * from tab|")
    assert not {"select", "SELECT"} & set(offered("select * from s|"))


def test_an_offer_replaces_what_is_typed_and_says_what_it_is() -> None:
    (one, *_) = offers("select na from customer", 9, CATALOG)
    assert one == ("name", 2, "column")
    (one, *_) = offers('select * from "Od', 17, CATALOG)
    assert one == ('"Odd Name"', 3, "table")
    (one, *_) = offers("select * from aos_core.", 23, CATALOG)
    assert one == ("run_status", 0, "view")


def test_no_text_brings_it_down() -> None:
    hostile = [
        'select "', "from from from", "with x as (", ")))(((", "select . . .", "\0", "'", "$$",
        "insert into (", "with recursive", "select * from a.b.c.d.", "éà ñ ", "::", "update set",
        "select * from (select * from (select ", "-", "with a as (select 1), b", "/*", "--",
    ]  # fmt: skip
    for text in hostile:
        for cursor in range(len(text) + 1):
            offers(text, cursor, CATALOG)
            assert "".join(token.text for token in tokens(text)) == text


@pytest.mark.parametrize(
    ("text", "done", "left"),
    [
        ("", [], ""),
        ("select 1", [], "select 1"),
        ("select 1; select 2;", ["select 1", "select 2"], ""),
        (";;select 1;; -- over\n", ["select 1"], ""),
        ("select ';' ; $$;$$", ["select ';'"], "$$;$$"),
        ("select $a$ ; $b$ ; $a$; x", ["select $a$ ; $b$ ; $a$"], "x"),
        ("a /* ; /* ; */ ; */ b; c", ["a /* ; /* ; */ ; */ b"], "c"),
        ("select \";\", E'\\';', 1; x", ["select \";\", E'\\';', 1"], "x"),
        ("create rule r as on insert to t do (select 1; select 2); x",
         ["create rule r as on insert to t do (select 1; select 2)"], "x"),
        ("create function f() begin atomic select case when a then 1 end; end; x",
         ["create function f() begin atomic select case when a then 1 end; end"], "x"),
        ("begin; select 1;", ["begin", "select 1"], ""),
    ],
)  # fmt: skip
def test_statements_end_at_their_semicolons(text: str, done: list[str], left: str) -> None:
    assert statements(text) == (done, left)


def test_a_statement_is_whole_with_its_semicolon_and_its_quotes() -> None:
    assert is_whole("select 1; -- over")
    assert is_whole("select 'a;b';")
    for text in ("select 1", "select ';", 'select ";', "select $$;", "select 1; select 2", "/* ;"):
        assert not is_whole(text), text
