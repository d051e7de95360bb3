"""Whoever may create an operator puts it in front of PostgreSQL's own: no policy follows it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kernels import (
    SEALED,
    Connection,
    KernelDatabase,
    Tenant,
    apply,
    make_tenant,
    refused,
    select_tenant,
)

OWN_OPERATORS = """
create function shop.yes(uuid, uuid) returns boolean language sql immutable as 'select true';
create operator shop.= (leftarg = uuid, rightarg = uuid, function = shop.yes);
create function shop.yes(text, text) returns boolean language sql immutable as 'select true';
create operator shop.~ (leftarg = text, rightarg = text, function = shop.yes);
set search_path = shop, pg_catalog
"""
CALLED = """
with e as (
  select coalesce(polqual::text, '') || coalesce(polwithcheck::text, '') as tree from pg_policy
  union all select conbin::text from pg_constraint where conbin is not null
  union all select adbin::text from pg_attrdef
  union all select tgqual::text from pg_trigger where tgqual is not null)
select distinct p.proname::text from e join pg_proc p on e.tree like '%%:funcid ' || p.oid || ' %%'
where p.pronamespace::regnamespace::text like 'aos\\_%%' and not exists (
  select from unnest(p.proconfig) c where c = 'search_path=pg_catalog, pg_temp')
order by 1
"""


@pytest.fixture(scope="module")
def tenants(kernel_database: KernelDatabase) -> tuple[Tenant, Tenant]:
    own, other = (make_tenant(kernel_database, name) for name in ("own", "other"))
    login = kernel_database.person("path_developer", "aos_developer")
    kernel_database.superuser.execute(f"create schema shop authorization {login}")
    spec = {"type": "user", "dbRole": login, "roles": ["developer", "admin"]}
    apply(kernel_database.superuser, "aos_auth.apply_principal", own.id, "mallory", spec)
    other.open(other.start_run(), "a secret of the other")
    own.open(own.start_run(), "a word of one's own")
    return own, other


@pytest.fixture
def mallory(kernel_database: KernelDatabase, tenants: object) -> Iterator[Connection]:
    connection = kernel_database.connect("path_developer")
    with connection.transaction(force_rollback=True):
        connection.execute(OWN_OPERATORS)
        yield connection


def seen(connection: Connection) -> list[str]:
    """What a person sees of runs, transcripts, personas and principals; nothing compares here."""
    return [
        str(row[0])
        for row in connection.execute(
            "select tenant from aos_core.run_status union all"
            " select message::text from aos_core.transcript union all"
            " select system_prompt from aos_persona.persona union all"
            " select name from aos_auth.principal"
        )
    ]


def test_an_own_operator_shows_nothing_of_another_tenant(
    mallory: Connection, tenants: tuple[Tenant, Tenant]
) -> None:
    own, other = tenants
    assert mallory.execute("select %s::uuid = %s::uuid", (own.id, other.id)).fetchone() == (True,)
    select_tenant(mallory, own.id)
    assert "own" in seen(mallory)
    select_tenant(mallory, other.id)
    assert seen(mallory) == []


INSERTS = (
    "insert into aos_persona.persona (tenant_id, name, system_prompt, model_id)"
    " select %s, 'planted', 'x', model_id from aos_meta.llm_model_registry limit 1",
    "insert into aos_auth.principal (tenant_id, name) values (%s, 'planted')",
)


@pytest.mark.parametrize("insert", INSERTS)
def test_an_own_operator_writes_nothing_of_another_tenant(
    mallory: Connection, tenants: tuple[Tenant, Tenant], insert: str
) -> None:
    own, other = tenants
    select_tenant(mallory, own.id)
    mallory.execute(insert.encode(), (own.id,))
    select_tenant(mallory, other.id)
    with refused("42501", "row-level security"):
        mallory.execute(insert.encode(), (other.id,))


def test_an_own_operator_passes_no_check(
    mallory: Connection, tenants: tuple[Tenant, Tenant]
) -> None:
    own, _ = tenants
    select_tenant(mallory, own.id)
    values = "insert into aos_auth.secret (tenant_id, name, data) values (%s, %s, %s)"

    def put(name: str, value: str) -> None:
        with mallory.transaction():
            mallory.execute(values.encode(), (own.id, name, f'{{"KEY": "{value}"}}'))

    put("lawful", SEALED)
    for name, value in (("No Name\033[2J", SEALED), ("bare", "a bare password")):
        with refused("23514"):
            put(name, value)


def test_what_policies_and_checks_call_pins_its_path_or_is_one_full_name(
    kernel_database: KernelDatabase,
) -> None:
    unpinned = {row[0] for row in kernel_database.rows(CALLED)}
    assert unpinned <= {"is_name", "now", "uuidv7"}, "on 18 uuidv7 is PostgreSQL's own"
    for name in unpinned:
        (body,) = kernel_database.rows(
            "select prosrc from pg_proc where proname = %s"
            " and pronamespace = 'aos_core'::regnamespace", name
        )[0]  # fmt: skip
        assert body.strip().startswith(("select pg_catalog.", "select p_name operator(pg_catalog."))
        assert "where" not in body and "from" not in body
