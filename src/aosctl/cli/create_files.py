"""`aosctl create -f`: what manifests hold and is not there yet, all of it or nothing."""

from __future__ import annotations

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    ChangedText,
    DryRunText,
    Filenames,
    Recursive,
    Selector,
    load_documents,
    parse_dry_run,
    suffix,
)
from aosctl.errors import UsageError


def files(
    ctx: typer.Context,
    filename: Filenames = None,
    recursive: Recursive = False,
    selector: Selector = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
) -> int | None:
    """Make what the manifests hold; return None where no -f is given: then a kind is meant."""
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(dry_run)
    others = recursive or selector is not None or trial != "none" or output_format is not None
    if ctx.invoked_subcommand is not None and (filename or others):
        raise UsageError(
            "-f says what to make: leave the kind out"
            if filename
            else "flags stand after the kind: aosctl create KIND NAME --dry-run=client"
        )
    if not filename:
        if others:
            raise UsageError("must specify -f, or a kind", "aosctl create -f FILE")
        return None
    documents = load_documents(filename, recursive, "create", selector)

    from aosctl.cli.applied import apply_only, write_applied

    keep, read_back = trial == "none", not chosen.is_table
    made = apply_only(ctx, documents, "new", keep=keep, read_back=read_back)
    write_applied(made, chosen, suffix(trial))
    return 0
