"""Skills that say themselves what they do: a statement with parameters, a function of the database.

An argument is a value, whatever stands in it; nobody's arguments reach a parameter that the
manifest does not name; and what the model may not do with SQL of its own, it may not do here.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from kernels import KernelDatabase, Tenant, apply, call, make_tenant, refused

DESK = """
create schema desk;
create table desk.orders (id int primary key, item text, tags text[], note jsonb, total numeric);
insert into desk.orders values
  (1, 'pen', '{red,"a b"}', '{"k": 1}', 1.5), (2, 'o''ink', '{}', null, 20),
  (3, 'c:\\x', null, null, -3);
create table desk.secrets (word text);
insert into desk.secrets values ('canary');
create function desk.refund(order_id int, amount numeric default 1, force boolean default false)
  returns table (id int, total numeric) language sql security definer
  set search_path = pg_catalog, pg_temp as
  'update desk.orders o set total = o.total - $2 - case when $3 then 1000 else 0 end
   where o.id = $1 returning o.id, o.total';
create function desk.total_of(order_id int) returns numeric stable language sql security definer
  set search_path = pg_catalog, pg_temp as 'select o.total from desk.orders o where o.id = $1';
create function desk.twice(a int) returns int language sql as 'select 2 * $1';
create function desk.twice(a text) returns text language sql as 'select $1 || $1';
create function desk.closed(a int) returns int language sql as 'select $1';
revoke execute on function desk.closed(int) from public;
"""
READ_ORDERS = {"schema": "desk", "tables": ["orders"], "privileges": ["select"]}
WRITE_ORDERS = {"schema": "desk", "tables": ["orders"], "privileges": ["select", "update"]}


def object_of(**properties: str | dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {
            name: {"type": said} if isinstance(said, str) else said
            for name, said in properties.items()
        },
        "additionalProperties": False,
    }


def spec(**given: Any) -> dict[str, Any]:
    return {
        "description": "x", "effect": "read", "risk": "low", "touches": ["sensitive"],
        "approval": "never", "input": object_of(), **given,
    }  # fmt: skip


def own(tenant: Tenant, name: str, **given: Any) -> str:
    """Apply a skill, and give it to the agent that bears its name."""
    said = apply(
        tenant.database.superuser, "aos_skills.apply_skill", tenant.id, name, spec(**given)
    )
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, f"with.{name}", {
        "persona": "expert", "skills": [name],
    })  # fmt: skip
    return said


def statement(text: str, *grants: dict[str, Any]) -> dict[str, Any]:
    return {"statement": text, "grants": list(grants) or [READ_ORDERS]}


def run(tenant: Tenant, name: str, **args: Any) -> dict[str, Any]:
    """Let the skill's agent call it, as the worker carries it out."""
    asked = tenant.asked(name, args, f"with.{name}")
    if asked.answer["next"] != "calls":
        state, message = tenant.call_state(asked.call), tenant.transcript(asked.run)[-1][1]
        return {"ok": False, "result": {"state": state, **json.loads(message)}}
    said: dict[str, Any] = tenant.execute(asked.call, asked.lease)
    return said


@pytest.fixture(scope="module")
def desk(kernel_database: KernelDatabase) -> Tenant:
    kernel_database.superuser.execute(DESK.encode())
    return make_tenant(kernel_database, "desk")


