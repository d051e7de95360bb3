"""`aosctl explain`: the fields of manifests and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.errors import UsageError

_FORMATS = ("plaintext", "json-schema")


def command(
    what: Annotated[str | None, typer.Argument(metavar="KIND[.FIELD…]", show_default=False)] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Print the fields of fields, names and types only")
    ] = False,
    api_version: Annotated[
        str | None, typer.Option("--api-version", metavar="VERSION", help="aos/v1, the only one")
    ] = None,
    output_format: Annotated[
        str, typer.Option("-o", "--output", metavar="FORMAT", help="plaintext or json-schema")
    ] = "plaintext",
) -> None:
    """Say what a kind or a field of its manifests means; it asks no database.

    The way to a field goes through lists: skill.spec.sql.grants.tables.

    Examples:
      aosctl explain agent
      aosctl explain agent.spec.limits
      aosctl explain policies --recursive
      aosctl explain budget -o json-schema
    """
    from aosctl.domain.kinds.base import API_VERSION
    from aosctl.domain.kinds.explaining import explain, kind_to_explain

    if output_format not in _FORMATS:
        raise output.no_printer(output_format, _FORMATS)
    if not what:
        raise UsageError(
            "You must specify the type of resource to explain", "aosctl api-resources lists them"
        )
    word, *path = _words(what)
    kind = kind_to_explain(word)
    if api_version not in (None, API_VERSION):
        raise UsageError(
            f'no matches for kind "{kind.name}" in version "{api_version}"',
            f"there is {API_VERSION} alone",
        )
    if output_format == "plaintext":
        output.write(explain(kind, path, recursive=recursive))
        return
    if path or recursive:
        raise UsageError("-o json-schema is about a whole kind", f"aosctl explain {word}")
    if kind.read_only:
        raise UsageError(f"{kind.plural} have no manifest, and no schema")
    from aosctl.domain.kinds.json_schema import schema_for

    output.write_json(schema_for(kind))


def _words(what: str) -> list[str]:
    """Split at dots; the `aos` of `agents.aos` belongs to the kind."""
    kind, _, path = what.removesuffix(".").partition(".")
    if path == "aos" or path.startswith("aos."):
        path = path[4:]
    return [kind, *(path.split(".") if path else [])]
