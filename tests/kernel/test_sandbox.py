"""SQL skills: one statement, its rows and its effect, capped, and no trace when it fails."""

from __future__ import annotations

from typing import Any

import pytest

from kernels import Tenant, apply
from shop import ask_for, items, query, run

pytestmark = pytest.mark.usefixtures("orders")


def test_a_query_returns_the_rows_of_its_own_tenant(owner: Tenant, other: Tenant) -> None:
    said = query(owner, "select id, item from orders order by id")
    assert said["ok"] and said["result"] == {
        "columns": ["id", "item"],
        "rows": [[1, "pen"], [2, "ink"], [3, "pad"]],
        "row_count": 3,
        "truncated": False,
    }
    assert query(other, "select item from orders")["result"]["rows"] == [["theirs"]]


def test_values_keep_their_types_and_names(owner: Tenant) -> None:
    said = query(
        owner,
        "select 1 as a, 1.5 as a, null as b, true as c, '{\"x\": [1]}'::jsonb as d, 'ü' as \"q;\"",
    )
    assert said["result"]["rows"] == [[1, 1.5, None, True, {"x": [1]}, "ü"]]
    assert said["result"]["columns"] == ["a", "a", "b", "c", "d", "q;"]


def test_an_empty_result_is_empty(owner: Tenant) -> None:
    said = query(owner, "select id from orders where false")
    assert said["ok"] and (said["result"]["rows"], said["result"]["row_count"]) == ([], 0)


# Each cell is short as type json or float8 prints it, and long in the result that is kept.
PADDED = """select ('{"a":' || repeat(' ', 5000) || '1}')::json as j, 1 as n"""
LONG = {
    "json": "select ('[' || repeat('1e1000,', {n}) || '0]')::json as j",
    "json, later rows": "select case n when 1 then '0' else '[' || repeat('1E1000,', {n}) || '0]'"
    ' end::json as j, \'x\' as "j""" from generate_series(1, 2) n',
    "json with white space": "select ('[' || repeat('1e1000 ,', {n}) || '0 ]')::json as j",
    "json in an array": "select array_fill(('[' || repeat('1e1000,', {n}) || '0]')::json, '{{1}}')",
    "float8": "select array_fill(1e300::float8, array[3 * {n} + 1]) as f",
    "float8, later rows": "select array_fill(1e300::float8, array[case n when 1 then 1 else"
    " 3 * {n} + 1 end]) as f from generate_series(1, 2) n",
}


@pytest.mark.parametrize("statement", LONG.values(), ids=LONG)
def test_numbers_count_as_long_as_they_become(owner: Tenant, statement: str) -> None:
    """An exponent of four signs is a thousand digits to whoever reads the result."""
    for repeated, fits in ((1, True), (2, False)):
        said = query(owner, statement.format(n=repeated))
        kept = owner.database.value(
            "select octet_length(message::text) from aos_core.step"
            " where role = 'tool' order by created_at desc limit 1"
        )
        assert said["result"]["truncated"] is not fits
        assert kept <= 2000 + 300
        assert fits is bool(said["result"]["rows"]) or "case n" in statement


def test_the_white_space_of_a_json_column_does_not_count(owner: Tenant) -> None:
    said = query(owner, PADDED + " from generate_series(1, 3)")
    assert said["result"]["rows"] == [[{"a": 1}, 1]] * 3
    assert said["result"]["truncated"] is False
    said = query(owner, "select '  two  blanks  ' as t, '5e10' as u, 1 as t from orders")
    assert said["result"]["rows"] == [["  two  blanks  ", "5e10", 1]] * 3


