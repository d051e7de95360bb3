"""`aosctl replace`: make what is there as the manifests say, and nothing new."""

from __future__ import annotations

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    ChangedText,
    DryRunText,
    Filenames,
    Recursive,
    load_documents,
    parse_dry_run,
    suffix,
)


def command(
    ctx: typer.Context,
    filename: Filenames = None,
    recursive: Recursive = False,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
) -> None:
    """Replace resources that are there by what the manifests say, all of it or nothing.

    What does not exist is an error: apply makes it. A manifest that holds metadata.generation
    replaces that generation only.

    Examples:
      aosctl replace -f agent.yaml
      aosctl get agent my_pg_bot -o yaml | sed s/gpt-4o/gpt-6/ | aosctl replace -f -
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(dry_run)
    documents = load_documents(filename, recursive, "replace")

    from aosctl.cli.applied import apply_only, write_applied

    keep, read_back = trial == "none", not chosen.is_table
    applied = apply_only(ctx, documents, "there", keep=keep, read_back=read_back)
    if chosen.is_table:
        output.write("".join(f"{one.name} replaced{suffix(trial)}\n" for one in applied))
    else:
        write_applied(applied, chosen, suffix(trial))
