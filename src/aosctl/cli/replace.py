"""`aosctl replace`: make what is there as the manifests say, and nothing new."""

from __future__ import annotations

from contextlib import closing

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
    tenancy_of,
)
from aosctl.cli.globals import globals_of


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

    from aosctl.cli.apply import write_applied
    from aosctl.cli.wiring import session_of
    from aosctl.domain.applying import apply_set

    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        applied = apply_set(
            session.connection,
            documents,
            tenancy_of(ctx),
            keep=trial == "none",
            read_back=not chosen.is_table,
            only="there",
        )
    if chosen.is_table:
        output.write("".join(f"{one.name} replaced{suffix(trial)}\n" for one in applied))
    else:
        write_applied(applied, chosen, suffix(trial))
