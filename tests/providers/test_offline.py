"""The offline model: it looks things up, runs typed SQL, and never pretends to be a model."""

from __future__ import annotations

import json

import pytest

from aosctl.messages import Call, Message, Text, Usage, tool_result, user
from aosctl.providers.base import Finished, ModelRequest, ModelSpec, ToolSpec
from aosctl.providers.offline import NOTICE, OfflineProvider
from aosctl.providers.offline_answers import ROWS_SHOWN
from aosctl.providers.passages import best_part, terms
from aosctl.providers.typed_sql import typed_sql

SPEC = ModelSpec("offline", "offline", "offline")
ALL = (
    "sql_query", "sql_execute", "rag_search", "memory_store", "memory_recall", "web_search",
)  # fmt: skip
SAID = Message("assistant", (Text("earlier"),))


def reply(*messages: Message, tools: tuple[str, ...] = ALL) -> Message:
    specs = tuple(ToolSpec(name, "", {}) for name in tools)
    *_, last = OfflineProvider().stream(ModelRequest(SPEC, "", messages, specs))
    assert isinstance(last, Finished)
    return last.message


def call_for(text: str, tools: tuple[str, ...] = ALL) -> Call | None:
    calls = reply(user(text), tools=tools).calls
    return calls[0] if calls else None


def told(text: str, value: object, *, ok: bool = True, tools: tuple[str, ...] = ALL) -> str:
    """Ask, answer the call with `value`, and return what is said, the notice aside."""
    asked = reply(user(text), tools=tools)
    result = tool_result(asked.calls[0], value, ok=ok)  # type: ignore[arg-type]
    return reply(SAID, user(text), asked, result, tools=tools).text


# SQL that a person types.


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("select 1", "query"),
        ("select 1 as one", "query"),
        ("select 1, 2", "query"),
        ("select current_date as today, 2 b", "query"),
        ("select distinct null where false", "query"),
        ("select 1 union select -2.5", "query"),
        ("SELECT current_user", "query"),
        ("  \n-- the orders\n/* all */ select * from shop.orders;", "query"),
        ("select count(*) from shop.orders where note = 'why?'", "query"),
        ("(select 1) union (select 2)", "query"),
        ("select pg_sleep(1) ;", "query"),
        ("values (1), (2)", "query"),
        ("table shop.orders", "query"),
        ("table shop.orders order by 1;", "query"),
        ("with x as (select 1) select * from x", "query"),
        ("with recursive x(n) as (select 1) table x", "query"),
        ("with x as (select 'delete from y') select ' (delete ' from x -- (delete", "query"),
        ("```sql\nselect a\n  from b\n```", "query"),
        ("insert into shop.orders values (1)", "execute"),
        ("update shop.orders set total = 0", "execute"),
        ("update only shop.orders as o set total = 0", "execute"),
        ('update "Shop"."My orders" set total = 0', "execute"),
        ("DELETE FROM shop.orders WHERE id = 3;", "execute"),
        ("merge into a using b on true when matched then delete", "execute"),
        ("with gone as (delete from a returning *) select * from gone", "execute"),
        ("with x as materialized (select 1) insert into y select * from x", "execute"),
        ("with x as (select 1) update y set a = 1", "execute"),
        ("drop table shop.orders;", "refused"),
        ("create table t (a int)", "refused"),
        ("explain analyze select * from a", "refused"),
        ("explain (analyze, buffers) delete from a", "refused"),
        ("show search_path", "refused"),
        ("truncate shop.orders;", "refused"),
    ],
)
def test_a_typed_statement_is_known_for_what_it_does(text: str, kind: str) -> None:
    statement = typed_sql(text)
    assert statement is not None
    assert statement.kind == kind


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "Which index should I use?",
        "Select the best index for me",
        "select 3 indexes that I can drop",
        "select 1 of these, the best",
        "select true friends as reviewers",
        "select a good index type from the documents, which one is it?",
        "With pgvector, how do I index embeddings?",
        "values of work_mem",
        "Update statistics after a bulk load?",
        "update me on vacuum",
        "insert performance",
        "delete duplicate rows: how?",
        "merge join or hash join",
        "Explain delete versus truncate",
        "explain analyze output to me",
        "explain vacuum",
        "show me how to write a CTE",
        "create index concurrently: what can fail?",
        "drop me a line",
        "selection of an index",
        "What does `select 1;` do?",
    ],
)
def test_prose_that_begins_like_sql_stays_prose(text: str) -> None:
    assert typed_sql(text) is None


def test_a_statement_is_called_as_it_was_typed() -> None:
    query = call_for("select 'x|y'\nfrom shop.orders; ")
    assert query is not None
    assert (query.name, query.args) == ("sql_query", {"query": "select 'x|y'\nfrom shop.orders;"})
    change = call_for("delete from shop.orders")
    assert change is not None
    assert (change.name, change.args) == ("sql_execute", {"statement": "delete from shop.orders"})


