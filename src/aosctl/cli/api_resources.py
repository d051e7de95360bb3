"""`aosctl api-resources`: the kinds there are, and what they are called."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import NoHeaders


def command(
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="wide or name")
    ] = None,
    no_headers: NoHeaders = False,
) -> None:
    """List the kinds of resources with their short names; it asks no database.

    -o wide says what can be done with each: without apply, it is there to look at.

    Examples:
      aosctl api-resources
      aosctl api-resources -o wide
    """
    from aosctl.cli.table import write_table
    from aosctl.domain.inventory import READABLE
    from aosctl.domain.kinds.base import API_VERSION

    chosen = output.parse_output(output_format, allowed=("wide", "name"))
    kinds = sorted(READABLE, key=lambda kind: kind.plural)
    if chosen.format == "name":
        output.write("".join(f"{kind.plural}.aos\n" for kind in kinds))
        return
    wide = chosen.format == "wide"
    headers = ["NAME", "SHORTNAMES", "APIVERSION", "TENANTED", "KIND", *(["VERBS"] if wide else [])]
    rows = [
        [
            kind.plural,
            ",".join(kind.short_names),
            API_VERSION,
            kind.tenanted,
            kind.name,
            *([",".join(kind.verbs)] if wide else []),
        ]
        for kind in kinds
    ]
    write_table(headers, rows, show_headers=not no_headers)
