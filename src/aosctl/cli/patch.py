"""`aosctl patch`: change some fields of resources."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output
from aosctl.cli.flags import ChangedText, DryRunText, parse_dry_run, suffix
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.domain.changing import Modify
    from aosctl.domain.kinds.base import Resource


def command(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="KIND NAME… | KIND/NAME…", show_default=False)
    ] = None,
    patch: Annotated[
        str | None, typer.Option("-p", "--patch", metavar="PATCH", help="The patch, JSON or YAML")
    ] = None,
    patch_file: Annotated[
        str | None,
        typer.Option("--patch-file", metavar="FILE", help="The patch in a file, - for stdin"),
    ] = None,
    patch_type: Annotated[
        str,
        typer.Option(
            "--type", metavar="merge|json", help="Fields to merge (RFC 7386), or operations (6902)"
        ),
    ] = "merge",
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
) -> None:
    """Change some fields of resources.

    A merge patch holds the fields to change; null takes one away, a list is replaced whole.
    A JSON patch is a list of operations: add, remove, replace, move, copy, test. The result is
    checked like a manifest. All that is named is changed, or nothing of it.

    Examples:
      aosctl patch agent my_pg_bot -p '{"spec": {"limits": {"maxSteps": 20}}}'
      aosctl patch persona pg_expert -p 'spec: {description: null}'
      aosctl patch agent my_pg_bot --type json \\
        -p '[{"op": "replace", "path": "/spec/limits/maxSteps", "value": 40}]'
    """
    from aosctl.cli.picking import change, choose

    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(dry_run)
    choice = choose(words or (), "patch")
    modify = _modification(patch_type, patch, patch_file)

    from aosctl.cli.wiring import session_of

    with closing(session_of(globals_of(ctx))) as session:
        changed = change(session, choice, modify, trial)
    if chosen.is_table:
        for one in changed:
            same = " (no change)" if one.outcome == "unchanged" else ""
            output.write(f"{one.name} patched{suffix(trial)}{same}\n")
    else:
        output.write_objects([one.after for one in changed], chosen, single=len(changed) == 1)


def _modification(patch_type: str, patch: str | None, patch_file: str | None) -> Modify:
    """Read the patch; return what it does to a manifest. Raises UsageError, ManifestError."""
    from aosctl.domain import patching

    if patch_type == "strategic":
        raise UsageError(
            "strategic merge patches are not built",
            "--type merge replaces lists whole; --type json changes items of a list",
        )
    if patch_type not in ("merge", "json"):
        raise UsageError(f'--type must be one of [json merge], not "{patch_type}"')
    if (patch is None) == (patch_file is None):
        raise UsageError("must specify one of --patch or --patch-file")
    text = patch.encode("utf-8", "surrogateescape") if patch is not None else _read(patch_file)
    given = patching.read_patch(text, "--patch" if patch is not None else str(patch_file))
    if patch_type == "json":
        operations = patching.check_operations(given)
        return lambda row, manifest: _whole(row, patching.operate(manifest, operations))
    if not isinstance(given, dict):
        raise UsageError("a merge patch is a mapping", "a list of operations is for --type json")
    return lambda row, manifest: _whole(row, patching.merge(manifest, given))


def _read(path: str | None) -> bytes:
    import sys

    if path == "-":
        return sys.stdin.buffer.read()
    try:
        return Path(path or "").read_bytes()
    except OSError as error:
        raise AosError(f"unable to read patch file: {path}: {error.strerror}") from None


def _whole(row: Resource, manifest: Any) -> dict[str, Any]:
    from aosctl.errors import InvalidInput

    if not isinstance(manifest, dict):
        raise InvalidInput(f"the patch leaves no {row.kind}", "nothing was done")
    return manifest