HOSTILE = [
    "1", "'", "''", "\\", "\\'", "'; drop table desk.orders; --", "$$", "$1", ":id", "/*", "--",
    "') union select word from desk.secrets --", "E'\\x27'", "a\nb", "\u2028", "%s", "${x}", ";",
    '"', "null", "\\u0027", "U&'\\0027'",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_is_a_value_wherever_it_stands(desk: Tenant, text: str) -> None:
    own(desk, "echo", sql=statement("select :said as said, :said::text || '' as again, 'é:said'"),
        input=object_of(said="string"))  # fmt: skip
    said = run(desk, "echo", said=text)
    assert said["ok"], said
    assert said["result"]["rows"] == [[text, text, "é:said"]]


@pytest.mark.parametrize(
    ("text", "properties", "args", "rows"),
    [
        ("select item from desk.orders where id = :id", {"id": "integer"}, {"id": 1}, [["pen"]]),
        ("select :n + 1", {"n": "number"}, {"n": -1.5}, [[-0.5]]),
        ("select 1 - :n", {"n": "number"}, {"n": -1}, [[2]]),
        ("select :b is true", {"b": "boolean"}, {"b": True}, [[True]]),
        ("select :absent is null", {"absent": "string"}, {}, [[True]]),
        ("select coalesce(:x, 'none')", {"x": {"type": ["string", "null"]}}, {"x": None},
         [["none"]]),
        ("select id from desk.orders where id = any (:ids) order by 1", {"ids": "array"},
         {"ids": [3, 1]}, [[1], [3]]),
        ("select tags = :tags from desk.orders where id = 1", {"tags": "array"},
         {"tags": ["red", "a b"]}, [[True]]),
        ("select :tags::text[]", {"tags": "array"}, {"tags": ['a"b', "c,d", "{", "", "\\"]},
         [[['a"b', "c,d", "{", "", "\\"]]]),
        ("select note @> :note from desk.orders where id = 1", {"note": "object"},
         {"note": {"k": 1}}, [[True]]),
        ("select (array[1,2,3])[1: :n]", {"n": "integer"}, {"n": 2}, [[[1, 2]]]),
        ("select ':id', \":id\", E'\\':id', $x$ :id $x$, 1 /* :id */"
         " from (select 2) t(\":id\") -- :id", {}, {}, [[":id", 2, "':id", " :id ", 1]]),
        ("with o as (select id from desk.orders) select count(*) from o", {}, {}, [[3]]),
    ],
)  # fmt: skip
def test_arguments_stand_in_the_statement_as_values(
    desk: Tenant, text: str, properties: Any, args: Any, rows: Any
) -> None:
    own(desk, "shape", sql=statement(text), input=object_of(**properties))
    said = run(desk, "shape", **args)
    assert said["ok"], said
    assert said["result"]["rows"] == rows


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sql": statement("select :id")}, "its statement has :id, which is not in its input"),
        ({"sql": statement("select 1; select 2")}, "only one statement at a time"),
        ({"sql": statement("drop table desk.orders")}, "must begin with select"),
        ({"sql": statement("update desk.orders set id = id")}, "this skill only reads"),
        ({"sql": statement("select 'x")}, "a quote in the statement does not end"),
        ({"sql": statement("select $a$ x $b$")}, "a dollar quote in the statement does not end"),
        ({"sql": statement("select 1 /* /* */ */")}, "a comment in the statement does not end"),
        ({"builtin": "sql_query", "sql": statement("select 1")}, "several things: sql, builtin"),
        ({}, "does nothing"),
        ({"function": {"name": "refund"}}, "named by schema and name"),
        ({"function": {"name": "desk.none"}}, 'function "desk.none" does not exist'),
        ({"function": {"name": "pg_catalog.pg_ls_dir"}}, 'functions of schema "pg_catalog"'),
        ({"function": {"name": "aos_core.run_in_sandbox"}}, 'functions of schema "aos_core"'),
        ({"http": {"url": "x"}, "input": None}, "says what it does and not how it is used"),
    ],
)  # fmt: skip
def test_what_is_no_skill_is_refused_with_its_reason(
    desk: Tenant, given: dict[str, Any], message: str
) -> None:
    with refused("AO001" if "does not exist" in message else "AO006", message):
        own(desk, "wrong", **given)


def test_a_skill_is_not_called_like_a_built_in(desk: Tenant) -> None:
    with refused("AO006", "is what a built-in skill is called"):
        own(desk, "sql_query", sql=statement("select word from desk.secrets"))
    own(desk, "sql_query2", sql=statement("select 1"))  # the lawful neighbour


