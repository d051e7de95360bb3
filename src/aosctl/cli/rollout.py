"""`aosctl rollout`: the versions of personas, and the way back to one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output
from aosctl.cli.flags import DryRunText, parse_dry_run, suffix
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.db.personas import PersonaVersion
    from aosctl.domain.kinds import Kind
    from aosctl.domain.kinds.base import Resource

app = typer.Typer(
    help="""Show a persona's versions, and go back to one.

Every change of what the model reads of a persona made a version, and all are kept.

Examples:
  aosctl rollout history persona/pg_expert
  aosctl rollout undo persona/pg_expert --to-revision 3""",
    rich_markup_mode=None,
)
Words = Annotated[list[str] | None, typer.Argument(metavar="persona/NAME…", show_default=False)]


@app.command("history")
def history(
    ctx: typer.Context,
    words: Words = None,
    number: Annotated[
        int | None, typer.Option("--revision", metavar="N", help="Show this version in detail")
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """List the versions of personas, or show one in detail.

    Examples:
      aosctl rollout history persona/pg_expert
      aosctl rollout history persona/pg_expert --revision 2
      aosctl rollout history persona/pg_expert --revision 2 -o yaml
    """
    from aosctl.cli.picking import choose, pick
    from aosctl.cli.wiring import quick_session_of
    from aosctl.domain import rollout

    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    choice = choose(_of_personas(words or ()), "show the history of", needs_choice=False)
    parts: list[str] = []
    objects: list[dict[str, Any]] = []
    with closing(quick_session_of(globals_of(ctx))) as session:
        tenant = session.require_tenant()
        for kind, row in pick(session.connection, tenant, choice):
            found = rollout.history(session.connection, tenant, row)
            if number is not None:
                found = [rollout.revision(found, number, row.name)]
            objects += [_manifest(kind, row.name, row.tenant, one) for one in found]
            parts.append(_shown(kind.qualified(row.name), found, in_detail=number is not None))
    if chosen.is_table:
        output.write("\n".join(parts))
    else:
        output.write_objects(objects, chosen, single=len(objects) == 1)


@app.command("undo")
def undo(
    ctx: typer.Context,
    words: Words = None,
    number: Annotated[
        int | None,
        typer.Option("--to-revision", metavar="N", help="As a rule the one before the last"),
    ] = None,
    dry_run: DryRunText = "none",
) -> None:
    """Go back to an earlier version of personas; it becomes a new version.

    Prompt, model, params, rules and traits are as they were then; description and labels stay.
    Runs go on with the version that they began with.

    Examples:
      aosctl rollout undo persona/pg_expert
      aosctl rollout undo persona/pg_expert --to-revision 3 --dry-run=server
    """
    from aosctl.cli.picking import change, choose
    from aosctl.cli.wiring import session_of
    from aosctl.domain import rollout

    trial = parse_dry_run(dry_run)
    choice = choose(_of_personas(words or ()), "undo")
    chosen: dict[str, PersonaVersion] = {}
    with closing(session_of(globals_of(ctx))) as session:
        tenant = session.require_tenant()

        def modify(row: Resource, manifest: dict[str, Any]) -> dict[str, Any]:
            found = rollout.history(session.connection, tenant, row)
            chosen[row.name] = rollout.revision(found, number, row.name)
            return rollout.taken_back(manifest, chosen[row.name])

        changed = change(session, choice, modify, trial)
    for one in changed:
        version = chosen[one.before.name].version
        if one.outcome == "unchanged":
            same = f"the current persona already matches revision {version}"
            output.write(f"{one.name} skipped rollback ({same})\n")
        else:
            output.write(f"{one.name} rolled back{suffix(trial)}\n")


def _of_personas(words: Sequence[str]) -> Sequence[str]:
    """Return the words if they are about personas. Raises UsageError, UnknownKind."""
    from aosctl.cli.targets import parse_targets

    if not words:
        raise UsageError("which persona? aosctl rollout history|undo persona/NAME")
    for one in parse_targets(words, "roll back"):
        if one.kind.name != "Persona":
            raise UsageError(
                f"{one.kind.plural} keep no versions", "personas do: aosctl get personas"
            )
    return words


def _shown(name: str, found: Sequence[PersonaVersion], *, in_detail: bool) -> str:
    from aosctl.cli.description import format_entries
    from aosctl.cli.table import age, format_table
    from aosctl.domain.kinds.base import title
    from aosctl.domain.rollout import spec_of

    if in_detail:
        (version,) = found
        entries = [
            ("Revision", version.version),
            ("Changed By", version.changed_by),
            ("Changed", version.created_at),
            *((title(key), _entry(value)) for key, value in spec_of(version).items()),
        ]
        return f"{name} with revision #{version.version}\n{format_entries(entries)}"
    rows = [[str(one.version), one.model, one.changed_by, age(one.created_at)] for one in found]
    return f"{name}\n" + format_table([["REVISION", "MODEL", "CHANGED-BY", "AGE"], *rows])


def _entry(value: Any) -> Any:
    return [(str(key), one) for key, one in value.items()] if isinstance(value, dict) else value


def _manifest(kind: Kind, name: str, tenant: str | None, version: PersonaVersion) -> dict[str, Any]:
    """Return a version as a manifest that applies."""
    from aosctl.domain.rollout import spec_of

    metadata = {"name": name, "tenant": tenant}
    status = {
        "version": version.version,
        "changedBy": version.changed_by,
        "createdAt": version.created_at,
    }
    return {
        "apiVersion": "aos/v1",
        "kind": kind.name,
        "metadata": metadata,
        "spec": spec_of(version),
        "status": status,
    }
