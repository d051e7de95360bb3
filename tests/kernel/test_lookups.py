"""describe_schema and memory_search: what an agent may look up, and nothing of anybody else."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from kernels import KernelDatabase, Tenant, apply, ask, make_tenant

YARD = """
create schema yard; create schema fence;
create table yard.tree (
  id int primary key, name text not null default 'oak', secret text, height numeric(5, 2));
create table yard.nest (
  id int primary key, tree int references yard.tree, eggs int check (eggs < 9));
create table yard.hidden (word text);
create table fence.post (id int);
create view yard.tall as select id, name from yard.tree where height > 10;
comment on table yard.tree is 'every tree there is';
comment on column yard.tree.height is 'in metres';
"""


@pytest.fixture(scope="module")
def yard(kernel_database: KernelDatabase) -> Tenant:
    kernel_database.superuser.execute(YARD.encode())
    tenant = make_tenant(kernel_database, "yard")
    admin = kernel_database.superuser
    for name, builtin, grants in (
        ("look", "sql_query", [
            {"schema": "yard", "tables": ["tree"], "columns": ["id", "name", "height"],
             "privileges": ["select"]},
            {"schema": "yard", "tables": ["tall"], "privileges": ["select"]},
        ]),
        ("plant", "sql_execute", [
            {"schema": "yard", "tables": ["tree", "nest"], "privileges": ["insert", "delete"]},
        ]),
    ):  # fmt: skip
        apply(admin, "aos_skills.apply_skill", tenant.id, name, {
            "builtin": builtin, "sql": {"grants": grants},
        })  # fmt: skip
    for agent, skills in (
        ("looker", ["look", "describe_schema"]),
        ("gardener", ["look", "plant", "describe_schema"]),
        ("thinker", ["describe_schema", "memory_store", "memory_search"]),
    ):
        apply(admin, "aos_agent.apply_agent", tenant.id, agent, {
            "persona": "expert", "skills": skills,
        })  # fmt: skip
    return tenant


def run(tenant: Tenant, agent: str, skill: str, **args: Any) -> dict[str, Any]:
    asked = tenant.asked(skill, args, agent)
    said: dict[str, Any] = tenant.execute(asked.call, asked.lease)
    return said


def test_an_agent_sees_the_tables_that_its_sql_reaches(yard: Tenant) -> None:
    found = run(yard, "looker", "describe_schema")["result"]["tables"]
    assert [(t["table"], t["may"], t["skills"]) for t in found] == [
        ("yard.tall", ["select"], ["look"]), ("yard.tree", ["select"], ["look"]),
    ]  # fmt: skip
    tall, tree = found
    assert tall["kind"] == "view" and "kind" not in tree
    assert tree["comment"] == "every tree there is"
    assert tree["columns"] == [
        {"name": "id", "type": "integer", "null": False},
        {"name": "name", "type": "text", "null": False, "default": "'oak'::text"},
        {"name": "height", "type": "numeric(5,2)", "comment": "in metres"},
    ]
    assert "PRIMARY KEY (id)" in tree["keys"]


def test_another_skill_reaches_more(yard: Tenant) -> None:
    found = run(yard, "gardener", "describe_schema")["result"]["tables"]
    assert [t["table"] for t in found] == ["yard.nest", "yard.tall", "yard.tree"]
    nest, _, tree = found
    assert tree["may"] == ["select", "insert", "delete"] and tree["skills"] == ["look", "plant"]
    assert "secret" in [column["name"] for column in tree["columns"]]  # it may be inserted
    assert any("REFERENCES yard.tree(id)" in key for key in nest["keys"])


@pytest.mark.parametrize(
    ("args", "tables"),
    [
        ({"table": "tree"}, ["yard.tree"]),
        ({"schema": "yard", "table": "nest"}, ["yard.nest"]),
        ({"schema": "yard"}, ["yard.nest", "yard.tall", "yard.tree"]),
        ({"table": "hidden"}, None),
        ({"schema": "fence"}, None),
        ({"schema": "aos_core"}, None),
        ({"schema": "pg_catalog", "table": "pg_authid"}, None),
        ({"table": "tree' or true --"}, None),
    ],
)
def test_one_schema_or_table_is_asked_for(
    yard: Tenant, args: dict[str, str], tables: list[str] | None
) -> None:
    said = run(yard, "gardener", "describe_schema", **args)
    assert said["ok"] is (tables is not None)
    if tables is None:
        assert said["result"]["error"] == "no SQL skill of this agent reaches such a table"
    else:
        assert [t["table"] for t in said["result"]["tables"]] == tables


def test_without_sql_there_is_nothing_to_see(yard: Tenant) -> None:
    assert not run(yard, "thinker", "describe_schema")["ok"]


def test_of_many_tables_the_names_are_told(yard: Tenant) -> None:
    admin = yard.database.superuser
    names = [f"t{n:02}" for n in range(21)]
    admin.execute("".join(f"create table fence.{name} (id int);" for name in names).encode())
    grants = [{"schema": "fence", "tables": names, "privileges": ["select"]}]
    apply(admin, "aos_skills.apply_skill", yard.id, "wide", {
        "builtin": "sql_query", "sql": {"grants": grants},
    })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", yard.id, "wide", {
        "persona": "expert", "skills": ["wide", "describe_schema"],
    })  # fmt: skip
    said = run(yard, "wide", "describe_schema")["result"]
    assert len(said["tables"]) == 21 and said["more"]
    assert all("columns" not in table for table in said["tables"])
    one = run(yard, "wide", "describe_schema", table="t07")["result"]["tables"]
    assert one[0]["columns"] == [{"name": "id", "type": "integer"}]


def test_what_was_remembered_is_found_by_its_words(yard: Tenant) -> None:
    kept = {
        "favourite_tree": "The user likes old oaks best.",
        "address": {"street": "Elm Road", "number": 7},
        "ladder": ["ten metres", "in the shed"],
    }
    asked = yard.asked("memory_store", {"key": "x", "value": "y"}, "thinker")
    yard.execute(asked.call, asked.lease)
    for key, value in kept.items():
        answer = yard.respond(asked.lease, ask(("memory_store", {"key": key, "value": value})))
        yard.execute(UUID(answer["calls"][0]["call_id"]), asked.lease)

    def search(query: str, **more: Any) -> list[str]:
        said = run(yard, "thinker", "memory_search", query=query, **more)
        assert said["ok"], said
        return [entry["key"] for entry in said["result"]["entries"]]

    assert search("which trees does the user like?") == ["favourite_tree"]
    assert search("elm") == ["address"]
    assert search("how many metres is the ladder") == ["ladder"]
    assert set(search("ladders, oaks and roads")) == {"ladder", "favourite_tree", "address"}
    assert len(search("ladders, oaks and roads", limit=1)) == 1
    assert search("nothing of the kind") == []
    assert search("the") == [] == search("'; drop --")
