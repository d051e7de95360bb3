"""`aosctl version`: what is installed here and in the database."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from aosctl import __version__
from aosctl.cli import output
from aosctl.cli.globals import Globals, globals_of
from aosctl.config import resolve_target
from aosctl.errors import AosError, DatabaseUnavailable

_CLIENT, _KERNEL, _SERVER = "clientVersion", "kernelVersion", "postgresVersion"
_TITLES = {_CLIENT: "Client", _KERNEL: "Kernel", _SERVER: "PostgreSQL"}


def command(
    ctx: typer.Context,
    kernel: Annotated[
        bool, typer.Option("--kernel", help="Ask the database for its versions too")
    ] = False,
    client: Annotated[
        bool, typer.Option("--client", help="The client alone, as without any flag")
    ] = False,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> None:
    """Print the version of aosctl, with --kernel that of the kernel in the database.

    Examples:
      aosctl version
      aosctl version --kernel -o json
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    versions: dict[str, str | None] = {_CLIENT: __version__}
    failure = None
    if kernel and not client:
        try:
            versions |= _ask_database(globals_of(ctx))
        except AosError as error:
            failure = error
    if chosen.format == "json":
        output.write_json(versions)
    elif chosen.format == "yaml":
        output.write_yaml(versions)
    else:
        lines = [f"{_TITLES[name]} Version: {v or 'not installed'}" for name, v in versions.items()]
        output.write("\n".join(lines) + "\n")
    if failure is not None:
        raise failure


def _ask_database(given: Globals) -> dict[str, str | None]:
    """Return the versions of kernel and PostgreSQL; start and install nothing."""
    from aosctl.db.connection import connect, person_conninfo
    from aosctl.db.kernel_version import read_kernel_version

    target = resolve_target(given, os.environ)
    if target.kind == "embedded":
        from aosctl.db import embedded

        if embedded.status().server is None:
            raise DatabaseUnavailable("the embedded database is not running", "aosctl db start")
    with connect(person_conninfo(target), given.verb, tried=target.tried) as connection:
        server = connection.info.parameter_status("server_version") or ""
        return {_KERNEL: read_kernel_version(connection), _SERVER: server.partition(" ")[0]}