@pytest.mark.parametrize(
    "text",
    [
        "select word from desk.secrets",
        "select pg_read_file('/etc/passwd')",
        "select * from aos_core.run",
        "with d as (delete from desk.orders returning 1) select * from d",
    ],
)
def test_a_statement_of_a_manifest_runs_with_the_skills_rights_alone(
    desk: Tenant, text: str
) -> None:
    own(desk, "reach", sql=statement(text))
    assert not run(desk, "reach")["ok"]
    own(desk, "reach", sql=statement("select count(*) from desk.orders"))
    assert run(desk, "reach")["result"]["rows"] == [[3]]


def test_a_function_is_called_with_the_arguments_that_the_manifest_names(desk: Tenant) -> None:
    grants = [{"schema": "desk", "functions": ["refund"]}]
    takes = {**object_of(order_id="integer", amount="number"), "required": ["order_id"]}
    own(desk, "refund", function={"name": "desk.refund"}, effect="transactional", risk="high",
        touches=["sensitive", "change"], sql={"grants": grants}, input=takes)  # fmt: skip
    assert run(desk, "refund", order_id=1)["result"]["rows"] == [[1, 0.5]]
    assert run(desk, "refund", order_id=1, amount=0.25)["result"]["rows"] == [[1, 0.25]]
    said = run(desk, "refund", order_id=1, force=True)
    assert not said["ok"] and 'parameter "force" is unknown' in said["result"]["error"]
    said = run(desk, "refund", amount=1)
    assert 'parameter "order_id" is missing' in said["result"]["error"]
    total = desk.database.value("select total from desk.orders where id = 1")
    assert float(total) == 0.25
    # Even where the manifest leaves its input open, no other parameter can be reached.
    own(desk, "open", function={"name": "desk.refund"}, effect="transactional", risk="high",
        touches=["change"], sql={"grants": grants},
        input={"type": "object", "properties": {"order_id": {"type": "integer"}}})  # fmt: skip
    said = run(desk, "open", order_id=2, force=True, **{"id => 1, force": True})
    assert said["ok"] and said["result"]["rows"] == [[2, 19]]


def test_a_function_that_only_reads_changes_nothing(desk: Tenant) -> None:
    functions = {"schema": "desk", "functions": ["refund", "total_of"]}
    given = {"sql": {"grants": [functions]}, "input": object_of(order_id="integer")}
    own(desk, "look", function={"name": "desk.refund"}, **given)
    said = run(desk, "look", order_id=3)
    assert not said["ok"] and said["result"]["sqlstate"] == "25006"
    own(desk, "look", function={"name": "desk.total_of"}, **given)
    assert run(desk, "look", order_id=3)["result"]["rows"] == [[-3]]


def test_a_skill_calls_the_functions_that_it_was_granted(desk: Tenant) -> None:
    admin, integer = desk.database.superuser, object_of(a="integer")
    role = "select aos_auth.sql_role(%s, 'closed')"
    grants = [{"schema": "desk", "functions": ["closed"]}]
    own(desk, "closed", function={"name": "desk.closed"}, input=integer, sql={"grants": grants})
    assert run(desk, "closed", a=1)["result"]["rows"] == [[1]]
    name = desk.database.value(role, desk.id)
    may = "select has_function_privilege(%s, 'desk.closed(int)', 'execute')"
    assert desk.database.value(may, name) is True
    own(desk, "closed", function={"name": "desk.closed"}, input=integer,
        sql={"grants": [READ_ORDERS]})  # fmt: skip
    assert desk.database.value(may, name) is False
    said = run(desk, "closed", a=1)
    assert not said["ok"] and said["result"]["sqlstate"] == "42501"
    with refused("AO001", "or several have this name"):
        own(desk, "closed", function={"name": "desk.twice"}, input=integer,
            sql={"grants": [{"schema": "desk", "functions": ["twice"]}]})  # fmt: skip
    # A call of one's own overload is the database's affair: the argument's type decides.
    admin.execute("drop function desk.twice(text)")
    own(desk, "closed", function={"name": "desk.twice"}, input=integer,
        sql={"grants": [{"schema": "desk", "functions": ["twice"]}]})  # fmt: skip
    assert run(desk, "closed", a=4)["result"]["rows"] == [[8]]


