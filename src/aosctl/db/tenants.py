"""Tenants: which of them a login may work in, and the choice of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar
from uuid import UUID

from aosctl.db.errors import translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

T = TypeVar("T")


class Tenant(NamedTuple):
    """A tenant by its id and its name."""

    id: UUID
    name: str


def my_tenants(connection: AnyConnection) -> list[Tenant]:
    """List the tenants that the login may choose among, by name (aos_auth.my_tenants)."""
    with translated():
        rows = connection.execute("select tenant_id, name from aos_auth.my_tenants()").fetchall()
    return [Tenant(UUID(str(row[0])), str(row[1])) for row in rows]


def tenant_id(connection: AnyConnection, name: str) -> UUID | None:
    """Return the id of a tenant, None where the login may not see it (aos_auth.tenant_id)."""
    with translated():
        row = connection.execute("select aos_auth.tenant_id(%s)", (name,)).fetchone()
    return UUID(str(row[0])) if row and row[0] else None


def is_admin(connection: AnyConnection) -> bool:
    """Tell whether the login is a member of aos_admin (aos_auth.is_admin)."""
    with translated():
        row = connection.execute("select aos_auth.is_admin()").fetchone()
    return bool(row and row[0])


def select_tenant(connection: AnyConnection, tenant_id: object) -> None:
    """Select the tenant whose rows the session's reads show; None shows what no selection does."""
    connection.execute(
        "select set_config('aos.tenant_id', %s, false)",
        (str(tenant_id) if tenant_id is not None else "",),
    )


def choose(connection: AnyConnection, tenant: UUID | None) -> None:
    """Select a tenant for the session; None for none: an administrator then sees all."""
    with translated():
        select_tenant(connection, tenant)


def choose_local(connection: Connection, tenant: UUID | None) -> None:
    """Select a tenant until the end of the transaction."""
    with translated():
        connection.execute(
            "select set_config('aos.tenant_id', %s, true)", (str(tenant) if tenant else "",)
        )


def scopes(connection: AnyConnection) -> list[UUID | None]:
    """Return the selections that together show everything the login may see.

    That is no selection for an administrator, and each tenant in turn for everybody else.
    """
    if is_admin(connection):
        return [None]
    return [tenant.id for tenant in my_tenants(connection)]


def everywhere(connection: AnyConnection, read: Callable[[], Iterable[T]]) -> list[T]:
    """Read under each selection in turn, and so all that the login may see; the last one stays."""
    found: list[T] = []
    for scope in scopes(connection):
        choose(connection, scope)
        found += read()
    return found


def erase_tenant(connection: Connection, name: str, confirm: str) -> tuple[int, int]:
    """Erase a tenant with all but its events (aos_auth.erase_tenant); return its runs and rows.

    Raises NotFound, Denied for a login that is no administrator, InvalidInput.
    """
    with translated():
        row = connection.execute(
            "select (e ->> 'runs')::bigint, (e ->> 'rows')::bigint"
            " from aos_auth.erase_tenant(%s, %s) e",
            (name, confirm),
        ).fetchone()
    return (int(str(row[0])), int(str(row[1]))) if row else (0, 0)
