"""`aosctl whoami`: the login, where it is, and what it is there."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.db.rights import Identity


class Me(NamedTuple):
    """Who the session is: `ends` by tenant and role, for roles that end."""

    login: str
    administrator: bool
    database: str
    host: str
    port: int
    source: str
    context: str | None
    tenant: str | None
    identities: list[Identity]
    ends: dict[tuple[str, str], str]


def command(
    ctx: typer.Context,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """Print the login, the database, and what one is in each of one's tenants, until when.

    Examples:
      aosctl whoami
      aosctl whoami --context prod -o json
    """
    from aosctl.cli.wiring import session_of

    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        me = _ask(session)
    if chosen.format == "json":
        output.write_json(_object(me))
    elif chosen.format == "yaml":
        output.write_yaml(_object(me))
    else:
        _print(me, quiet=given.quiet)


def _ask(session: Session) -> Me:
    from aosctl.db import rights, tenants

    info = session.connection.info
    found = rights.whoami(session.connection)
    ends: dict[tuple[str, str], str] = {}
    for one in found:
        tenants.choose(session.connection, tenants.tenant_id(session.connection, one.tenant))
        held = rights.role_ends(session.connection, one.tenant, one.principal)
        ends |= {(one.tenant, role): end for role, end in held.items()}
    return Me(
        login=info.user,
        administrator=tenants.is_admin(session.connection),
        database=info.dbname,
        host=info.host,
        port=info.port,
        source=session.target.source,
        context=session.target.context,
        tenant=session.tenant,
        identities=found,
        ends=ends,
    )


def _object(me: Me) -> dict[str, Any]:
    return {
        "login": me.login,
        "administrator": me.administrator,
        "database": {"name": me.database, "host": me.host, "port": me.port, "source": me.source},
        "context": me.context,
        "tenant": me.tenant,
        "principals": [
            {
                "tenant": one.tenant,
                "name": one.principal,
                "type": one.principal_type,
                "roles": one.roles,
                "roleExpiry": {
                    role: end for role in one.roles if (end := me.ends.get((one.tenant, role)))
                },
            }
            for one in me.identities
        ],
    }


def _print(me: Me, *, quiet: bool) -> None:
    from aosctl.cli.description import format_entries
    from aosctl.cli.table import write_table

    every = " (an administrator: everything, in every tenant)" if me.administrator else ""
    where = f"{me.database} on {me.host}:{me.port}" if me.host else me.database
    entries = [
        ("Login", me.login + every),
        ("Database", f"{where} ({me.source})"),
        ("Context", me.context),
        ("Tenant", me.tenant),
    ]
    output.write(format_entries(entries))
    if me.identities:
        output.write("\n")
        rows = [
            (one.tenant, one.principal, one.principal_type, _roles(me, one))
            for one in me.identities
        ]
        write_table(["TENANT", "PRINCIPAL", "TYPE", "ROLES"], rows)
    elif not me.administrator:
        output.note("It is nobody's in any tenant.", quiet=quiet)


def _roles(me: Me, one: Identity) -> str | None:
    ends = {role: me.ends.get((one.tenant, role)) for role in one.roles}
    return ",".join(f"{role} until {end}" if end else role for role, end in ends.items()) or None
