"""Skills of one's own as manifests: what is refused is told with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from aosctl.db.connection import Connection
from aosctl.domain.applying import Tenancy, apply_set
from aosctl.domain.manifest import loads
from aosctl.errors import ManifestError
from kernels import KernelDatabase, Tenant, make_tenant

HEAD = "apiVersion: aos/v1\nkind: Skill\nmetadata: {name: mine}\nspec:\n  description: x\n"
FUNCTION = "  function: {name: desk.f}\n  input: {type: object, properties: {a: {type: integer}}}\n"
SELECT = "  sql:\n    statement: select id from desk.t\n"
WITH = "  sql:\n    statement: with x as (select 1) select * from x\n"
TABLES = "    grants: [{schema: desk, tables: [t], privileges: [select]}]\n"


@pytest.fixture(scope="module")
def tenant(kernel_database: KernelDatabase) -> Tenant:
    kernel_database.superuser.execute(
        b"create schema desk; create table desk.t (id int);"
        b"create function desk.f(a int) returns int language sql as 'select $1'"
    )
    return make_tenant(kernel_database)


@pytest.fixture
def admin(kernel_database: KernelDatabase) -> Iterator[Connection]:
    connection = kernel_database.connect("aos_superuser")
    yield connection
    connection.close()


def apply(connection: Connection, tenant: Tenant, text: str) -> list[str]:
    documents = loads(text, "skill.yaml")
    return [one.outcome for one in apply_set(connection, documents, Tenancy(tenant.name, None))]


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("  risk: low\n", "spec: says nothing of what it does; give it one of: builtin, sql,"),
        (
            "  builtin: sql_query\n  function: {name: desk.f}\n",
            "spec: does builtin and function; give it one of",
        ),
        (
            "  builtin: sql_query\n  input: {}\n",
            '7:10: Skill "mine": spec.input: goes with a skill',
        ),
        ("  builtin: sql_query\n  effect: read\n", "7:11: "),
        (
            "  sql:\n    statement: select 1\n  config: {a: 1}\n",
            "spec.config: goes with a built-in",
        ),
        (
            "  sql:\n    statement: select 1\n  effect: unsafe\n",
            "spec.effect: sql works in the data",
        ),
        (
            "  sql:\n    statement: update t set a = 1\n  touches: []\n",
            'spec.touches: lacks "change": its effect is transactional',
        ),
        (
            "  sql:\n    statement: select 1\n    grants:\n    - {schema: s, functions: [f],"
            " privileges: [select]}\n",
            "9:47: ",
        ),
        (
            "  sql:\n    statement: select 1\n    grants:\n    - {schema: s}\n",
            "spec.sql.grants[0].tables: is required",
        ),
        (
            "  sql:\n    statement: select 1\n    grants:\n    - {schema: s, tables: [t],"
            " privileges: [update]}\n",
            "the skill only reads; update goes with effect transactional",
        ),
        ("  function: {name: f}\n", '6:20: Skill "mine": spec.function.name: "f" is not'),
        ("  function: {name: aos_core.f}\n", "the schema aos_core is not open to agents"),
        (
            "  function: {name: desk.f}\n  input: {type: array}\n",
            "spec.input: is a JSON Schema of type object",
        ),
        (
            "  function: {name: desk.f}\n  input: {type: object, properties: {a: {type: nix}}}\n",
            "spec.input.properties.a.type: is no JSON Schema: 'nix' is not valid",
        ),
        ("  python: {entryPoint: os}\n", '6:24: Skill "mine": spec.python.entryPoint: "os" is not'),
        ("  python: {entryPoint: 'a:b', memoryMb: 1}\n", "6:41: "),
        ("  python: {entryPoint: 'a:b', env: {A: {secret: x}}}\n", "unknown field"),
        ("  python: {entryPoint: 'a:b'}\n  effect: transactional\n", "python works outside"),
        (
            "  python: {entryPoint: 'a:b'}\n  sql: {grants: []}\n",
            "spec.sql: does not go with python",
        ),
        (
            "  agent: {name: nobody}\n",
            '6:17: Skill "mine": spec.agent.name: no Agent "nobody" exists',
        ),
        ("  statement: select 1\n", "spec.statement: unknown field"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(
    admin: Connection, tenant: Tenant, spec: str, problem: str
) -> None:
    with pytest.raises(ManifestError) as caught:
        apply(admin, tenant, HEAD + spec)
    assert problem in str(caught.value), str(caught.value)
    assert "skill.yaml:" in str(caught.value)


def test_a_skill_needs_a_description_and_a_name_of_its_own(
    admin: Connection, tenant: Tenant
) -> None:
    bare = HEAD.replace("  description: x\n", "") + "  sql:\n    statement: select 1\n"
    with pytest.raises(ManifestError, match="description is required"):
        apply(admin, tenant, bare)
    with pytest.raises(ManifestError, match="sql_query is a built-in skill; choose another name"):
        apply(admin, tenant, (HEAD + "  function: {name: desk.f}\n").replace("mine", "sql_query"))


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (
            SELECT + TABLES,
            {"effect": "read", "risk": "low", "touches": ["sensitive"]},
        ),
        (
            WITH + TABLES,
            {"effect": "transactional", "risk": "high", "touches": ["sensitive", "change"]},
        ),
        (
            WITH + TABLES + "  effect: read\n",
            {"effect": "read", "risk": "low", "touches": ["sensitive"]},
        ),
        (
            FUNCTION,
            {
                "effect": "transactional",
                "risk": "high",
                "input": {
                    "type": "object",
                    "properties": {"a": {"type": "integer"}},
                    "additionalProperties": False,
                },
                "sql": {
                    "searchPath": [],
                    "grants": [{"schema": "desk", "functions": ["f"]}],
                },
            },
        ),
        (
            "  python: {entryPoint: 'a.b:c.d', env: {A: {secretRef: s/k}, B: x}}\n",
            {"effect": "unsafe", "risk": "high", "touches": ["untrusted", "change"]},
        ),
    ],
    ids=["select", "with", "with that reads", "function", "python"],
)
def test_what_a_manifest_leaves_out_depends_on_what_the_skill_does(
    admin: Connection, tenant: Tenant, spec: str, told: dict[str, Any]
) -> None:
    (document, *_) = loads(HEAD + spec, "skill.yaml")
    for name, value in told.items():
        assert document.spec[name] == value


def test_what_is_applied_is_what_get_prints(admin: Connection, tenant: Tenant) -> None:
    for spec in (
        SELECT + TABLES,
        FUNCTION,
        "  python: {entryPoint: 'a:b', path: /x}\n  output: {type: string}\n",
    ):
        assert apply(admin, tenant, HEAD + spec) == (
            ["created"] if spec.startswith("  sql") else ["configured"]
        )
        assert apply(admin, tenant, HEAD + spec) == ["unchanged"]