def test_a_skill_of_another_name_is_used_for_what_it_is_built_on() -> None:
    tool = ToolSpec("shop_reader", "", {}, builtin="sql_query")
    request = ModelRequest(SPEC, "", (user("select 1"),), (tool,))
    *_, last = OfflineProvider().stream(request)
    assert isinstance(last, Finished)
    assert last.message.calls[0].name == "shop_reader"


@pytest.mark.parametrize(
    ("text", "skill"),
    [("select 1", "sql_query"), ("delete from a", "sql_execute"), ("recall x", "memory_recall")],
)
def test_a_missing_skill_is_named_with_what_is_there(text: str, skill: str) -> None:
    message = reply(SAID, user(text), tools=("rag_search",))
    assert not message.calls
    assert f"it lacks the skill {skill}" in message.text
    assert "- ask a question" in message.text


def test_a_statement_that_no_skill_admits_is_not_called() -> None:
    message = reply(SAID, user("drop table shop.orders;"))
    assert not message.calls
    assert message.text.startswith("The SQL skills don't admit `drop`")


def test_without_skills_it_says_so() -> None:
    assert "no skill that I can use" in reply(SAID, user("hello"), tools=()).text


# Rows.


def test_rows_become_a_table() -> None:
    value = {
        "columns": ["name", "total", "note"],
        "rows": [["Ann", 12.5, None], ["a|b\nc", -3, {"k": [1]}]],
        "row_count": 2,
        "truncated": False,
    }
    assert told("table t", value) == (
        "| name | total | note |\n"
        "| --- | ---: | --- |\n"
        "| Ann | 12.5 | NULL |\n"
        '| a\\|b c | -3 | {"k": [1]} |\n'
        "\n"
        "(2 rows)"
    )


def test_many_rows_are_capped_and_long_cells_cut() -> None:
    rows = [[i, "x" * 500] for i in range(80)]
    value = {"columns": ["n", "t"], "rows": rows, "row_count": 80, "truncated": False}
    text = told("table t", value)
    assert text.endswith(f"({ROWS_SHOWN} of 80 rows shown)")
    assert len(text.split("\n")) == ROWS_SHOWN + 4
    assert max(map(len, text.split("\n"))) < 100


@pytest.mark.parametrize(
    ("value", "line"),
    [
        ({"columns": [], "rows": [], "row_count": 0, "truncated": False}, "(0 rows)"),
        ({"columns": ["n"], "rows": [[1]], "row_count": 1, "truncated": False}, "(1 row)"),
        (
            {"columns": ["n"], "rows": [[1]], "row_count": 2, "truncated": True},
            "(1 of 2 or more rows shown)",
        ),
    ],
)
def test_the_number_of_rows_is_told(value: object, line: str) -> None:
    assert told("table t", value).split("\n")[-1] == line


@pytest.mark.parametrize(
    "value",
    [{"affected": 1}, {"columns": [], "rows": [], "row_count": 1, "truncated": False}],
)
def test_a_change_tells_how_many_rows(value: object) -> None:
    assert told("delete from a", value) == "Done: 1 row affected."


def test_returned_rows_of_a_change_are_shown() -> None:
    value = {"affected": 2, "columns": ["id"], "rows": [[7], [8]]}
    assert told("delete from a returning id", value) == (
        "Done: 2 rows affected.\n\n| id |\n| ---: |\n| 7 |\n| 8 |"
    )


def test_an_error_is_told_with_its_hint() -> None:
    value = {"error": 'relation "t" does not exist', "hint": "see the schema"}
    assert told("table t", value, ok=False) == (
        'sql_query did not work: relation "t" does not exist\n\nHint: see the schema'
    )


def test_a_question_taken_for_sql_says_how_to_ask() -> None:
    text = told("select an index from these", {"error": 'syntax error at or near "x"'}, ok=False)
    assert "begin it with another word" in text


@pytest.mark.parametrize(
    "value",
    [
        {"error": "awaiting approval: a person has not decided yet; the outcome will follow"},
        {"status": "awaiting_approval"},
    ],
)
def test_a_pending_approval_names_the_command(value: object) -> None:
    assert "`aosctl approve`" in told("delete from a", value, ok=False)


def test_a_denial_is_told_with_its_reason() -> None:
    text = told("delete from a", {"error": "denied by eve: not today"}, ok=False)
    assert text == "The statement was not run: denied by eve: not today"


@pytest.mark.parametrize(
    ("outcome", "parts"),
    [
        (
            'sql_execute was approved and has run: {"rows": [], "columns": [], "row_count": 3}',
            ["sql_execute was approved and has run.", "Done: 3 rows affected."],
        ),
        (
            'sql_execute was approved and has run: {"error": "violates foreign key"}',
            ["The statement was not run: violates foreign key"],
        ),
        ("sql_execute was denied: too {risky}", ["sql_execute was denied: too {risky}"]),
    ],
)
def test_the_late_outcome_of_an_approval_is_summed_up(outcome: str, parts: list[str]) -> None:
    message = reply(SAID, user(f"[approval] {outcome}"))
    assert not message.calls
    assert message.text.startswith("About the call that waited for approval: ")
    assert all(part in message.text for part in parts)


