"""Whose login becomes a principal, with whose consent, and who gave a role."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kernels import META, Connection, KernelDatabase, Tenant, apply, call, make_tenant, refused

FOREIGN = ("aos_superuser", "aos_installer", "aos_worker", "login_theirs", "login_lone")


def principal(login: str | None, *roles: str) -> dict[str, Any]:
    return {"type": "user", "dbRole": login, "roles": list(roles)}


@pytest.fixture
def tenant(kernel_database: KernelDatabase) -> Iterator[Tenant]:
    """A tenant with an admin, next to another whose person is `login_theirs`."""
    made, other = make_tenant(kernel_database), make_tenant(kernel_database)
    admin = kernel_database.person("login_admin", "aos_developer")
    for login in ("login_theirs", "login_lone"):
        kernel_database.person(login, "aos_developer")
    superuser = kernel_database.superuser
    spec = principal(admin, "admin")
    apply(superuser, "aos_auth.apply_principal", made.id, "chief", spec)
    spec = principal("login_theirs", "viewer")
    apply(superuser, "aos_auth.apply_principal", other.id, "they", spec)
    yield made
    call(superuser, "aos_auth.delete_principal", other.id, "they")
    for one in (made, other):
        superuser.execute("delete from aos_auth.principal where tenant_id = %s", (one.id,))
        one.person.close()
        one.worker.close()


@pytest.fixture
def chief(tenant: Tenant) -> Iterator[Connection]:
    connection = tenant.database.connect("login_admin", tenant.id)
    yield connection
    connection.close()


def bind(connection: Connection, tenant: Tenant, login: str, name: str = "guest") -> Any:
    return call(
        connection, "aos_auth.apply_principal", tenant.id, name, META, principal(login, "viewer")
    )


@pytest.mark.parametrize("login", FOREIGN)
def test_an_admin_binds_no_login_of_others(tenant: Tenant, chief: Connection, login: str) -> None:
    before = tenant.database.fingerprint()
    with refused("AO004", f'login "{login}" is not yours to make a principal'):
        bind(chief, tenant, login)
    with refused("AO004"):
        chief.execute(
            "insert into aos_auth.principal (tenant_id, name, db_role) values (%s, 'guest', %s)",
            (tenant.id, login),
        )
    with refused("AO004"):
        chief.execute("update aos_auth.principal set db_role = %s where name = 'dev'", (login,))
    with refused("AO001", 'login "login_nobody" does not exist'):
        bind(chief, tenant, "login_nobody")
    assert tenant.database.fingerprint() == before
    assert bind(tenant.database.superuser, tenant, login) == "created"


def test_a_login_of_the_tenant_stays_as_it_is(tenant: Tenant, chief: Connection) -> None:
    dev = principal("test_developer", "developer", "viewer")
    said = call(chief, "aos_auth.apply_principal", tenant.id, "dev", META, dev)
    assert said == "configured"
    loose = principal(None, "developer", "viewer")
    call(chief, "aos_auth.apply_principal", tenant.id, "dev", META, loose)
    with refused("AO004"):  # given up is given up
        call(chief, "aos_auth.apply_principal", tenant.id, "dev", META, dev)
    said = apply(tenant.database.superuser, "aos_auth.apply_principal", tenant.id, "dev", dev)
    assert said == "configured"


def test_who_has_rights_over_a_login_binds_it(tenant: Tenant, chief: Connection) -> None:
    superuser = tenant.database.superuser
    superuser.execute("grant login_lone to login_admin with admin option")
    try:
        assert bind(chief, tenant, "login_lone") == "created"
        with refused("AO004"):
            bind(chief, tenant, "login_theirs", "another")
    finally:
        superuser.execute("revoke login_lone from login_admin")
    assert bind(chief, tenant, "login_lone") == "unchanged"  # it is the tenant's by now


def test_who_makes_a_login_binds_it(tenant: Tenant, chief: Connection) -> None:
    superuser = tenant.database.superuser
    superuser.execute("alter role login_admin createrole")
    try:
        chief.execute("create role login_made login")
        assert bind(chief, tenant, "login_made") == "created"
        with refused("AO004"):
            bind(chief, tenant, "aos_superuser", "another")
    finally:
        superuser.execute("alter role login_admin nocreaterole; drop role if exists login_made")


def test_who_is_no_admin_of_the_tenant_learns_nothing_of_its_logins(
    tenant: Tenant, kernel_database: KernelDatabase
) -> None:
    stranger = kernel_database.connect("login_lone", tenant.id)
    for login in ("login_admin", "login_theirs", "login_nobody"):
        with refused("42501"):
            bind(stranger, tenant, login)
    stranger.close()


def test_who_gave_a_role_is_no_value_of_a_statement(tenant: Tenant, chief: Connection) -> None:
    chief.execute(
        "insert into aos_auth.role_grant (tenant_id, principal_id, role_name, granted_by,"
        " granted_at) select tenant_id, principal_id, 'auditor', 'aos_superuser', '2001-01-01'"
        " from aos_auth.principal where name = 'dev'"
    )
    given = (
        "select granted_by, granted_at > now() - interval '1 hour' from aos_auth.role_grant"
        " where tenant_id = %s and role_name = 'auditor'"
    )
    assert tenant.database.rows(given, tenant.id) == [("login_admin", True)]
    superuser = tenant.database.superuser
    call(superuser, "aos_auth.grant_role", tenant.id, "dev", "auditor", "2999-01-01")
    assert tenant.database.rows(given, tenant.id) == [("aos_superuser", True)]
    chief.execute(
        "update aos_auth.role_grant set granted_by = 'aos_superuser', granted_at = '2001-01-01'"
        " where role_name = 'auditor'"
    )
    assert tenant.database.rows(given, tenant.id) == [("login_admin", True)]
