"""Flags that several verbs share, and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.domain.applying import Tenancy
    from aosctl.domain.applysets import Members
    from aosctl.domain.document import Document
    from aosctl.domain.reading import Strangers

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
    typer.Option(
        "-o",
        "--output",
        metavar="FORMAT",
        help="json, yaml, wide, name, jsonpath=…, custom-columns=…",
    ),
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

PruneAllowlist = Annotated[
    list[str] | None,
    typer.Option(
        "--prune-allowlist", metavar="KIND", help="With --prune: delete of this kind only"
    ),
]
Prune = Annotated[
    bool,
    typer.Option("--prune", help="Delete what of the apply-set the files hold no more"),
]
ApplySet = Annotated[
    str | None,
    typer.Option("--applyset", metavar="NAME", help="What is applied belongs to this set"),
]

WaitsForLocks = Annotated[
    bool,
    typer.Option("--wait/--no-wait", help="Wait for what another session holds; else fail at once"),
]
LockTimeout = Annotated[
    str | None,
    typer.Option(
        "--timeout", metavar="TIME", help="Wait so long for another session: 30s, 5m; 0: for ever"
    ),
]

DryRun = Literal["none", "client", "server"]


def patience_of(timeout: str | None, *, waits: bool) -> int | None:
    """Return how long to wait for other sessions, in milliseconds; 0: for ever. Raises UsageError.

    None: as the server, or the login, has it set. The least that PostgreSQL can wait, a
    millisecond, stands for not at all.
    """
    if not waits:
        return 1
    if timeout is None:
        return None
    if timeout in ("0", "0s"):
        return 0
    from aosctl.cli.moments import parse_duration

    return max(round(parse_duration(timeout).total_seconds() * 1000), 1)


def parse_dry_run(text: str) -> DryRun:
    """Return what --dry-run says. Raises UsageError in kubectl's words."""
    if text not in ("none", "client", "server"):
        raise UsageError(f'Invalid dry-run value ({text}). Must be "none", "server", or "client".')
    return cast(DryRun, text)


def suffix(dry_run: DryRun) -> str:
    """Return what follows a result that did not happen."""
    return {"none": "", "client": " (dry run)", "server": " (server dry run)"}[dry_run]


def load_documents(
    files: list[str] | None,
    recursive: bool,
    verb: str = "apply",
    selector: str | None = None,
    strangers: Strangers = None,
) -> tuple[Document, ...]:
    """Read the manifests that -f names, those with the labels, before anything is connected.

    `strangers` is told of fields that no kind has; without it they are refused.
    """
    from aosctl.domain.manifest import load

    documents = load(given_files(files, verb), recursive=recursive, verb=verb, strangers=strangers)
    return with_labels(documents, selector, verb)


def given_files(files: list[str] | None, verb: str) -> list[str]:
    """Return what -f names. Raises UsageError where it names nothing."""
    if not files:
        raise UsageError("must specify -f", f"aosctl {verb} -f FILE; - reads standard input")
    return files


def with_labels(
    documents: tuple[Document, ...], selector: str | None, verb: str
) -> tuple[Document, ...]:
    """Return the documents that -l selects. Raises ManifestError where it selects none."""
    if selector is None:
        return documents
    from aosctl.domain.selectors import parse_selector
    from aosctl.errors import ManifestError

    matches = parse_selector(selector)
    found = tuple(one for one in documents if matches(one.labels))
    if not found:
        raise ManifestError(
            f"no objects passed to {verb}", f"none of the {len(documents)} has the labels of -l"
        )
    return found


def members_of(applyset: str | None, *, prune: bool, allowlist: list[str] | None = None) -> Members:
    """Return the apply-set that is meant, and the kinds of it that go. Raises UsageError."""
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
    if allowlist and not prune:
        raise UsageError("--prune-allowlist belongs to --prune")
    kinds = frozenset(_kind_of(text) for text in allowlist) if allowlist else None
    return Members(applyset, prune, kinds)


def _kind_of(text: str) -> str:
    """Return the kind that `aos/v1/Persona`, or a kind's word, names. Raises UsageError."""
    from aosctl.domain.inventory import readable_kind

    version, slash, word = text.rpartition("/")
    if slash and version != "aos/v1":
        raise UsageError(
            f"invalid GroupVersionKind format: {text}, please follow <group/version/kind>",
            "such as aos/v1/Persona",
        )
    kind = readable_kind(word)
    if kind.read_only or not kind.tenanted:
        raise UsageError(f"{kind.plural} are in no apply-set, and are not pruned")
    return kind.name


def tenancy_of(ctx: typer.Context) -> Tenancy:
    """Return the tenant of -n, which binds, and the one that is set elsewhere, which fills in."""
    from aosctl.cli.globals import globals_of
    from aosctl.cli.wiring import target_of
    from aosctl.domain.applying import Tenancy

    given = globals_of(ctx)
    return Tenancy(given.tenant, target_of(given).tenant)
