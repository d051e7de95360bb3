"""`aosctl version`: what is installed here."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl import __version__
from aosctl.cli import output


def command(
    client: Annotated[
        bool,
        typer.Option("--client", help="The client alone; it is what is asked without this too"),
    ] = False,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """Print the version of aosctl.

    Examples:
      aosctl version
      aosctl version -o json
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    versions = {"clientVersion": __version__}
    if chosen.format == "json":
        output.write_json(versions)
    elif chosen.format == "yaml":
        output.write_yaml(versions)
    else:
        output.write(f"Client Version: {__version__}\n")
