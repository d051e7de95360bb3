"""Which part of the audit trail a verb is about: -n, --run and --since."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli.globals import globals_of
from aosctl.cli.moments import read_since
from aosctl.errors import Denied, NotFound
from aosctl.private_file import new_private_file
from aosctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aosctl.db.audit import AuditTenant, Scope
    from aosctl.db.connection import Session

Run = Annotated[str | None, typer.Option("--run", metavar="RUN", help="Only this run")]
Since = Annotated[
    str | None,
    typer.Option(
        "--since",
        metavar="TIME",
        help="Only events since 90d, 12h, or an RFC 3339 time",
        callback=read_since,
    ),
]
KeyFile = Annotated[
    Path | None, typer.Option("--key", metavar="FILE", help="The private key to sign with")
]
Target = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a new file")
]


def session_of(ctx: typer.Context) -> Session:
    """Connect as the person; no tenant is selected yet."""
    from aosctl.cli import wiring

    return wiring.session_of(globals_of(ctx), select_tenant=False)


def tenants_of(session: Session, *, taking: bool = False) -> tuple[list[AuditTenant], bool]:
    """Return the tenants that are meant, and whether these are all there are.

    `taking`: those whose trail the login may take away, not only verify. Raises NotFound, Denied.
    """
    from aosctl.db import audit
    from aosctl.db.tenants import choose, is_admin

    found = audit.audit_tenants(session.connection)
    name = session.target.tenant
    named = [tenant for tenant in found if name in (None, tenant.name)]
    if taking and named:
        known = audit.audit_tenants(session.connection, "auditor")
        named = [tenant for tenant in named if tenant in known]
        if not named:
            where = "any tenant" if name is None else f'tenant "{name}"'
            raise Denied(
                f'taking the audit trail away needs the role "auditor" in {where}',
                "an admin of the tenant can grant it; `aosctl audit verify` needs none",
            )
    if name is not None and not named:
        names = ", ".join(tenant.name for tenant in found) or "none"
        raise NotFound(f'tenant "{name}" not found', f"tenants you may audit: {names}")
    live = [tenant for tenant in named if tenant.deleted_at is None]
    if len(live) == 1:
        choose(session.connection, live[0].tenant_id)
    return named, name is None and is_admin(session.connection)


def narrow(
    session: Session, tenants: list[AuditTenant], run: str | None, since: str | None
) -> tuple[list[AuditTenant], Scope]:
    """Return the tenants and the scope that --run and --since leave. Raises NotFound."""
    from aosctl.cli.moments import parse_since
    from aosctl.db import audit
    from aosctl.db.runs import find_run

    moment = parse_since(since) if since is not None else None
    if run is None:
        return tenants, audit.Scope(None, moment)
    only = tenants[0].tenant_id if len(tenants) == 1 else None
    row = find_run(session.connection, only, run)
    kept = [tenant for tenant in tenants if tenant.tenant_id == row.tenant_id]
    return kept, audit.Scope(row.run_id, moment)


def write_texts(texts: Iterator[str], target: str | None) -> None:
    """Write to stdout, or into a new file that only its owner may read; none if that fails.

    What a terminal could act on stands as an escape of JSON, there as well as in a file that
    is printed one day. Raises UsageError for a file that is there, or can't be made.
    """
    if target is None:
        sys.stdout.writelines(map(_harmless, texts))
        return
    with new_private_file(Path(target)) as file:
        file.writelines(map(_harmless, texts))


def _harmless(text: str) -> str:
    """Escape what JSON leaves as it is; ASCII but for DEL is harmless, and told apart quickly."""
    return text if text.isascii() and "\x7f" not in text else visible(text)
