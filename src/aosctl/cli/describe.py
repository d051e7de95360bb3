"""`aosctl describe`: one resource in detail, with its last changes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    AllTenants,
    Filenames,
    Recursive,
    Selector,
    load_documents,
    tenancy_of,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.cli.targets import Wanted
    from aosctl.db.rows import AnyConnection
    from aosctl.domain.document import Document
    from aosctl.domain.kinds import Kind
    from aosctl.domain.kinds.base import Resource

_FOR_AUDITORS = ("Principal", "Secret", "Tenant")
"""The kinds whose changes only auditors of the tenant read."""

_EVENTS = 10


def command(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="KIND [NAME…] | KIND/NAME…", show_default=False)
    ] = None,
    selector: Selector = None,
    all_tenants: AllTenants = False,
    filename: Filenames = None,
    recursive: Recursive = False,
    show_events: Annotated[
        bool, typer.Option("--show-events/--no-events", help="Show the last changes too")
    ] = True,
) -> None:
    """Show resources in detail; a name may also be the beginning of several.

    Examples:
      aosctl describe agent my_pg_bot
      aosctl describe persona/pg_expert skill/sql_query
      aosctl describe run my_pg_bot-x7k2p
      aosctl describe -f manifests/ -R --show-events=false
    """
    from aosctl.cli.resource_table import note_none
    from aosctl.cli.targets import are_named, parse_targets, raise_all
    from aosctl.cli.wiring import quick_session_of, remember_names
    from aosctl.domain.selectors import parse_selector

    if filename:
        if words:
            raise UsageError("-f says what to describe: leave the names out")
        _describe_files(ctx, load_documents(filename, recursive, "describe", selector), show_events)
        return
    wanted = parse_targets(words or (), "describe")
    are_named(wanted, selective=selector is not None, all_tenants=all_tenants)
    matches = parse_selector(selector or "")
    given = globals_of(ctx)
    everywhere = all_tenants or not any(one.kind.tenanted for one in wanted)
    parts: list[str] = []
    errors: list[AosError] = []
    with closing(quick_session_of(given, select_tenant=not everywhere)) as session:
        tenant = None if everywhere else session.require_tenant()
        for one in wanted:
            rows, missing = _find(session.connection, one, tenant, everywhere)
            errors += missing
            if not everywhere:
                names = [row.name for row in rows]
                remember_names(given, one.kind.words, names, whole=False)
            parts += [
                _describe(session.connection, one.kind, row, tenant, show_events)
                for row in rows
                if matches(row.labels)
            ]
    output.write("\n\n".join(parts))
    if not parts and not errors:
        note_none(session.tenant, quiet=given.quiet)
    raise_all(errors)


def _describe_files(ctx: typer.Context, documents: tuple[Document, ...], show_events: bool) -> None:
    """Show what stands of what manifests name."""
    from aosctl.cli.targets import Wanted, raise_all
    from aosctl.cli.wiring import session_of
    from aosctl.domain.cluster import Cluster, key
    from aosctl.domain.kinds import BY_NAME

    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        cluster = Cluster(session.connection)
        ready = cluster.with_tenants(documents, tenancy_of(ctx))
        there = cluster.read(ready)
        found = [there[key(one)] for one in ready if key(one) in there]
        parts = [
            _describe(session.connection, BY_NAME[row.kind], row, None, show_events)
            for row in found
        ]
    output.write("\n\n".join(parts))
    raise_all(
        [
            Wanted(BY_NAME[one.kind], None).missing(one.name)
            for one in ready
            if key(one) not in there
        ]
    )


def _find(
    connection: AnyConnection, wanted: Wanted, tenant: UUID | None, everywhere: bool
) -> tuple[list[Resource], list[AosError]]:
    """Read what is wanted; a name of nothing may be the beginning of names."""
    from aosctl.domain import inventory

    kind = wanted.kind
    if wanted.names is None:
        return inventory.resources(connection, kind, tenant, everywhere=everywhere), []
    found, missing = inventory.named(connection, kind, tenant, wanted.names)
    errors: list[AosError] = []
    everything = inventory.resources(connection, kind, tenant) if missing else []
    for name in missing:
        begun = [row for row in everything if row.name.startswith(name)]
        found += begun
        known = [row.name for row in everything]
        errors += [] if begun else [wanted.missing(name, known)]
    return found, errors


def _describe(
    connection: AnyConnection, kind: Kind, row: Resource, tenant: UUID | None, show_events: bool
) -> str:
    from aosctl.cli.description import format_entries

    text = format_entries(kind.describe(row))
    if not show_events or (kind.read_only and kind.name != "Run"):
        return text
    return text + _events(connection, kind, row, tenant)


def _events(connection: AnyConnection, kind: Kind, row: Resource, tenant: UUID | None) -> str:
    """Return the last events about a resource as a table, oldest first."""
    from aosctl.cli.table import age, cell, format_table
    from aosctl.domain import inventory

    changes = inventory.changes(connection, kind, row, tenant, _EVENTS)
    if not changes:
        return f"Events:  <none{', or for auditors' if kind.name in _FOR_AUDITORS else ''}>\n"
    lines = [["  AGE", "EVENT", "BY"], ["  ---", "-----", "--"]]
    lines += [[f"  {age(one.at)}", cell(one.kind), cell(one.actor)] for one in changes]
    return "Events:\n" + format_table(lines)
