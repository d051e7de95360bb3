"""`aosctl auth grant`, `revoke` and `roles`: who has which role, and until when."""

from __future__ import annotations

from contextlib import closing
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.cli.moments import parse_duration, parse_moment
from aosctl.cli.table import human_duration, write_table
from aosctl.errors import AosError, UsageError
from aosctl.timestamps import to_the_second

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.db.rows import AnyConnection
    from aosctl.domain.kinds.base import Resource

LONGEST = timedelta(days=3650)
"""What is given for longer is given for good: it has no end that anybody waits for."""

_PROBES = {
    "admin": ("delete", "principal"),
    "developer": ("delete", "agent"),
    "auditor": ("export", "event"),
}
"""What a role gives, to ask whether it does."""

PrincipalName = Annotated[str, typer.Argument(metavar="PRINCIPAL", show_default=False)]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", show_default=False)]


def register(app: typer.Typer) -> None:
    """Add the three verbs to `aosctl auth`."""
    app.command("grant")(grant)
    app.command("revoke")(revoke)
    app.command("roles")(roles)


def grant(
    ctx: typer.Context,
    principal: PrincipalName,
    role: RoleName,
    duration: Annotated[
        str | None, typer.Option("--for", metavar="TIME", help="Until 45m, 8h or 3d from now")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", metavar="RFC3339", help="Until this moment")
    ] = None,
) -> None:
    """Give a principal a role of the tenant: admin, developer, auditor or viewer.

    It changes the principal as it stands; a manifest that is applied later
    counts whole, its roles and their ends with it.

    Examples:
      aosctl auth grant jane developer
      aosctl auth grant jane admin --for 8h
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db import rights

    span = _checked(parse_duration(duration), "--for") if duration else None
    end = parse_moment(until) if until else None
    with closing(session_of(globals_of(ctx))) as session:
        tenant, connection = session.require_tenant(), session.connection
        now = _now(connection)
        if span:
            end = now + span
        elif end:
            _checked(end - now, "--until")
        done = rights.grant_role(connection, tenant, principal, role, end)
        held = (
            f"until {to_the_second(end)} ({human_duration((end - now).total_seconds())})"
            if end
            else ""
        )
        output.write(f"principal.aos/{principal} {done}: {role} {held or 'for good'}\n")
        _warn_of_group(session, principal, role)


def revoke(ctx: typer.Context, principal: PrincipalName, role: RoleName) -> None:
    """Take a role from a principal; it counts at once, in open sessions too.

    Examples:
      aosctl auth revoke jane admin
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db import rights

    with closing(session_of(globals_of(ctx))) as session:
        rights.revoke_role(session.connection, session.require_tenant(), principal, role)
    output.write(f"principal.aos/{principal} revoked: {role}\n")


def roles(
    ctx: typer.Context,
    principal: Annotated[
        str | None, typer.Argument(metavar="[PRINCIPAL]", show_default=False)
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """List the roles that people and services have in the tenant, and until when.

    A role that has ended gives nothing, but stays listed until it is revoked.

    Examples:
      aosctl auth roles
      aosctl auth roles jane -o json
    """
    from aosctl.cli.wiring import session_of

    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        found, named = _principals(session, principal), session.tenant
        now = _now(session.connection)
    held = [(one.name, role, _end_of(one, role)) for one in found for role in one.spec["roles"]]
    if chosen.is_table and held:
        rows = [
            (name, role, end and to_the_second(end), _left(end, now)) for name, role, end in held
        ]
        write_table(["PRINCIPAL", "ROLE", "UNTIL", "LEFT"], rows)
    elif chosen.is_table:
        output.note(f"No roles found in {named} tenant.", quiet=given.quiet)
    else:
        write = output.write_json if chosen.format == "json" else output.write_yaml
        write([
            {"principal": name, "role": role, "until": end and to_the_second(end),
             "expired": bool(end and end <= now)}
            for name, role, end in held
        ])  # fmt: skip


def _now(connection: AnyConnection) -> datetime:
    """Return the kernel's time, to the second."""
    from aosctl.db.clock import moment

    return moment(connection).replace(microsecond=0)


def _checked(span: timedelta, flag: str) -> timedelta:
    """Return the span. Raises UsageError for one that nobody means."""
    if span > LONGEST:
        raise UsageError(
            f"{flag}: a role for a while ends within 10 years ({LONGEST.days}d)",
            f"without {flag} it is given for good",
        )
    return span


def _principals(session: Session, name: str | None) -> list[Resource]:
    from aosctl.domain import inventory
    from aosctl.domain.kinds import BY_NAME
    from aosctl.errors import NotFound

    kind, tenant = BY_NAME["Principal"], session.require_tenant()
    if name is None:
        return inventory.resources(session.connection, kind, tenant)
    found, missing = inventory.named(session.connection, kind, tenant, [name])
    if missing:
        raise NotFound(f'principals.aos "{name}" not found', "aosctl get principals")
    return found


def _end_of(principal: Resource, role: str) -> datetime | None:
    end = principal.spec.get("roleExpiry", {}).get(role)
    return datetime.fromisoformat(end) if end else None


def _left(end: datetime | None, now: datetime) -> str | None:
    if end is None:
        return None
    return human_duration((end - now).total_seconds()) if end > now else "expired"


def _warn_of_group(session: Session, principal: str, role: str) -> None:
    """Say on stderr where the role alone is not enough: the login lacks the group beside it."""
    from aosctl.db import rights

    tenant = session.require_tenant()
    probe, kind = _PROBES.get(role, ("get", "agent"))
    try:
        answer = rights.can_i(session.connection, tenant, probe, kind, principal)
    except AosError:
        return
    if not answer.allowed:
        output.note(f"warning: {answer.reason}")