EFFECTS = {
    "insert into orders (id, item) values (7, 'cup')": (
        [], 1, [(1, "pen"), (2, "ink"), (3, "pad"), (7, "cup")]),
    "insert into orders (id, item) values (7, 'cup') returning id, item": (
        [[7, "cup"]], 1, [(1, "pen"), (2, "ink"), (3, "pad"), (7, "cup")]),
    "update orders set item = upper(item)": ([], 3, [(1, "PEN"), (2, "INK"), (3, "PAD")]),
    "update orders set item = 'x' where id = 1 returning item": (
        [["x"]], 1, [(1, "x"), (2, "ink"), (3, "pad")]),
    "delete from orders where id > 1; -- all but the first": ([], 2, [(1, "pen")]),
    "delete from orders": ([], 3, []),
    "delete from orders using lines where false": ([], 0, [(1, "pen"), (2, "ink"), (3, "pad")]),
    "with gone as (delete from orders where id = 1 returning *) insert into orders (id, item)"
    " select id + 10, item from gone": ([], 1, [(2, "ink"), (3, "pad"), (11, "pen")]),
    "with gone as (delete from orders returning id) select count(*) from gone": ([[3]], 1, []),
    "insert into orders (id, item) values (1, 'new') on conflict (tenant_id, id)"
    " do update set item = excluded.item": ([], 1, [(1, "new"), (2, "ink"), (3, "pad")]),
    "/* first */ delete from orders where item = 'it''s; -- not a comment' or id = 2 /* last":
        None,
    "delete from orders where id = 2 -- no newline at the end": ([], 1, [(1, "pen"), (3, "pad")]),
}  # fmt: skip


@pytest.mark.parametrize("statement", EFFECTS)
def test_a_statement_that_changes_rows_is_counted(owner: Tenant, statement: str) -> None:
    expected = EFFECTS[statement]
    said = run(owner, statement)
    if expected is None:
        assert not said["ok"]
        return
    rows, count, left = expected
    assert said["ok"], said
    assert (said["result"]["rows"], said["result"]["row_count"]) == (rows, count)
    assert items(owner) == left


def test_merge_runs_where_it_can_return_rows_and_else_says_what_to_write(owner: Tenant) -> None:
    version = owner.database.superuser.info.server_version
    said = run(
        owner,
        "merge into orders o using (values (1, 'm')) v (id, item) on o.id = v.id"
        " when matched then update set item = v.item",
    )
    if version >= 170000:
        assert said["ok"] and said["result"]["row_count"] == 1
        assert items(owner)[0] == (1, "m")
    else:
        assert not said["ok"] and said["result"]["error"]
        assert items(owner)[0] == (1, "pen")


def test_rows_and_bytes_are_capped(owner: Tenant) -> None:
    result = query(owner, "select generate_series(1, 1000) as n")["result"]
    assert result["rows"] == [[1], [2], [3], [4], [5]]
    assert (result["truncated"], result["row_count"]) == (True, 5)
    result = query(owner, "select repeat('x', 900) from generate_series(1, 5)")["result"]
    assert len(result["rows"]) == 2
    assert (result["truncated"], result["row_count"]) == (True, 2)
    exact = query(owner, "select generate_series(1, 5) as n")["result"]
    assert (exact["truncated"], exact["row_count"]) == (False, 5)


def test_a_capped_change_still_changes_and_counts_every_row(owner: Tenant) -> None:
    result = run(
        owner,
        "insert into orders (id, item) select n, 'x' from generate_series(10, 29) n returning id",
    )["result"]
    assert len(result["rows"]) == 5
    assert (result["truncated"], result["row_count"]) == (True, 20)
    assert len(items(owner)) == 23


def test_a_statement_that_takes_too_long_is_a_result(owner: Tenant) -> None:
    owner.worker.execute("set statement_timeout = 300")
    try:
        said = query(owner, "select pg_sleep(20)")
        assert not said["ok"] and said["result"]["sqlstate"] == "57014"
        said = run(owner, "with x as (delete from orders) select pg_sleep(20)")
        assert not said["ok"] and len(items(owner)) == 3
    finally:
        owner.worker.execute("reset statement_timeout")
    assert query(owner, "select 1")["ok"]


