"""Rights of the kernel's own roles, taken for the length of one transaction and given back.

The installer made these roles and may grant them to itself; it holds none of them for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
from psycopg import sql

from aosctl.errors import Denied

OWNERS = ("aos_owner", "aos_kernel", "aos_lookup", "aos_view", "aos_provisioner")
READER = "aos_backup"
Connection = psycopg.Connection[tuple[object, ...]]


def is_superuser(connection: Connection) -> bool:
    """Tell whether the login may do anything."""
    row = connection.execute(
        "select rolsuper from pg_catalog.pg_roles where rolname = current_user"
    ).fetchone()
    return bool(row and row[0])


@contextmanager
def member_of(connection: Connection, *roles: str) -> Iterator[None]:
    """Be a member of these roles in the block, inside the transaction that the caller has open.

    A transaction that fails takes the memberships back by itself. Raises Denied for a login that
    may not grant them.
    """
    taken = join(connection, *roles)
    yield
    for role in reversed(taken):  # the first may be what allows to revoke the next
        connection.execute(sql.SQL("revoke {} from current_user").format(sql.Identifier(role)))


def join(connection: Connection, *roles: str) -> list[str]:
    """Become a member of these roles until the transaction is undone or the caller revokes it.

    Returns those that the login was not a member of. Raises Denied.
    """
    taken = [] if is_superuser(connection) else [r for r in roles if not _has(connection, r)]
    try:
        for role in taken:
            connection.execute(_grant(connection, role))
    except psycopg.errors.InsufficientPrivilege as error:
        raise Denied(
            f'login "{connection.info.user}" may not act for the kernel: it did not install it',
            "run this as the login that ran aosctl db install, or as a superuser",
        ) from error
    return taken


@contextmanager
def acting_as(connection: Connection, role: str) -> Iterator[None]:
    """Run the block with the rights of `role` alone."""
    connection.execute(sql.SQL("set local role {}").format(sql.Identifier(role)))
    yield
    connection.execute("set local role none")


def _has(connection: Connection, role: str) -> bool:
    """Tell whether the login has the rights of a role and may act as it."""
    if connection.info.server_version >= 160000:
        query: sql.SQL = sql.SQL(
            "select pg_has_role(current_user, oid, 'set') and pg_has_role(current_user, oid,"
            " 'usage') from pg_catalog.pg_roles where rolname = %s"
        )
    else:
        query = sql.SQL(
            "select pg_has_role(current_user, oid, 'usage') from pg_catalog.pg_roles"
            " where rolname = %s"
        )
    row = connection.execute(query, (role,)).fetchone()
    return bool(row and row[0])


def _grant(connection: Connection, role: str) -> sql.Composed:
    """Return the GRANT; from 16 on it says what older versions do anyway."""
    options = " with inherit true, set true" if connection.info.server_version >= 160000 else ""
    return sql.SQL("grant {} to current_user" + options).format(sql.Identifier(role))
