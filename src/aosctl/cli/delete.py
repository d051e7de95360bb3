"""`aosctl delete`: remove resources by name or as manifests name them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    DryRun,
    DryRunText,
    Filenames,
    IgnoreNotFound,
    Recursive,
    Selector,
    load_documents,
    parse_dry_run,
    suffix,
    tenancy_of,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, DatabaseUnavailable, NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aosctl.cli.targets import Wanted
    from aosctl.db.connection import Session
    from aosctl.domain.kinds import Kind
    from aosctl.domain.selectors import Labels


def command(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="KIND NAME… | KIND/NAME…", show_default=False)
    ] = None,
    filename: Filenames = None,
    recursive: Recursive = False,
    selector: Selector = None,
    everything: Annotated[bool, typer.Option("--all", help="All of the kinds named")] = False,
    ignore_not_found: IgnoreNotFound = False,
    dry_run: DryRunText = "none",
    confirm: Annotated[
        str | None,
        typer.Option("--confirm", metavar="NAME", help="Erase this tenant with all that it has"),
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="name")
    ] = None,
) -> None:
    """Delete resources, by name or as manifests name them.

    What -f names is deleted in one transaction, or nothing of it; names are deleted one by one.
    What is still used is not deleted. Runs stay: aosctl kill ends them. A tenant goes
    with all that it has only when --confirm repeats its name; of its events there stays
    a tombstone that still verifies.

    Examples:
      aosctl delete agent my_pg_bot
      aosctl delete persona/old skill/old
      aosctl delete -f manifests/quickstart
      aosctl delete tenant acme --confirm=acme
    """
    chosen = output.parse_output(output_format, allowed=("name",))
    trial = parse_dry_run(dry_run)
    if filename and (words or selector is not None or everything):
        raise UsageError("-f says what to delete; names, -l and --all can't be added to it")
    if confirm is not None:
        if filename or selector is not None or everything:
            raise UsageError("--confirm is for one tenant that is named")
        _erase_tenant(ctx, words or [], confirm, trial, chosen)
        return
    if not filename:
        wanted = _wanted(words or [], selective=selector is not None or everything)
        _delete_named(ctx, wanted, selector or "", ignore_not_found, trial, chosen)
        return
    documents = load_documents(filename, recursive, "delete")

    from aosctl.cli.wiring import session_of
    from aosctl.domain.applying import delete_set
    from aosctl.domain.kinds import BY_NAME

    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        deleted = delete_set(
            session.connection,
            documents,
            tenancy_of(ctx),
            ignore_missing=ignore_not_found,
            keep=trial == "none",
            only_look=trial == "client",
        )
    for document in deleted:
        _print(BY_NAME[document.kind], document.name, trial, chosen)


def _delete_named(
    ctx: typer.Context,
    wanted: list[Wanted],
    selector: str,
    ignore_missing: bool,
    trial: DryRun,
    chosen: output.Output,
) -> None:
    from aosctl.cli.resource_table import note_none
    from aosctl.cli.targets import raise_all
    from aosctl.cli.wiring import session_of
    from aosctl.domain.selectors import parse_selector

    given = globals_of(ctx)
    errors: list[AosError] = []
    count = 0
    with closing(session_of(given)) as session:
        for one, name in _chosen(session, wanted, parse_selector(selector)):
            try:
                _delete(session, one, name, trial)
            except NotFound:
                errors += [] if ignore_missing else [one.missing(name)]
            except DatabaseUnavailable:
                raise
            except AosError as error:
                errors.append(error)
            else:
                count += 1
                _print(one.kind, name, trial, chosen)
    if not count and not errors and not wanted[0].names:
        note_none(session.tenant, quiet=given.quiet)
    raise_all(errors)


def _erase_tenant(
    ctx: typer.Context, words: list[str], confirm: str, trial: DryRun, chosen: output.Output
) -> None:
    """Erase one tenant with all that it has (aos_auth.erase_tenant)."""
    from functools import partial

    from aosctl.cli.targets import parse_targets
    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import in_transaction
    from aosctl.db.tenants import erase_tenant
    from aosctl.repl.words import counted

    wanted = parse_targets(words, "delete") if words else []
    names = wanted[0].names or () if len(wanted) == 1 and wanted[0].kind.name == "Tenant" else ()
    if len(names) != 1:
        raise UsageError("--confirm is for one tenant: aosctl delete tenant NAME --confirm=NAME")
    name = names[0]
    if confirm != name:
        raise UsageError(f'--confirm says "{confirm}", and the tenant is "{name}"')
    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        if trial == "client":
            raise UsageError("try it with --dry-run=server")
        erase = partial(erase_tenant, session.connection, name, confirm)
        runs, rows = in_transaction(session.connection, erase, keep=trial == "none")
    _print(wanted[0].kind, name, trial, chosen)
    gone = f"{counted(runs, 'run')}, {counted(rows, 'row')}"
    output.note(f"erased: {gone}; its events stay", quiet=globals_of(ctx).quiet)


def _wanted(words: list[str], *, selective: bool) -> list[Wanted]:
    """Read what to delete; nothing is deleted for want of a name. Raises UsageError."""
    from aosctl.cli.targets import parse_targets

    if not words:
        raise UsageError("must specify what to delete: KIND NAME…, or -f FILE")
    wanted = parse_targets(words, "delete")
    for record in (one.kind for one in wanted if one.kind.read_only):
        if record.name == "Run":
            raise UsageError("runs are not deleted: their events are kept", "aosctl kill RUN")
        raise UsageError(f"{record.plural} are not deleted: they go as spec.retention says")
    named = any(one.names for one in wanted)
    if named and selective:
        raise UsageError("names exclude -l and --all")
    if not named and not selective:
        raise UsageError("resource(s) were provided, but no name was specified")
    return wanted


def _chosen(
    session: Session, wanted: list[Wanted], matches: Callable[[Labels], bool]
) -> Iterator[tuple[Wanted, str]]:
    """Yield what to delete by name; kinds that refer to others first, where none is named."""
    from aosctl.domain import inventory

    order = {kind.name: place for place, kind in enumerate(inventory.READABLE)}
    if not wanted[0].names:
        wanted = sorted(wanted, key=lambda one: -order[one.kind.name])
    for one in wanted:
        if one.names:
            yield from ((one, name) for name in one.names)
            continue
        tenant = session.require_tenant() if one.kind.tenanted else None
        for row in inventory.resources(session.connection, one.kind, tenant):
            if matches(row.labels):
                yield one, row.name


def _delete(session: Session, wanted: Wanted, name: str, trial: DryRun) -> None:
    """Delete one resource in a transaction of its own. Raises NotFound, Conflict."""
    from aosctl.domain import inventory
    from aosctl.domain.applying import delete_named

    kind, connection = wanted.kind, session.connection
    tenant = session.require_tenant() if kind.tenanted else None
    if trial == "client":
        if not inventory.resources(connection, kind, tenant, [name]):
            raise wanted.missing(name)
        return
    delete_named(connection, kind, tenant, name, keep=trial == "none")


def _print(kind: Kind, name: str, trial: DryRun, chosen: output.Output) -> None:
    if chosen.format == "name":
        output.write(f"{kind.qualified(name)}\n")
    else:
        output.write(f'{kind.singular}.aos "{name}" deleted{suffix(trial)}\n')
