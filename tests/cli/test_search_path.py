"""Who may create functions in public, as everybody may on 14, gets nothing run by another login."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from aosctl.db import hardening
from aosctl.db.install import install_script
from command import Aosctl
from kernels import KernelDatabase, Tenant

Superuser = psycopg.Connection[tuple[Any, ...]]
BETTER_THAN_POSTGRESQLS_OWN = """
create function public.to_jsonb(aos_meta.kernel_version) returns jsonb language plpgsql as $$
begin
  insert into public.caught values (session_user::text);
  return pg_catalog.to_jsonb($1);
end $$
"""


@pytest.fixture
def caught(kernel_database: KernelDatabase, tenant: Tenant) -> Iterator[Superuser]:
    """A function of a developer, next to which PostgreSQL's own fits worse, writes who calls it."""
    superuser = kernel_database.superuser
    superuser.execute("grant create on schema public to test_developer")
    superuser.execute("create table public.caught (login text)")
    superuser.execute("grant insert on public.caught to public")
    tenant.person.execute(BETTER_THAN_POSTGRESQLS_OWN)
    yield superuser
    tenant.person.execute("drop function public.to_jsonb(aos_meta.kernel_version)")
    superuser.execute("drop table public.caught")


def logins(superuser: Superuser) -> list[object]:
    found = superuser.execute("select login from public.caught").fetchall()
    superuser.execute("truncate public.caught")
    return [row[0] for row in found]


def test_no_function_of_a_developer_runs_as_the_administrator(
    caught: Superuser, admin: Aosctl
) -> None:
    caught.execute("select to_jsonb(k) from aos_meta.kernel_version k")
    assert logins(caught) == ["aos_superuser"], "a plain session falls for it"
    for words in (
        ("version",), ("get", "tenants"), ("get", "agents", "-A"), ("ps", "-A"), ("db", "status"),
        ("doctor",), ("auth", "whoami"), ("audit", "verify", "-A"),
        ("worker", "--once"), ("db", "upgrade", "--dry-run"),
    ):  # fmt: skip
        admin(*words)
        assert logins(caught) == [], words


POLYMORPHIC = """
create function public.unnest(text[]) returns setof text language plpgsql as $$
begin
  insert into public.caught values (session_user::text);
  return query select pg_catalog.unnest($1);
end $$;
create function public.joined(text[], text[]) returns text[] language plpgsql as $$
begin
  insert into public.caught values (session_user::text);
  return $1 operator(pg_catalog.||) $2;
end $$;
create operator public.|| (leftarg = text[], rightarg = text[], function = public.joined);
"""


def test_no_function_of_a_developer_runs_in_a_script_for_psql(
    caught: Superuser,
) -> None:
    """psql has the path of the login that runs the script."""
    with caught.transaction(force_rollback=True):
        caught.execute("set local role test_developer")
        caught.execute(POLYMORPHIC)
        caught.execute("reset role")
        caught.execute("select unnest(array['x'] || array['y'])")
        assert logins(caught) == ["aos_superuser"] * 2, "a plain statement falls for it"
        caught.execute(hardening.script().encode())
        assert logins(caught) == []
    assert install_script().startswith("begin;\nset local search_path = pg_catalog, pg_temp;\n")
