"""`aosctl mcp serve`: this shell as an MCP server, for other agents and for editors."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    import socket

TOKEN_VARIABLE = "AOSCTL_MCP_TOKEN"  # noqa: S105 - its name
_SHORTEST_TOKEN = 16


def command(
    ctx: typer.Context,
    http: Annotated[
        str | None,
        typer.Option("--http", metavar="HOST:PORT", help="Listen there, instead of stdin"),
    ] = None,
    token_file: Annotated[
        Path | None,
        typer.Option("--token-file", metavar="FILE", help="The bearer token that clients send"),
    ] = None,
    allow_approve: Annotated[
        bool,
        typer.Option("--allow-approve", help="Offer a tool that decides approvals, as you"),
    ] = False,
) -> None:
    """Serve agents, runs, logs and approvals as tools of an MCP server.

    Clients act as you, in your tenant: the kernel's rules are the same as for the verbs. What
    needs an approval waits for one. Clients that are agents must not decide about themselves:
    without --allow-approve there is no tool for it, and with it policies with four eyes still
    keep whoever asked from deciding.

    It speaks over stdin and stdout, as editors start it, until its input ends. With --http it
    listens instead, at /mcp, for whoever sends the bearer token: that of --token-file or
    AOSCTL_MCP_TOKEN, else one that is made and printed to stderr. It has no TLS: keep it on
    127.0.0.1, or behind a proxy that has.

    Examples:
      aosctl mcp serve -n tech_corp
      aosctl mcp serve --http 127.0.0.1:8808
    """
    from aosctl.cli.mcp_desk import Desk
    from aosctl.cli.mcp_server import build, serve_http, serve_stdio

    given = globals_of(ctx)
    if http is None:
        if token_file is not None:
            raise UsageError("--token-file goes with --http")
        Desk(given).check()
        if sys.stdin.isatty():
            hint = "an MCP client is expected on stdin; Ctrl-D ends it"
            output.note(hint, quiet=given.quiet)
        serve_stdio(build(Desk(given), allow_approve=allow_approve))
        return
    token, is_new = _token(token_file)
    Desk(given).check()
    with _listening(http) as listening:
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        output.note(f"listening on http://{shown}:{port}/mcp", quiet=given.quiet)
        if is_new:
            output.note(f"token: {token}")
        serve_http(build(Desk(given), allow_approve=allow_approve), listening, token)


def _token(file: Path | None) -> tuple[str, bool]:
    """Return the token, and whether it was made just now. Raises AosError, UsageError."""
    given = os.environ.get(TOKEN_VARIABLE)
    if file is not None:
        try:
            given = file.read_text().strip()
        except (OSError, UnicodeDecodeError) as error:
            raise AosError(f"{file}: {error}", "a text file with the token") from None
    if given is None:
        import secrets

        return secrets.token_urlsafe(32), True
    if len(given) < _SHORTEST_TOKEN or not given.isascii() or not given.isprintable():
        raise UsageError(
            f"the token is shorter than {_SHORTEST_TOKEN} characters, or not plain text",
            "openssl rand -hex 32",
        )
    return given, False


def _listening(where: str) -> socket.socket:
    """Listen at HOST:PORT. Raises UsageError, AosError."""
    import socket

    host, colon, port = where.rpartition(":")
    number = int(port) if port.isascii() and port.isdigit() else -1
    if not colon or not 0 <= number <= 65_535 or not host:
        raise UsageError(f'--http takes HOST:PORT, not "{where}"', "--http 127.0.0.1:8808")
    address = host.strip("[]")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return socket.create_server((address, number), family=family)
    except OSError as error:
        raise AosError(f"cannot listen on {where}: {error.strerror or error}", None) from None
