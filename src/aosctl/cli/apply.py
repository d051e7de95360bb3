"""`aosctl apply`: make the database as the manifests say, all of them or none."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    DryRunText,
    Filenames,
    OutputText,
    Recursive,
    load_documents,
    parse_dry_run,
    suffix,
    tenancy_of,
)
from aosctl.cli.globals import globals_of

if TYPE_CHECKING:
    from aosctl.domain.applying import Applied


def command(
    ctx: typer.Context,
    filename: Filenames = None,
    recursive: Recursive = False,
    dry_run: DryRunText = "none",
    output_format: OutputText = None,
) -> None:
    """Create or change resources from manifests, all of a set or nothing.

    All files of one command are one transaction. Their documents may stand in any order.

    Examples:
      aosctl apply -f agent.yaml
      aosctl apply -f manifests/quickstart -f more/ -R
      aosctl apply -f agent.yaml --dry-run=server
      cat agent.yaml | aosctl apply -f - -n tech_corp
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(dry_run)
    documents = load_documents(filename, recursive)

    from aosctl.cli.wiring import session_of
    from aosctl.domain.applying import apply_set, compare_set

    tenancy = tenancy_of(ctx)
    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        if trial == "client":
            applied = compare_set(session.connection, documents, tenancy)
        else:
            applied = apply_set(
                session.connection,
                documents,
                tenancy,
                keep=trial == "none",
                read_back=chosen.format in ("json", "yaml"),
            )
    write_applied(applied, chosen, suffix(trial))
    for warning in (text for one in applied for text in one.warnings):
        output.note(f"warning: {warning}")


def write_applied(applied: list[Applied], chosen: output.Output, after: str) -> None:
    """Print what became of documents; `after` follows each outcome that did not happen."""
    if chosen.format == "name":
        output.write("".join(f"{one.name}\n" for one in applied))
    elif chosen.is_table:
        output.write("".join(f"{one.name} {one.outcome}{after}\n" for one in applied))
    else:
        from aosctl.domain.kinds import BY_NAME

        manifests = [
            BY_NAME[one.document.kind].to_manifest(one.merged)
            if one.merged
            else one.document.manifest()
            for one in applied
        ]
        output.write_objects(manifests, chosen, single=len(manifests) == 1)
