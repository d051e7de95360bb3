"""Flags that several verbs share, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.domain.applying import Tenancy
    from aosctl.domain.applysets import Members
    from aosctl.domain.document import Document

Filenames = Annotated[
    list[str] | None,
    typer.Option(
        "-f", "--filename", metavar="FILE", help="File, folder, glob, URL, or - for stdin"
    ),
]
Recursive = Annotated[
    bool, typer.Option("-R", "--recursive", help="Look into sub-folders of -f too")
]
DryRunText = Annotated[
    str,
    typer.Option(
        "--dry-run",
        metavar="none|client|server",
        help="client: compare only; server: the real change, rolled back",
    ),
]
OutputText = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="FORMAT", help="json, yaml, wide, name, jsonpath=…"),
]
ChangedText = Annotated[
    str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json, yaml or name")
]
"""What is printed of what a verb has changed or waited for."""


def _read_selector(text: str | None) -> str | None:
    """Return a selector as it was typed. Raises UsageError before anything is connected."""
    if text is not None:
        from aosctl.domain.selectors import parse_selector

        parse_selector(text)
    return text


Selector = Annotated[
    str | None,
    typer.Option(
        "-l",
        "--selector",
        metavar="LABELS",
        help="Only what has these labels: a=b,c!=d",
        callback=_read_selector,
    ),
]
FieldSelector = Annotated[
    str | None,
    typer.Option(
        "--field-selector", metavar="FIELDS", help="Only what has these fields: status.state=idle"
    ),
]
SortBy = Annotated[
    str | None, typer.Option("--sort-by", metavar="JSONPATH", help="Sort by this field")
]
AllTenants = Annotated[
    bool,
    typer.Option("-A", "--all-tenants", "--all-namespaces", help="In every tenant you may see"),
]
NoHeaders = Annotated[bool, typer.Option("--no-headers", help="Print the rows only")]
IgnoreNotFound = Annotated[
    bool, typer.Option("--ignore-not-found", help="Take what does not exist for done")
]

Prune = Annotated[
    bool,
    typer.Option("--prune", help="Delete what of the apply-set the files hold no more"),
]
ApplySet = Annotated[
    str | None,
    typer.Option("--applyset", metavar="NAME", help="What is applied belongs to this set"),
]

DryRun = Literal["none", "client", "server"]


def parse_dry_run(text: str) -> DryRun:
    """Return what --dry-run says. Raises UsageError in kubectl's words."""
    if text not in ("none", "client", "server"):
        raise UsageError(f'Invalid dry-run value ({text}). Must be "none", "server", or "client".')
    return cast(DryRun, text)


def suffix(dry_run: DryRun) -> str:
    """Return what follows a result that did not happen."""
    return {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]


def load_documents(
    files: list[str] | None, recursive: bool, verb: str = "apply"
) -> tuple[Document, ...]:
    """Read the manifests that -f names, before anything is connected."""
    from aosctl.domain.manifest import load

    if not files:
        raise UsageError("must specify -f", f"aosctl {verb} -f FILE; - reads standard input")
    return load(files, recursive=recursive, verb=verb)


def members_of(applyset: str | None, *, prune: bool) -> Members:
    """Return the apply-set that is meant. Raises UsageError."""
    import re

    from aosctl.domain.applysets import Members
    from aosctl.domain.names import NAME_PATTERN, NAME_RULE

    if prune and applyset is None:
        raise UsageError(
            "--prune needs --applyset NAME: it deletes what was applied under this name before",
            "aosctl apply -f FILES --prune --applyset NAME --dry-run=server",
        )
    if applyset is not None and not re.fullmatch(f"{NAME_PATTERN}(?<![_.-])", applyset):
        raise UsageError(f"--applyset takes a name: {NAME_RULE}, and the last one too")
    return Members(applyset, prune)


def tenancy_of(ctx: typer.Context) -> Tenancy:
    """Return the tenant of -n, which binds, and the one that is set elsewhere, which fills in."""
    from aosctl.cli.globals import globals_of
    from aosctl.cli.wiring import target_of
    from aosctl.domain.applying import Tenancy

    given = globals_of(ctx)
    return Tenancy(given.tenant, target_of(given).tenant)