# Documents.

HITS = {
    "hits": [
        {
            "title": "Vacuum",
            "source": "vacuum.md",
            "collection": "pg",
            "text": "VACUUM reclaims dead rows.\nIt does not lock the table.",
            "rank": 0.9,
        },
        {
            "title": "Bloat",
            "source": None,
            "collection": "pg",
            "text": ("Filler about nothing much. " * 30)
            + "Dead rows make bloat, vacuum often. End.",
            "rank": 0.5,
        },
        {"title": "Vacuum", "source": "vacuum.md", "text": "Autovacuum does it.", "rank": 0.4},
        {"title": "Cooking", "source": "soup.md", "text": "Add salt.", "rank": 0.1},
    ]
}


def test_a_question_is_looked_up_as_it_was_asked() -> None:
    call = call_for(" What does vacuum do? ")
    assert call is not None
    assert (call.name, call.args) == ("rag_search", {"query": "What does vacuum do?"})
    assert json.loads(call.args_raw) == call.args


def test_the_query_of_a_huge_message_is_cut() -> None:
    call = call_for("word " * 100_000)
    assert call is not None
    assert len(str((call.args or {})["query"])) == 1000


def test_the_best_passages_are_quoted_with_numbered_sources() -> None:
    text = told("How does vacuum treat dead rows?", HITS)
    assert text.startswith(
        "From this agent's documents:\n\n> VACUUM reclaims dead rows.\n> It does"
    )
    assert "not lock the table. [1]\n" in text
    assert "Dead rows make bloat, vacuum often. End. [2]" in text
    assert "Autovacuum does it. [1]" in text
    assert "salt" not in text
    assert text.endswith("Sources:  \n[1] Vacuum (vacuum.md)  \n[2] Bloat (pg)")


def test_nothing_found_is_said_with_what_it_can_do() -> None:
    text = told("How do I cook soup?", {"hits": []})
    assert text.startswith("I found nothing about that in this agent's documents.")
    assert "- type a SELECT" in text


def test_a_passage_is_quoted_word_for_word_and_cut_at_sentences() -> None:
    text = "First one is long. " * 40 + "The tuple is dead. " + "Last one is long. " * 40
    part = best_part(text, terms("dead tuples"), 100)
    assert "The tuple is dead." in part
    assert part.startswith("… ")
    assert part.endswith(" …")
    assert part.strip("… ") in text
    assert len(part) <= 104


def test_a_passage_with_no_sentence_end_is_cut() -> None:
    assert len(best_part("x" * 5000, terms("y"))) < 500


# Memory.


@pytest.mark.parametrize(
    ("text", "name", "args"),
    [
        ("remember port = 5432", "memory_store", {"key": "port", "value": "5432"}),
        ("Remember that host = a = b", "memory_store", {"key": "host", "value": "a = b"}),
        (
            "remember that Ann owns the shop schema",
            "memory_store",
            {"key": "ann-owns-the-shop-schema", "value": "Ann owns the shop schema"},
        ),
        ("recall port", "memory_recall", {"key": "port"}),
        ("recall the port number", "memory_recall", {"query": "the port number"}),
        ("What do you remember about Ann?", "memory_recall", {"key": "Ann"}),
        ("recall", "memory_recall", {}),
    ],
)
def test_memory_is_stored_and_recalled(text: str, name: str, args: dict[str, str]) -> None:
    call = call_for(text)
    assert call is not None
    assert (call.name, call.args) == (name, args)


def test_memories_are_listed() -> None:
    entries = [{"key": "port", "value": 5432, "at": "x"}, {"key": "who", "value": "Ann"}]
    assert told("recall", {"entries": entries}) == "I remember:\n\n- port: 5432\n- who: Ann"
    assert told("recall x", {"entries": []}) == "I remember nothing about that."
    assert told("remember a = b", {"stored": "a"}) == "Remembered."


# What it says of itself.


def test_the_first_answer_of_a_conversation_says_that_this_is_no_model() -> None:
    asked = reply(user("select 1"))
    assert asked.text == ""
    value = {"columns": ["n"], "rows": [[1]], "row_count": 1}
    first = reply(user("select 1"), asked, tool_result(asked.calls[0], value))
    assert first.text.startswith(NOTICE)
    assert "no language model" in NOTICE
    assert "export OPENAI_API_KEY=" in NOTICE
    second = reply(user("select 1"), asked, tool_result(asked.calls[0], value), first, user("x"))
    assert NOTICE not in second.text


def test_it_costs_nothing_and_says_the_same_again() -> None:
    one, two = reply(user("hello"), tools=()), reply(user("hello"), tools=())
    assert one == two
    assert one.usage == Usage()


def test_an_unknown_tools_result_is_shown_as_it_is() -> None:
    call = Call("c", "weather", "{}", {})
    asked = Message("assistant", (call,))
    text = reply(SAID, user("hi"), asked, tool_result(call, {"sky": "blue"})).text
    assert text == 'weather answered:\n\n```json\n{\n  "sky": "blue"\n}\n```'
