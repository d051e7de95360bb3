"""The verbs of `aosctl audit` that take something away: heads, the trail, old content."""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.audit_scope import (
    KeyFile,
    Run,
    Since,
    Target,
    narrow,
    session_of,
    tenants_of,
    write_texts,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.db.audit import AuditTenant
    from aosctl.db.connection import Session


def register(app: typer.Typer) -> None:
    """Add the verbs of this file to `aosctl audit`."""
    for name, verb in _VERBS.items():
        app.command(name)(verb)


def write_checkpoint(
    ctx: typer.Context,
    target: Target = None,
    key: KeyFile = None,
) -> None:
    """Sign the heads of all chains, to be kept where the database's owners can't reach it.

    The key is made at its first use, beside the config file; --key names another.
    Nothing of it is ever in the database. Needs the role auditor.

    Examples:
      aosctl audit checkpoint -o heads-2026-11.aos
      aosctl audit checkpoint | ssh vault 'cat > heads.aos'
    """
    from aosctl.db import audit
    from aosctl.domain.audit import checkpoint, signing

    path = key or signing.default_path(os.environ)
    private, is_new = signing.load_or_make(path)
    if is_new:
        output.note(f"new key in {path}; its public key: {signing.public_of(private)}")
    with closing(session_of(ctx)) as session, audit.snapshot(session.connection):
        tenants, complete = tenants_of(session, taking=True)
        texts = checkpoint.write(
            session.connection, session.kernel, tenants, private, complete=complete
        )
        write_texts(texts, target)


def print_public_key(key: KeyFile = None) -> None:
    """Print the public key of the key that signs checkpoints, for `verify --public-key`.

    Examples:
      aosctl audit public-key > heads.pub
      aosctl audit verify --checkpoint heads.aos --public-key heads.pub
    """
    from aosctl.domain.audit import signing

    path = key or signing.default_path(os.environ)
    if not path.exists():
        raise NotFound(f"there is no key in {path}", "aosctl audit checkpoint makes one")
    output.write(signing.public_of(signing.load(path)) + "\n")


def export(
    ctx: typer.Context,
    run: Run = None,
    since: Since = None,
    target: Target = None,
) -> None:
    """Write the trail as JSON Lines: all that `verify --file` needs, and no content.

    Needs the role auditor.

    Examples:
      aosctl audit export | gzip > trail.jsonl.gz
      aosctl audit export -n acme --since 30d -o trail.jsonl
    """
    from aosctl.db import audit
    from aosctl.domain.audit import export as trail

    with closing(session_of(ctx)) as session, audit.snapshot(session.connection):
        tenants, complete = tenants_of(session, taking=True)
        tenants, scope = narrow(session, tenants, run, since)
        texts = trail.texts(session.connection, session.kernel, tenants, scope, complete=complete)
        write_texts(texts, target)


def prune(
    ctx: typer.Context,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would go, and keep it")
    ] = False,
) -> None:
    """Let go what tenants keep no longer (spec.retention of kind Tenant).

    The content of runs that were closed long enough ago: their messages, arguments and
    results. Their events stay and still verify. Months of the event log that no tenant
    keeps any more are dropped, by an administrator, when -n names no tenant.

    Examples:
      aosctl audit prune -n acme --dry-run
      aosctl audit prune
    """
    from aosctl.db import audit

    with closing(session_of(ctx)) as session:
        tenants, complete = tenants_of(session)
        runs = 0
        with audit.trial(session.connection, keep=not dry_run):
            for tenant in tenants:
                if tenant.deleted_at is None:
                    runs += _prune_tenant(session, tenant, dry_run)
            months = audit.prune_events(session.connection) if complete else []
            for month in months:
                output.write(f"{month} dropped{' (dry run)' if dry_run else ''}\n")
    if not runs and not months:
        output.note("Nothing to let go: no tenant's retention is over", quiet=globals_of(ctx).quiet)


def _prune_tenant(session: Session, tenant: AuditTenant, dry_run: bool) -> int:
    """Erase what is due of a tenant, and say so; return of how many runs."""
    from aosctl.db import audit

    runs, steps, more = 0, 0, True
    while more:
        some, messages, more = audit.prune_content(session.connection, tenant.tenant_id)
        runs, steps = runs + some, steps + messages
    if runs:
        done = " (dry run)" if dry_run else ""
        output.write(f"{tenant.name}: content of runs erased: {runs} (messages {steps}){done}\n")
    return runs


_VERBS: dict[str, Callable[..., None]] = {
    "checkpoint": write_checkpoint,
    "public-key": print_public_key,
    "export": export,
    "prune": prune,
}
