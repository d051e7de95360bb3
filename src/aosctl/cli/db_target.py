"""The database that a `db` verb acts on, and how it is reached as its owner and as the worker."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.config import Target, resolve_target
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Connection


def target_of(ctx: typer.Context) -> Target:
    """Return the database that flags, environment and config choose."""
    return resolve_target(globals_of(ctx), os.environ)


def embedded_only(ctx: typer.Context) -> None:
    """Refuse --dsn and --context on a verb that acts on the embedded database."""
    given = globals_of(ctx)
    if given.dsn or given.context:
        flag = "--dsn" if given.dsn else "--context"
        raise UsageError(f"{given.verb} acts on the embedded database; it takes no {flag}")


def progress_of(ctx: typer.Context) -> Callable[[str], None]:
    """Return what prints a slow step to stderr."""
    quiet = globals_of(ctx).quiet
    return lambda line: output.note(line, quiet=quiet)


def owner_conninfo(ctx: typer.Context) -> str:
    """Return the conninfo of the person's connection; starts the embedded database if need be."""
    from aosctl.db.connection import person_conninfo

    return person_conninfo(target_of(ctx), progress_of(ctx))


def worker_of(ctx: typer.Context) -> str:
    """Return the conninfo of the worker's connection."""
    from aosctl.db.worker_login import worker_dsn

    return worker_dsn(target_of(ctx), owner_conninfo(ctx))


def worker_remarks(target: Target, worker: str, verb: str) -> tuple[str, ...]:
    """Try the worker's connection; return what is left to do for it."""
    from aosctl.db.worker_login import connect_worker

    try:
        connect_worker(worker, verb).close()
    except AosError as error:
        name = target.context or "NAME"
        return (
            f"the worker can't connect yet: {error.message}",
            "give aos_worker a password (\\password aos_worker in psql) or a line in pg_hba.conf,"
            f" and name its connection: aosctl config set-context {name} --worker DSN",
        )
    return ()


def connect_owner(ctx: typer.Context) -> Connection:
    """Connect as the person. Raises DatabaseUnavailable in one line."""
    from aosctl.db.connection import connect

    return connect(owner_conninfo(ctx), globals_of(ctx).verb, tried=target_of(ctx).tried)
