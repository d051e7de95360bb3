"""Manifests against the real kernel: what is shipped applies, and what is printed applies back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row

from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME, KINDS
from aosctl.domain.kinds.base import Resource
from aosctl.domain.manifest import load, loads
from aosctl.domain.relations import in_apply_order
from aosctl.domain.yaml_dump import dump_yaml
from aosctl.resources import resource_dir

MANIFESTS = resource_dir("manifests")
QUICKSTART = MANIFESTS / "quickstart"
EXAMPLES = sorted(path for path in (MANIFESTS / "examples").iterdir() if path.is_dir())
SERVER_OWNED = ("uid", "generation", "creationTimestamp")

Connection = psycopg.Connection[tuple[object, ...]]


def apply(connection: Connection, documents: Sequence[Document]) -> list[str]:
    """Apply a set in one transaction as the shell does; return what the kernel says of each."""
    said = []
    with connection.transaction():
        for document in in_apply_order(documents):
            kind = BY_NAME[document.kind]
            meta = {"labels": document.labels, "annotations": document.annotations}
            given = [document.name, json.dumps(meta), json.dumps(document.spec)]
            tenant = sql.SQL("")
            if kind.tenanted:
                tenant = sql.SQL(
                    "(select t.tenant_id from aos_auth.tenant t where t.name = {}), "
                ).format(sql.Literal(document.tenant))
            call = sql.SQL("select {}({}%s, %s::jsonb, %s::jsonb)").format(
                sql.Identifier(*kind.apply_function), tenant
            )
            row = connection.execute(call, given).fetchone()
            assert row is not None
            said.append(str(row[0]))
    return said


def resources(connection: Connection) -> Iterator[Resource]:
    for kind in KINDS:
        statement = sql.SQL(
            "select name, tenant, uid::text, generation, labels, annotations, spec, status,"
            " created_at from {}"
        ).format(sql.Identifier(*kind.view))
        with connection.cursor(row_factory=dict_row) as cursor:
            for row in cursor.execute(statement):
                yield Resource(kind=kind.name, **row)


@pytest.fixture(scope="module")
def owner_dsn(make_database: Callable[[], str]) -> str:
    dsn = make_database()
    with psycopg.connect(dsn) as connection:
        for path in sorted(resource_dir("schema").glob("[0-9][0-9]_*.sql")):
            connection.execute(path.read_text(encoding="utf-8"))
    return dsn


@pytest.fixture(scope="module")
def owner(owner_dsn: str) -> Iterator[Connection]:
    """The installer, in a database with the quickstart applied, as `aosctl quickstart` does it."""
    with psycopg.connect(owner_dsn, autocommit=True) as connection:
        apply(connection, load([str(QUICKSTART / "10-tenant.yaml")]))
        connection.execute((QUICKSTART / "shop.sql").read_text(encoding="utf-8"))
        apply(connection, load([str(QUICKSTART)]))
        yield connection


def test_the_quickstart_applied_again_changes_nothing(owner: Connection) -> None:
    counts = "select (select count(*) from shop.customer), (select count(*) from shop.orders)"
    before = owner.execute(counts).fetchone()
    owner.execute((QUICKSTART / "shop.sql").read_text(encoding="utf-8"))
    assert set(apply(owner, load([str(QUICKSTART)]))) == {"unchanged"}
    assert owner.execute(counts).fetchone() == before == (8, 11)


def test_a_row_that_was_deleted_does_not_come_back_with_the_shop(owner: Connection) -> None:
    with owner.transaction(force_rollback=True):
        owner.execute("delete from shop.orders where order_id = 4")
        owner.execute((QUICKSTART / "shop.sql").read_text(encoding="utf-8"))
        assert owner.execute("select count(*) from shop.orders").fetchone() == (10,)


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_an_example_applies_and_applies_again(folder: Path, owner: Connection) -> None:
    scripts = [path.read_text(encoding="utf-8") for path in folder.glob("*.sql")]
    for script in scripts:
        owner.execute(script)
    documents = load([str(folder)])
    assert "configured" not in apply(owner, documents)
    assert set(apply(owner, documents)) == {"unchanged"}
    for script in scripts:
        owner.execute(script)


def test_what_the_kernel_stores_is_the_canonical_spec(owner: Connection) -> None:
    stored = {(row.kind, row.tenant, row.name): row for row in resources(owner)}
    for document in load([str(QUICKSTART)]):
        kind = BY_NAME[document.kind]
        manifest = kind.to_manifest(stored[document.kind, document.tenant, document.name])
        metadata = manifest["metadata"]
        own = {key: value for key, value in metadata.items() if key not in SERVER_OWNED}
        printed = {**manifest, "metadata": own}
        printed.pop("status", None)
        assert dump_yaml(printed) == dump_yaml(document.manifest())


def test_everything_that_get_prints_applies_back_unchanged(owner: Connection) -> None:
    found = list(resources(owner))
    assert {row.kind for row in found} >= {kind.name for kind in KINDS} - {
        "McpServer",
        "Principal",
        "Schedule",
        "Secret",
    }
    text = "---\n".join(dump_yaml(BY_NAME[row.kind].to_manifest(row)) for row in found)
    assert set(apply(owner, loads(text))) == {"unchanged"}


def test_every_column_and_description_is_computed_from_the_kernels_rows(owner: Connection) -> None:
    for row in resources(owner):
        kind = BY_NAME[row.kind]
        cells = {column.header: column.value(row) for column in kind.columns}
        assert cells["NAME"] == row.name
        assert cells["AGE"] == row.created_at
        assert dict(kind.describe(row))["Name"] == row.name


def test_the_shop_shows_a_role_the_rows_of_its_own_tenant_only(
    owner: Connection, superuser_dsn: str
) -> None:
    apply(owner, loads("apiVersion: aos/v1\nkind: Tenant\nmetadata: {name: stranger}\n"))
    roles = {row.name: row.status["sqlRole"] for row in resources(owner) if row.kind == "Tenant"}
    database = owner.info.dbname
    with psycopg.connect(superuser_dsn, dbname=database) as superuser:
        for role in roles.values():
            assert role is not None
            grant = "grant usage on schema shop to {r}; grant select on shop.orders to {r}"
            superuser.execute(sql.SQL(grant).format(r=sql.Identifier(role)))
        seen = {}
        for name in ("tech_corp", "stranger"):
            superuser.execute(sql.SQL("set role {}").format(sql.Identifier(roles[name])))
            seen[name] = superuser.execute("select count(*) from shop.orders").fetchone()
            superuser.execute("reset role")
        superuser.rollback()
    assert seen == {"tech_corp": (11,), "stranger": (0,)}