def test_what_writes_is_previewed_approved_and_bound_to_the_manifest(desk: Tenant) -> None:
    given: dict[str, Any] = {
        "sql": statement("update desk.orders set item = :item where id = :id", WRITE_ORDERS),
        "input": object_of(id="integer", item="string"), "effect": "transactional",
        "risk": "high", "approval": "always", "touches": ["sensitive", "change"],
    }  # fmt: skip
    own(desk, "rename", **given)
    asked = desk.asked("rename", {"id": 2, "item": "blotter"}, "with.rename")
    assert asked.answer["next"] == "wait"
    shown = desk.preview(asked.call)
    assert shown["rows"][0]["before"]["item"] == "o'ink"
    assert shown["rows"][0]["after"]["item"] == "blotter"
    desk.decide(asked.call, "approved")
    # The manifest changes between the decision and the call: the approval was for another skill.
    own(desk, "rename", **{**given, "sql": statement(
        "update desk.orders set item = :item where id >= :id", WRITE_ORDERS)})  # fmt: skip
    lease = desk.claim(run=asked.run)
    assert desk.execute(asked.call, lease)["status"] == "awaiting_approval"
    assert desk.database.value("select item from desk.orders where id = 2") == "o'ink"
    desk.decide(asked.call, "approved")
    own(desk, "rename", **given)
    lease = desk.claim(run=asked.run)
    assert desk.execute(asked.call, lease)["status"] == "awaiting_approval"
    desk.decide(asked.call, "approved")
    assert desk.execute(asked.call, desk.claim(run=asked.run))["ok"]
    assert desk.database.value("select item from desk.orders where id = 2") == "blotter"


def test_a_skill_that_is_disabled_is_denied_and_not_offered(desk: Tenant) -> None:
    own(desk, "off", sql=statement("select 1"))
    assert run(desk, "off")["ok"]
    turn_off = "update aos_skills.skill set disabled = 'it changed' where name = 'off'"
    desk.database.superuser.execute(turn_off)
    said = run(desk, "off")
    assert not said["ok"] and "is disabled: it changed" in said["result"]["error"]
    tools = "select aos_skills.tools_of(%s, 'agent', '{off}')"
    assert desk.database.value(tools, desk.id) == []
    status = "select status ->> 'disabled' from aos_skills.skill_resource where name = 'off'"
    assert desk.database.value(status) == "it changed"
    assert own(desk, "off", sql=statement("select 1")) == "configured"
    assert run(desk, "off")["ok"]


SCHEMA = {
    "type": "object",
    "required": ["id"],
    "additionalProperties": False,
    "properties": {
        "id": {"type": "integer", "minimum": 1, "exclusiveMaximum": 100},
        "word": {"type": ["string", "null"], "minLength": 2, "maxLength": 4},
        "how": {"enum": ["fast", 1, None]},
        "const": {"const": {"a": 1}},
        "lines": {"type": "array", "maxItems": 2, "items": {"$ref": "#/$defs/line"}},
        "either": {"anyOf": [{"type": "integer"}, {"type": "string", "maxLength": 1}]},
        "both": {"allOf": [{"minimum": 1}, {"maximum": 3}]},
        "map": {"type": "object", "additionalProperties": {"type": "integer"}},
        "never": False,
        "free": True,
    },
    "$defs": {"line": {
        "type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}},
        "additionalProperties": False,
    }},
}  # fmt: skip


