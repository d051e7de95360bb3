"""`aosctl apply`: make the database as the manifests say, all of them or none."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.applied import Way, write_applied
from aosctl.cli.flags import (
    ApplySet,
    ChangedText,
    DryRunText,
    Filenames,
    LockTimeout,
    Prune,
    PruneAllowlist,
    Recursive,
    Selector,
    WaitsForLocks,
    load_documents,
    members_of,
    parse_dry_run,
    patience_of,
    suffix,
    tenancy_of,
)
from aosctl.cli.globals import Globals, globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.domain.applying import Applied, Expected, Tenancy
    from aosctl.domain.document import Document
    from aosctl.domain.reading import Strangers


def command(
    ctx: typer.Context,
    filename: Filenames = None,
    recursive: Recursive = False,
    dry_run: DryRunText = "none",
    selector: Selector = None,
    prune: Prune = False,
    applyset: ApplySet = None,
    prune_allowlist: PruneAllowlist = None,
    show_diff: Annotated[
        bool, typer.Option("--diff", help="Show first what will change, as aosctl diff does")
    ] = False,
    confirm: Annotated[
        bool, typer.Option("--confirm", help="Ask before anything is changed")
    ] = False,
    validate: Annotated[
        str,
        typer.Option(
            "--validate", metavar="strict|warn|ignore", help="What to do about unknown fields"
        ),
    ] = "strict",
    atomic: Annotated[
        bool, typer.Option("--atomic/--no-atomic", help="All or nothing; else each by itself")
    ] = True,
    wait: WaitsForLocks = True,
    timeout: LockTimeout = None,
    output_format: ChangedText = None,
) -> None:
    """Create or change resources from manifests, all of a set or nothing.

    All files of one command are one transaction. Their documents may stand in any order.
    With --atomic=false each document is one: what is right is applied, what is wrong is told.
    An unknown field is an error; --validate=warn tells of it and leaves it out.
    With --applyset they carry the set's name as a label; --prune then deletes, in the tenants
    of the files alone, what was applied under that name and is in the files no more.
    What --diff shows and --confirm asks about is what happens: if it changed meanwhile,
    nothing does.

    Examples:
      aosctl apply -f agent.yaml
      aosctl apply -f manifests/quickstart -f more/ -R
      aosctl apply -f agent.yaml --dry-run=server
      aosctl apply -f agent.yaml --diff --confirm
      aosctl apply -f manifests/ --prune --applyset shop --dry-run=server
      aosctl apply -f manifests/ -l team=data --atomic=false
      cat agent.yaml | aosctl apply -f - -n tech_corp
    """
    way = Way(
        globals_of(ctx),
        output.parse_output(output_format, allowed=("json", "yaml", "name")),
        parse_dry_run(dry_run),
        members_of(applyset, prune=prune, allowlist=prune_allowlist),
        _strangers(validate),
        patience_of(timeout, waits=wait),
        show_diff,
        confirm,
    )
    if atomic:
        _apply_whole(
            ctx, way, load_documents(filename, recursive, "apply", selector, way.strangers)
        )
    else:
        _apply_partly(ctx, way, filename, recursive, selector)


def _apply_whole(ctx: typer.Context, way: Way, documents: Sequence[Document]) -> None:
    """Apply all of the documents or none, and say what became of them."""
    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import wait_for_others
    from aosctl.domain.applying import apply_set, compare_set

    tenancy = tenancy_of(ctx)
    with closing(session_of(way.given, select_tenant=False)) as session:
        wait_for_others(session.connection, way.patience)
        if way.trial == "client":
            compared = compare_set(session.connection, documents, tenancy, way.members)
            write_applied(compared, way.chosen, suffix(way.trial))
            return
        looks = way.show_diff or way.confirm
        applied = apply_set(
            session.connection,
            documents,
            tenancy,
            keep=way.keeps,
            read_back=way.chosen.format in ("json", "yaml"),
            expected=_looked_at(session, way, documents, tenancy) if looks else None,
            members=way.members,
        )
    write_applied(applied, way.chosen, suffix(way.trial))
    _after(way, documents, applied)


def _apply_partly(
    ctx: typer.Context,
    way: Way,
    files: list[str] | None,
    recursive: bool,
    selector: str | None,
) -> None:
    """Apply each document by itself. Raises at the end what was wrong with any."""
    from aosctl.cli.apply_partly import apply_each, right_documents
    from aosctl.cli.targets import raise_all

    right, errors = right_documents(files, recursive, selector, way.strangers)
    done, refused = apply_each(way, right, tenancy_of(ctx))
    names = {(one.document.kind, one.document.name) for one in done}
    _after(way, [one for one in right if (one.kind, one.name) in names], done)
    raise_all([*errors, *refused])


def _strangers(validate: str) -> Strangers:
    """Return who is told of unknown fields; None where they are errors. Raises UsageError."""
    if validate in ("strict", "true"):
        return None
    if validate == "warn":
        return lambda text: output.note(f"warning: {text}")
    if validate in ("ignore", "false"):
        return lambda _text: None
    raise UsageError(
        f'invalid - validate option "{validate}"; must be one of: strict (or true), warn, ignore'
        " (or false)"
    )


def _after(way: Way, documents: Sequence[Document], applied: Sequence[Applied]) -> None:
    """Remember the names of what was kept for completion; print the warnings."""
    _remember(way.given, documents if way.keeps else [])
    for warning in (text for one in applied for text in one.warnings):
        output.note(f"warning: {warning}")


def _remember(given: Globals, documents: Sequence[Document]) -> None:
    """Keep the names for completion, where the manifest leaves the tenant to the context."""
    from aosctl.cli.wiring import remember_names, target_of
    from aosctl.domain.kinds import BY_NAME

    here = [one for one in documents if one.tenant in (None, target_of(given).tenant)]
    for kind in dict.fromkeys(one.kind for one in here):
        names = [one.name for one in here if one.kind == kind]
        remember_names(given, BY_NAME[kind].words, names, whole=False)


def _looked_at(
    session: Session, way: Way, documents: Sequence[Document], tenancy: Tenancy
) -> Expected:
    """Try it, show what would change, ask; return what stood there.

    Raises AosError where the person says no, UsageError where nobody can be asked.
    """
    from aosctl.cli.confirm import agree
    from aosctl.domain.applying import apply_set
    from aosctl.domain.cluster import key

    tried = apply_set(
        session.connection, documents, tenancy, keep=False, read_back=True, members=way.members
    )
    if way.show_diff:
        from aosctl.cli.diff import show

        sys.stdout.flush()
        show(tried)
        sys.stdout.flush()
    changes = [one for one in tried if one.outcome != "unchanged"]
    if way.confirm and changes:
        lines = [f"  {one.name} {one.outcome}{_owner(one)}" for one in changes]
        where = f"{session.connection.info.dbname} ({session.target.source})"
        agree("\n".join([f"In the database {where}:", *lines, "Apply?"]))
    return {key(one.document): one.live for one in tried}


def _owner(one: Applied) -> str:
    return f" in {one.document.tenant}" if one.document.tenant else ""
