"""`aosctl db harden`: catalog revokes for SQL skills, opt-in."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.confirm import confirm
from aosctl.cli.db_target import connect_owner, progress_of, target_of
from aosctl.cli.globals import globals_of

if TYPE_CHECKING:
    from aosctl.db.connection import Connection


def harden(
    ctx: typer.Context,
    app_role: Annotated[
        list[str] | None,
        typer.Option(
            "--app-role", metavar="ROLE", help="A role that keeps what PUBLIC loses; repeatable"
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would change, and change nothing")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Give PUBLIC back what it lost")] = False,
    dump_sql: Annotated[
        bool, typer.Option("--dump-sql", help="Print the SQL instead, for psql -f")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Don't ask")] = False,
) -> None:
    """Take from PUBLIC the functions with which SQL skills leave residue.

    Settings, advisory locks, notifications, large objects, sleep, other sessions: the
    sandbox holds without this; it takes away what is left of nuisance. It acts on every
    login of the database: name those of other applications with --app-role. Needs a
    superuser. One transaction; running it again changes nothing.

    Examples:
      aosctl db harden --dsn 'host=db dbname=app user=postgres' --dry-run
      aosctl db harden --dsn 'host=db dbname=app user=postgres' --app-role web
      aosctl db harden --dsn 'host=db dbname=app user=postgres' --undo
    """
    from aosctl.db import hardening

    if dump_sql:
        output.write(hardening.script())
        return
    with closing(_connect_superuser(ctx)) as connection:
        name = connection.info.dbname
        if not (dry_run or undo):
            what = f'This takes catalog functions from every login of database "{name}"'
            kept = f", but for {', '.join(app_role)}" if app_role else ""
            confirm(what + kept, name, yes=yes)
        told = hardening.harden(connection, app_role or (), undo=undo, dry=dry_run)
    for line in told:
        output.write(f"{line}{' (dry run)' if dry_run else ''}\n")
    done = "is not hardened any more" if undo else "is hardened"
    done = "is as it was" if dry_run and told else "stays as it is" if dry_run else done
    output.note(f'database "{name}" {done}', quiet=globals_of(ctx).quiet)


def _connect_superuser(ctx: typer.Context) -> Connection:
    """Connect as the person; to the embedded database as its superuser, as this takes one."""
    if target_of(ctx).kind != "embedded":
        return connect_owner(ctx)
    from aosctl.db.connection import connect
    from aosctl.db.embedded import SUPERUSER, ensure_running

    server = ensure_running(progress=progress_of(ctx))
    return connect(server.dsn(SUPERUSER), globals_of(ctx).verb)
