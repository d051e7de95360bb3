"""`aosctl delete`: remove resources by name or as manifests name them."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.delete_named import Plan, agrees, delete_chosen, print_deleted
from aosctl.cli.flags import (
    DryRun,
    DryRunText,
    FieldSelector,
    Filenames,
    IgnoreNotFound,
    LockTimeout,
    Recursive,
    Selector,
    WaitsForLocks,
    load_documents,
    parse_dry_run,
    patience_of,
    tenancy_of,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.cli.targets import Wanted


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
    interactive: Annotated[
        bool, typer.Option("-i", "--interactive", help="List what goes, and ask first")
    ] = False,
    cascade: Annotated[
        str | None,
        typer.Option(
            "--cascade",
            metavar="foreground|background",
            help="Delete what can't be without it too, in one transaction",
        ),
    ] = None,
    field_selector: FieldSelector = None,
    wait: WaitsForLocks = True,
    timeout: LockTimeout = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="name")
    ] = None,
) -> None:
    """Delete resources, by name or as manifests name them.

    What -f names is deleted in one transaction, or nothing of it; names are deleted one by one.
    What is still used is not deleted, unless --cascade takes the agents of a persona and the
    budgets of an agent with it. Runs stay: aosctl kill ends them. An allowance is taken back:
    what it let pass is asked about again. A tenant goes
    with all that it has only when --confirm repeats its name; of its events there stays
    a tombstone that still verifies.

    Examples:
      aosctl delete agent my_pg_bot
      aosctl delete persona/old skill/old
      aosctl delete -f manifests/quickstart
      aosctl delete agents -l team=data -i
      aosctl delete persona old --cascade=foreground --dry-run=server
      aosctl delete allowance 3f2a91cc
      aosctl delete tenant acme --confirm=acme
    """
    chosen = output.parse_output(output_format, allowed=("name",))
    trial = parse_dry_run(dry_run)
    selective = selector is not None or field_selector is not None
    _check_cascade(cascade)
    patience = patience_of(timeout, waits=wait)
    if filename and words:
        raise UsageError("-f says what to delete: leave the names out")
    if confirm is not None:
        _erase_tenant(ctx, words or [], confirm, trial, chosen, patience)
        return
    if not filename:
        wanted = _wanted(words or [], selective=selective, everything=everything)
        if field_selector is not None:
            from aosctl.domain.field_selectors import parse_field_selector

            parse_field_selector(field_selector, [one.kind for one in wanted])
        cascades = cascade is not None
        plan = Plan(selector or "", field_selector or "", interactive, cascades, patience)
        delete_chosen(ctx, wanted, plan, ignore_not_found, trial, chosen)
        return
    documents = load_documents(filename, recursive, "delete", selector)

    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import wait_for_others
    from aosctl.domain.applying import delete_set
    from aosctl.domain.kinds import BY_NAME

    if (
        interactive
        and trial == "none"
        and not agrees([BY_NAME[one.kind].qualified(one.name) for one in documents])
    ):
        return
    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        wait_for_others(session.connection, patience)
        deleted = delete_set(
            session.connection,
            documents,
            tenancy_of(ctx),
            ignore_missing=ignore_not_found,
            keep=trial == "none",
            only_look=trial == "client",
        )
    for document in deleted:
        print_deleted(BY_NAME[document.kind], document.name, trial, chosen)


def _check_cascade(cascade: str | None) -> None:
    """Raise UsageError for what --cascade can't do."""
    if cascade == "orphan":
        raise UsageError(
            "nothing here may name what is not there: --cascade=orphan is not built",
            "--cascade=foreground deletes what names it too",
        )
    if cascade not in (None, "foreground", "background"):
        raise UsageError(f'--cascade must be foreground or background, not "{cascade}"')


def _erase_tenant(
    ctx: typer.Context,
    words: list[str],
    confirm: str,
    trial: DryRun,
    chosen: output.Output,
    patience: int | None,
) -> None:
    """Erase one tenant with all that it has (aos_auth.erase_tenant)."""
    from functools import partial

    from aosctl.cli.targets import parse_targets
    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import in_transaction, wait_for_others
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
        wait_for_others(session.connection, patience)
        erase = partial(erase_tenant, session.connection, name, confirm)
        runs, rows = in_transaction(session.connection, erase, keep=trial == "none")
    print_deleted(wanted[0].kind, name, trial, chosen)
    gone = f"{counted(runs, 'run')}, {counted(rows, 'row')}"
    output.note(f"erased: {gone}; its events stay", quiet=globals_of(ctx).quiet)


def _wanted(words: list[str], *, selective: bool, everything: bool) -> list[Wanted]:
    """Read what to delete; nothing is deleted for want of a name. Raises UsageError."""
    from aosctl.cli.picking import check_choice
    from aosctl.cli.targets import parse_targets

    if not words:
        raise UsageError("must specify what to delete: KIND NAME…, or -f FILE")
    wanted = parse_targets(words, "delete")
    for record in (one.kind for one in wanted if one.kind.read_only):
        if record.name == "Allowance":
            continue
        if record.name == "Run":
            raise UsageError("runs are not deleted: their events are kept", "aosctl kill RUN")
        raise UsageError(f"{record.plural} are not deleted: they go as spec.retention says")
    named = any(one.names for one in wanted)
    check_choice(by_name=named, selective=selective, everything=everything)
    return wanted