FAILURES = {
    "select nothing from nowhere": "42P01",
    "select 1 / 0": "22012",
    "insert into orders (id, item) values (9, 'first'), (1, 'again')": "23505",
    "insert into orders (id, item) values (9, 'nothing')": "23514",
    "with x as (insert into orders (id, item) values (9, 'lost') returning id) select 1 / 0 from x":
        "22012",
    "insert into lines values (1), (1)": "23505",  # checked at the commit, were it left to that
    "select item into copied from orders": "42P11",
    "select": None,
    "select no_such_function()": "42883",
    "delete from orders returning": "42601",
}  # fmt: skip


@pytest.mark.parametrize("statement", FAILURES)
def test_a_failing_statement_is_a_readable_result_and_leaves_no_effect(
    owner: Tenant, statement: str
) -> None:
    said = run(owner, statement)
    expected = FAILURES[statement]
    if expected is None:
        assert said["ok"]
        return
    assert not said["ok"] and said["result"]["error"]
    assert said["result"]["sqlstate"] in (expected, "42601", "0A000")
    assert items(owner) == [(1, "pen"), (2, "ink"), (3, "pad")]
    assert owner.database.value("select count(*) from shop.lines") == 0


def test_a_long_statement_runs_and_one_that_is_too_long_is_refused(owner: Tenant) -> None:
    said = query(owner, "select " + " + ".join(["1"] * 1000))
    assert said["result"]["rows"] == [[1000]]
    said = query(owner, "select length('" + "x;" * 40000 + "')")
    assert said["result"]["rows"] == [[80000]]
    said = query(owner, "select '" + "x" * 100000 + "'")
    assert not said["ok"] and "longer than 100000 bytes" in said["result"]["error"]


def test_effect_step_approval_and_event_are_one_commit(owner: Tenant) -> None:
    asked = ask_for(owner, "delete from orders where id = 1")
    owner.execute(asked.call, asked.lease)
    rows = owner.database.rows(
        "select s.xmin::text, c.xmin::text, r.xmin::text, e.xmin::text from aos_core.run r"
        " join aos_core.tool_call c using (run_id)"
        " join aos_core.step s on s.run_id = r.run_id and s.seq = c.result_seq"
        " join aos_core.event_log e on e.stream_id = r.run_id and e.seq = r.last_seq"
        " where r.run_id = %s",
        asked.run,
    )
    assert len(rows) == 1 and len(set(rows[0])) == 1


def test_memory_and_search_run_in_the_kernel_too(owner: Tenant, other: Tenant) -> None:
    apply(owner.database.superuser, "aos_rag.apply_collection", owner.id, "notes", {
        "documents": [
            {"title": "Joins", "source": "a", "text": "A hash join builds a table of one side."},
            {"title": "Vacuum", "source": "b", "text": "Vacuum removes dead rows."},
        ],
    })  # fmt: skip
    apply(owner.database.superuser, "aos_agent.apply_agent", owner.id, "reader", {
        "persona": "expert", "collections": ["notes"],
    })  # fmt: skip

    def use(tenant: Tenant, skill: str, args: dict[str, Any], agent: str = "bot") -> Any:
        asked = tenant.asked(skill, args, agent)
        return tenant.execute(asked.call, asked.lease)

    hits = use(owner, "rag_search", {"query": "how does a hash join work?"}, "reader")
    assert [hit["title"] for hit in hits["result"]["hits"]] == ["Joins"]
    assert use(owner, "rag_search", {"query": "hash join"})["result"]["hits"] == []  # not its own
    assert use(owner, "rag_search", {"query": "the a of"}, "reader")["result"]["hits"] == []
    assert use(owner, "memory_store", {"key": "colour", "value": {"a": 1}})["ok"]
    assert use(owner, "memory_store", {"key": "colour", "value": "red"})["ok"]
    found = use(owner, "memory_recall", {"query": "RED"})["result"]["entries"]
    assert [(entry["key"], entry["value"]) for entry in found] == [("colour", "red")]
    assert use(owner, "memory_recall", {}, "reader")["result"]["entries"] == []
    assert use(other, "memory_recall", {"key": "colour"})["result"]["entries"] == []
    long = use(owner, "memory_store", {"key": "k" * 201, "value": 1})
    assert not long["ok"] and "200" in long["result"]["error"]
