"""`aosctl explain`: the fields of manifests and what they mean."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.errors import UsageError


def command(
    what: Annotated[str | None, typer.Argument(metavar="KIND[.FIELD…]", show_default=False)] = None,
    recursive: Annotated[
        bool, typer.Option("--recursive", help="Print the fields of fields, names and types only")
    ] = False,
) -> None:
    """Say what a kind or a field of its manifests means; it asks no database.

    The way to a field goes through lists: skill.spec.sql.grants.table.

    Examples:
      aosctl explain agent
      aosctl explain agent.spec.limits
      aosctl explain policies --recursive
    """
    from aosctl.domain.inventory import readable_kind
    from aosctl.domain.kinds.explaining import explain

    if not what:
        raise UsageError(
            "You must specify the type of resource to explain", "aosctl api-resources lists them"
        )
    word, *path = _words(what)
    output.write(explain(readable_kind(word), path, recursive=recursive))


def _words(what: str) -> list[str]:
    """Split at dots; the `aos` of `agents.aos` belongs to the kind."""
    kind, _, path = what.removesuffix(".").partition(".")
    if path == "aos" or path.startswith("aos."):
        path = path[4:]
    return [kind, *(path.split(".") if path else [])]
