"""What people may do: roles of principals, the answer to "may I?", and logins for principals."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import psycopg
from psycopg import sql

from aosctl.db.connection import Connection
from aosctl.db.errors import translated
from aosctl.errors import Conflict, Denied

GROUPS = {
    "admin": "aos_developer",
    "developer": "aos_developer",
    "auditor": "aos_auditor",
    "viewer": "aos_viewer",
}
"""The group of logins that each role of a tenant needs beside it (aos_auth.group_of_role)."""

CONNECTIONS = 20
"""How many connections a login of ours may have at once."""


class Answer(NamedTuple):
    """Whether something is allowed, the role that it takes, and why; `but`: what of it is not."""

    allowed: bool
    role: str
    reason: str
    but: str | None


class Identity(NamedTuple):
    """What the session's login is in one tenant."""

    tenant: str
    principal: str
    principal_type: str
    roles: list[str]


def whoami(connection: Connection) -> list[Identity]:
    """List what the login is, a row a tenant (aos_auth.whoami)."""
    with translated():
        rows = connection.execute(
            "select tenant, principal, principal_type, roles from aos_auth.whoami()"
        ).fetchall()
    return [Identity(*row) for row in rows]  # type: ignore[arg-type]


def role_ends(connection: Connection, tenant: str, principal: str) -> dict[str, str]:
    """Return when the roles of a principal end, in RFC 3339; those given for good are left out."""
    with translated():
        rows = connection.execute(
            "select e.role, e.until from aos_auth.principal_resource p"
            " cross join lateral jsonb_each_text(p.spec -> 'roleExpiry') e (role, until)"
            " where p.tenant = %s and p.name = %s",
            (tenant, principal),
        ).fetchall()
    return {str(role): str(until) for role, until in rows}


def can_i(
    connection: Connection, tenant: UUID, verb: str, kind: str, principal: str | None
) -> Answer:
    """Ask whether a principal may do something (aos_auth.can_i); None for the session's own.

    Raises InvalidInput for a verb that the kind does not have, Denied, NotFound.
    """
    with translated():
        ((allowed, role, reason, but),) = connection.execute(
            "select a ->> 'allowed' = 'true', a ->> 'role', a ->> 'reason', a ->> 'but'"
            " from aos_auth.can_i(%s, %s, %s, %s) a",
            (tenant, verb, kind, principal),
        ).fetchall()
    return Answer(bool(allowed), str(role), str(reason), None if but is None else str(but))


def verbs_of(connection: Connection, verbs: Sequence[str], kind: str) -> list[str]:
    """Name those of the verbs that a kind has (aos_auth.needed_role)."""
    with translated():
        rows = connection.execute(
            "select v.verb from unnest(%s::text[]) with ordinality v (verb, place)"
            " where aos_auth.needed_role(v.verb, %s) is not null order by v.place",
            (list(verbs), kind),
        ).fetchall()
    return [str(verb) for (verb,) in rows]


def everything(
    connection: Connection,
    tenant: UUID,
    verbs: Sequence[str],
    kinds: Sequence[str],
    principal: str | None,
) -> list[tuple[str, str, Answer]]:
    """Ask about whatever there is to do of these verbs with these kinds, in one statement."""
    with translated():
        rows = connection.execute(
            "select x.verb, x.kind, a ->> 'allowed' = 'true', a ->> 'role', a ->> 'reason',"
            " a ->> 'but' from ("
            " select v.verb, v.place, k.kind, k.n from unnest(%(verbs)s::text[])"
            "  with ordinality v (verb, place), unnest(%(kinds)s::text[])"
            "  with ordinality k (kind, n)"
            " where aos_auth.needed_role(v.verb, k.kind) is not null offset 0) x"
            " cross join lateral aos_auth.can_i(%(tenant)s, x.verb, x.kind, %(principal)s) a"
            " order by x.n, x.place",
            {"verbs": list(verbs), "kinds": list(kinds), "tenant": tenant, "principal": principal},
        ).fetchall()
    return [
        (
            str(verb),
            str(kind),
            Answer(bool(allowed), str(role), str(reason), None if but is None else str(but)),
        )
        for verb, kind, allowed, role, reason, but in rows
    ]


def grant_role(
    connection: Connection, tenant: UUID, principal: str, role: str, until: datetime | None
) -> str:
    """Give a role until a moment or for good; return granted, changed or unchanged."""
    with translated():
        row = connection.execute(
            "select aos_auth.grant_role(%s, %s, %s, %s)", (tenant, principal, role, until)
        ).fetchone()
    return str(row[0]) if row else ""


def revoke_role(connection: Connection, tenant: UUID, principal: str, role: str) -> None:
    """Take a role away. Raises NotFound where the principal does not have it."""
    with translated():
        connection.execute("select aos_auth.revoke_role(%s, %s, %s)", (tenant, principal, role))


def create_login(
    connection: Connection, login: str, roles: Sequence[str], password: str | None
) -> None:
    """Make a login with the least rights that these roles of a tenant need.

    It is a member of one group a role, may connect a few times at once, and owns nothing. The
    password is hashed here (SCRAM-SHA-256): the server, its log and its statistics never see it.
    The caller has a transaction open. Raises Conflict for a login that is there, Denied for a
    caller that may not make roles.
    """
    options = sql.SQL("login connection limit {}").format(sql.Literal(CONNECTIONS))
    if password is not None:
        verifier = connection.pgconn.encrypt_password(
            password.encode(), login.encode(), b"scram-sha-256"
        )
        options += sql.SQL(" password {}").format(sql.Literal(verifier.decode()))
    groups = sorted({GROUPS[role] for role in roles} or {"aos_viewer"})
    name = sql.Identifier(login)
    try:
        connection.execute(sql.SQL("create role {} {}").format(name, options))
        for group in groups:
            connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(group), name))
        connection.execute(
            sql.SQL("grant connect on database {} to {}").format(
                sql.Identifier(connection.info.dbname), name
            )
        )
    except psycopg.errors.DuplicateObject as error:
        raise Conflict(
            f'the login "{login}" exists already',
            f"--db-role OTHER, or without --login: --db-role {login} makes it this principal",
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise Denied(
            f'login "{connection.info.user}" may not make logins: {error.diag.message_primary}',
            "run this as the login that ran aosctl db install, or as a superuser",
        ) from error


def new_password() -> str:
    """Return a password of 192 random bits."""
    return secrets.token_urlsafe(24)
