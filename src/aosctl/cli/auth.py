"""`aosctl auth`: who am I, what may I do, and who may do what until when."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.cli.moments import parse_duration, parse_moment
from aosctl.cli.table import write_table
from aosctl.errors import AosError, NotFound, UsageError

if TYPE_CHECKING:
    from datetime import datetime

    from aosctl.db.connection import Connection, Session

app = typer.Typer(
    help="""Say who you are and what you may do; give and take roles.

Examples:
  aosctl auth whoami
  aosctl auth can-i apply agents
  aosctl auth grant jane admin --for 8h""",
    rich_markup_mode=None,
)

VERBS = ("get", "apply", "delete", "chat", "kill", "resolve", "approve", "verify", "export")
_MEANS = {
    **dict.fromkeys(("list", "watch", "describe", "ps", "logs"), "get"),
    **dict.fromkeys(("create", "edit", "update", "patch", "label"), "apply"),
    **dict.fromkeys(("run", "send"), "chat"),
    **dict.fromkeys(("deny", "decide"), "approve"),
    **dict.fromkeys(("cancel", "pause", "resume"), "kill"),
    **dict.fromkeys(("checkpoint", "audit"), "export"),
}
"""Other words for the verbs that the kernel knows."""

_PROBES = {
    "admin": ("delete", "principal"),
    "developer": ("delete", "agent"),
    "auditor": ("export", "event"),
}
"""What a role gives, to ask whether it does."""

_RECORDS = ("run", "approval", "event")
"""What can be read and acted on, but not applied."""

PrincipalName = Annotated[str, typer.Argument(metavar="PRINCIPAL", show_default=False)]
RoleName = Annotated[str, typer.Argument(metavar="ROLE", show_default=False)]


@app.command("whoami")
def whoami(
    ctx: typer.Context,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """Print the login and what it is in each of its tenants.

    Examples:
      aosctl auth whoami
      aosctl auth whoami -o json
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db import rights, tenants

    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        login = session.connection.info.user
        admin = tenants.is_admin(session.connection)
        found = rights.whoami(session.connection)
    if chosen.format in ("json", "yaml"):
        write = output.write_json if chosen.format == "json" else output.write_yaml
        write(
            {
                "login": login,
                "administrator": admin,
                "principals": [
                    {
                        "tenant": one.tenant,
                        "name": one.principal,
                        "type": one.principal_type,
                        "roles": one.roles,
                    }
                    for one in found
                ],
            }
        )
        return
    every = "an administrator: everything, in every tenant"
    rows = [(one.tenant, one.principal, one.principal_type, one.roles) for one in found]
    output.write(f"Login: {login}" + (f" ({every})" if admin else "") + "\n")
    if rows:
        headers = ["TENANT", "PRINCIPAL", "TYPE", "ROLES"]
        write_table(headers, [(*row[:3], ",".join(row[3]) or None) for row in rows])
    elif not admin:
        output.note("It is nobody's in any tenant.", quiet=globals_of(ctx).quiet)


@app.command("can-i")
def can_i(
    ctx: typer.Context,
    verb: Annotated[
        str | None, typer.Argument(metavar="VERB", help=", ".join(VERBS), show_default=False)
    ] = None,
    kind: Annotated[str | None, typer.Argument(metavar="KIND", show_default=False)] = None,
    as_principal: Annotated[
        str | None, typer.Option("--as", metavar="PRINCIPAL", help="Ask for another; admins may")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--list", help="Everything there is to do, and why not")
    ] = False,
) -> int:
    """Say whether something is allowed, and which grant is missing where it is not.

    Exits 1 for no. What an agent's calls may do is another question: its
    skills, their grants and the approvals decide it. Where policies name
    others to approve what they ask about, stderr names these policies.

    Examples:
      aosctl auth can-i apply agents
      aosctl auth can-i approve approvals --as jane
      aosctl auth can-i export events
      aosctl auth can-i --list
    """
    from aosctl.cli.wiring import session_of

    if everything == bool(verb or kind) or (not everything and not (verb and kind)):
        raise UsageError("you must specify VERB and KIND, or --list")
    with closing(session_of(globals_of(ctx))) as session:
        session.require_tenant()
        if everything:
            _list(session, as_principal)
            return 0
        return _answer(session, (verb or "").lower(), _kind(kind or ""), as_principal)


@app.command("grant")
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

    if duration and until:
        raise UsageError("only one of --for / --until may be used")
    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        tenant = session.require_tenant()
        end = _end(session.connection, duration, until)
        done = rights.grant_role(session.connection, tenant, principal, role, end)
        output.write(f"principal.aos/{principal} {done}\n")
        _warn_of_group(session, principal, role)


@app.command("revoke")
def revoke(ctx: typer.Context, principal: PrincipalName, role: RoleName) -> None:
    """Take a role from a principal; it counts at once, in open sessions too.

    Example:
      aosctl auth revoke jane admin
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db import rights

    with closing(session_of(globals_of(ctx))) as session:
        rights.revoke_role(session.connection, session.require_tenant(), principal, role)
    output.write(f"principal.aos/{principal} revoked\n")


def _end(connection: Connection, duration: str | None, until: str | None) -> datetime | None:
    from aosctl.db import rights

    if duration:
        return rights.moment_from_now(connection, parse_duration(duration))
    return parse_moment(until) if until else None


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


def _answer(session: Session, verb: str, kind: str, principal: str | None) -> int:
    from aosctl.db import rights

    tenant = session.require_tenant()
    answer = rights.can_i(session.connection, tenant, _MEANS.get(verb, verb), kind, principal)
    output.write("yes\n" if answer.allowed else f"no - {answer.reason}\n")
    if answer.but and verb != "deny":
        output.note(f"warning: {answer.but}")
    return 0 if answer.allowed else 1


def _list(session: Session, principal: str | None) -> None:
    from aosctl.db import rights
    from aosctl.domain.kinds import KINDS

    kinds = [*(one.singular for one in KINDS), *_RECORDS]
    tenant = session.require_tenant()
    found = rights.everything(session.connection, tenant, VERBS, kinds, principal)
    rows = [
        (
            verb,
            kind,
            "yes" if answer.allowed else "no",
            "; but ".join(word for word in (answer.reason, answer.but) if word),
        )
        for verb, kind, answer in found
    ]
    write_table(["VERB", "KIND", "ALLOWED", "REASON"], rows)


def _kind(word: str) -> str:
    """Return the singular of a kind or a record that a person typed. Raises NotFound."""
    from aosctl.domain.inventory import readable_kind

    for record in _RECORDS:
        if word.lower() in (record, record + "s"):
            return record
    try:
        return readable_kind(word).singular
    except NotFound as error:
        raise NotFound(error.message, f"{error.hint}, approvals, events") from None
