"""What `aosctl create` does with a resource of any kind, once its flags are a spec."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.flags import parse_dry_run, suffix
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, Conflict, InvalidInput, ManifestError, NotFound

if TYPE_CHECKING:
    from aosctl.domain.kinds.base import Kind

Edit = Annotated[bool, typer.Option("--edit", help="Open it in your editor first")]
_WRONG = (Conflict, InvalidInput, ManifestError, NotFound)
"""What the person can mend in the file; anything else ends it."""


class Making(NamedTuple):
    """How a resource is made: tried or for good, what is printed, edited first or not."""

    dry_run: str
    output_format: str | None
    edit: bool


def create(
    ctx: typer.Context, kind_name: str, name: str, spec: Mapping[str, Any], making: Making
) -> None:
    """Make a resource, or print its manifest; --dry-run=client connects to nothing."""
    chosen = output.parse_output(making.output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(making.dry_run)

    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.kinds.scaffold import SCHEMA, manifest_of, scaffold
    from aosctl.domain.manifest import document_of

    kind = BY_NAME[kind_name]
    manifest = manifest_of(kind, name, globals_of(ctx).tenant, spec)
    document = document_of(manifest)
    if making.edit:
        _edited(ctx, kind, manifest, trial == "none")
        return
    if trial == "client":
        if chosen.format == "yaml":
            output.write(scaffold(kind, manifest))
        elif chosen.format == "json":
            output.write_json(manifest)
        else:
            after = "" if chosen.format == "name" else f" created{suffix(trial)}"
            output.write(f"{kind.qualified(name)}{after}\n")
        _explain(ctx, kind, SCHEMA if chosen.format == "yaml" else "")
        return

    from aosctl.cli.applied import apply_only, write_applied

    keep, read_back = trial == "none", chosen.format in ("json", "yaml")
    made = apply_only(ctx, [document], "new", keep=keep, read_back=read_back)
    write_applied(made, chosen, suffix(trial))


def _edited(ctx: typer.Context, kind: Kind, manifest: dict[str, Any], keep: bool) -> None:
    """Have the manifest edited until it can be made; what is saved as it is opens once more."""
    from aosctl.cli.applied import apply_only
    from aosctl.cli.edited_text import body_of, header
    from aosctl.domain.kinds.scaffold import scaffold
    from aosctl.domain.manifest import loads
    from aosctl.editor import edit, new_file

    _explain(ctx, kind)
    path = new_file(manifest["metadata"]["name"], ".yaml")
    body, top = body_of(scaffold(kind, manifest)), header()
    try:
        while True:
            path.write_text(top + body, encoding="utf-8")
            text = edit(path)
            before, body = body, body_of(text)
            if not body.strip():
                raise AosError("Edit cancelled, saved file was empty.")
            if top != header() and body.strip() == before.strip():
                raise AosError("Edit cancelled, no valid changes were saved.")
            try:
                done = apply_only(ctx, loads(text, str(path)), "new", keep=keep)
                break
            except _WRONG as error:
                output.note(f"{error.label}: {error.message}")
                top = header(error, text)
    except (AosError, KeyboardInterrupt):
        output.note(f'A copy of your changes has been stored to "{path}"')
        raise
    path.unlink(missing_ok=True)
    after = "" if keep else suffix("server")
    output.write("".join(f"{one.name} {one.outcome}{after}\n" for one in done))


def _explain(ctx: typer.Context, kind: Kind, schema: str = "") -> None:
    text = f"aosctl explain {kind.singular}.spec says what the fields mean"
    if schema and not Path(schema).exists():
        text += f"; aosctl schema -o {schema} writes the schema of its first line, for editors"
    output.note(f"hint: {text}", quiet=globals_of(ctx).quiet)
