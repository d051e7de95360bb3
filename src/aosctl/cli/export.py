"""`aosctl export`: take everything of a tenant away."""

from __future__ import annotations

from contextlib import closing
from typing import Annotated

import typer

from aosctl.cli.audit_scope import Target, session_of, write_texts
from aosctl.errors import NotFound

app = typer.Typer(
    help="""Take everything of a tenant away, as JSON Lines.

Examples:
  aosctl export tenant acme -o acme.jsonl""",
    rich_markup_mode=None,
)


@app.callback()
def group() -> None:
    """Keep `tenant` a word of its own."""


@app.command("tenant")
def tenant(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The tenant")],
    target: Target = None,
) -> None:
    """Write every row of a tenant and its audit trail: a line each, in JSON.

    Manifests, runs, messages, calls, approvals, memories, documents and events, of one
    moment. No key, token or sealed value is among them. It needs the role admin in the tenant.

    Examples:
      aosctl export tenant acme -o acme.jsonl
    """
    import json

    from aosctl.db import audit
    from aosctl.db.tenants import choose, tenant_id
    from aosctl.domain import tenant_archive

    with closing(session_of(ctx)) as session:
        found = tenant_id(session.connection, name)
        if found is None:
            raise NotFound(f'tenant "{name}" not found', "aosctl get tenants lists them")
        choose(session.connection, found)
        with audit.snapshot(session.connection):
            lines = tenant_archive.lines(session.connection, session.kernel, found, name)
            write_texts((json.dumps(line, ensure_ascii=False) + "\n" for line in lines), target)