@pytest.mark.parametrize(
    ("args", "wrong"),
    [
        ({"id": 1}, None),
        ({"id": 1.0, "word": None, "how": None, "const": {"a": 1}, "free": [{}]}, None),
        ({"id": 99, "word": "abcd", "lines": [{"sku": "x"}], "either": "x", "both": 3}, None),
        ({"id": 1, "map": {"a": 1}}, None),
        ([], "the arguments are not a JSON object"),
        ({}, 'parameter "id" is missing'),
        ({"id": "1"}, 'parameter "id" must be of type integer, not string'),
        ({"id": 1.5}, 'parameter "id" must be of type integer, not number'),
        ({"id": 0}, 'parameter "id" must be at least 1'),
        ({"id": 100}, 'parameter "id" must be less than 100'),
        ({"id": 1, "word": "a"}, 'parameter "word" must have at least 2 characters'),
        ({"id": 1, "word": "abcde"}, 'parameter "word" must have at most 4 characters'),
        ({"id": 1, "word": 1}, 'parameter "word" must be of type string or null, not number'),
        ({"id": 1, "how": "slow"}, 'parameter "how" must be one of ["fast", 1, null]'),
        ({"id": 1, "const": {"a": 2}}, 'parameter "const" must be {"a": 1}'),
        ({"id": 1, "lines": [{}]}, 'parameter "lines[0].sku" is missing'),
        ({"id": 1, "lines": [{"sku": "x"}, {"sku": 1}]},
         'parameter "lines[1].sku" must be of type string, not number'),
        ({"id": 1, "lines": [{"sku": "x", "a": 1}]},
         'parameter "lines[0].a" is unknown; known are: sku'),
        ({"id": 1, "lines": [1, 2, 3]}, 'parameter "lines" must have at most 2 items'),
        ({"id": 1, "either": "xy"}, 'parameter "either" must have at most 1 characters'),
        ({"id": 1, "both": 4}, 'parameter "both" must be at most 3'),
        ({"id": 1, "map": {"a": "x"}}, 'parameter "map.a" must be of type integer, not string'),
        ({"id": 1, "never": 1}, 'parameter "never" is not allowed'),
    ],
)  # fmt: skip
def test_arguments_are_checked_to_any_depth(desk: Tenant, args: Any, wrong: str | None) -> None:
    check = "select aos_skills.check_arguments(%s, %s)"
    assert desk.database.value(check, Jsonb(SCHEMA), Jsonb(args)) == wrong


def test_a_schema_that_refers_to_itself_ends(desk: Tenant) -> None:
    endless = {"$ref": "#"}
    check = "select aos_skills.check_arguments(%s, %s)"
    assert "nested too deep" in desk.database.value(check, Jsonb(endless), Jsonb({"a": 1}))
    tree = {"type": "object", "properties": {"down": {"$ref": "#"}}}
    assert desk.database.value(check, Jsonb(tree), Jsonb({"down": {"down": {}}})) is None


def test_a_worker_gets_the_settings_of_a_call_that_runs_under_its_lease(desk: Tenant) -> None:
    settings = {"url": "https://example.com/{id}", "headers": {"X": {"secretRef": "none/at"}}}
    given: dict[str, Any] = {
        "http": settings, "input": object_of(id="string"), "touches": ["untrusted"],
    }  # fmt: skip
    own(desk, "fetch", **given)
    asked = desk.asked("fetch", {"id": "1"}, "with.fetch")
    assert asked.answer["next"] == "calls" and desk.call_state(asked.call) == "running"
    take = ("aos_agent.call_settings", desk.id, asked.call, asked.lease["lease"])
    with refused("AO001", 'this tenant has no secret "none/at"'):
        call(desk.worker, *take)
    own(desk, "fetch", **{**given, "http": {"url": "https://example.com/{id}"}})
    with refused("AO004", 'the skill "fetch" was changed since the call began'):
        call(desk.worker, *take)
    asked = desk.asked("fetch", {"id": "1"}, "with.fetch")
    said = call(desk.worker, "aos_agent.call_settings", desk.id, asked.call, asked.lease["lease"])
    assert said == {
        "kind": "http", "effect": "read", "settings": {"url": "https://example.com/{id}"},
        "timeout_seconds": 30, "max_bytes": 65536, "secrets": {},
    }  # fmt: skip
    desk.result(asked.call, asked.lease, {"status": 200})
    with refused("AO002", "and not one that the worker runs"):
        call(desk.worker, "aos_agent.call_settings", desk.id, asked.call, asked.lease["lease"])
