"""Ask an MCP server what it offers, for a person who decides on that."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import Any

from aosctl.domain.tools.host import Host
from aosctl.domain.tools.mcp_sessions import Sessions
from aosctl.domain.tools.mcp_settings import Server, Stdio, server_of
from aosctl.domain.tools.web.home import Home
from aosctl.errors import ToolFailed

Tool = Mapping[str, Any]


def offered(
    spec: Mapping[str, Any], secret: Callable[[str], str], host: Host, home: Home, name: str
) -> list[Tool]:
    """Return what the server of a manifest offers now, as the wire has it. Raises AosError."""
    server = server_of(spec, secret)
    if isinstance(server, Stdio):
        host.check_command(server.command)
    sessions = Sessions(home)
    try:
        return sessions.run(lambda: _listed(sessions, server, name), threading.Event())
    finally:
        sessions.close()


async def _listed(sessions: Sessions, server: Server, name: str) -> list[Tool]:
    import anyio
    from mcp import MCPError

    from aosctl.domain.tools.mcp_connection import Connection, Lost

    connection: Connection | None = None
    with anyio.move_on_after(server.connect_seconds * 2) as scope:
        try:
            connection, _ = await sessions.connection("aosctl", server, name)
            return [*await connection.tools()]
        except Lost as lost:
            said = await connection.reason() if connection is not None else str(lost)
            raise ToolFailed(
                f'the MCP server "{name}" failed: {said}', _LOOK.format(name)
            ) from None
        except MCPError as error:
            raise ToolFailed(
                f'the MCP server "{name}" refused: {error.message[:2000]}', _LOOK.format(name)
            ) from None
    if not scope.cancelled_caught:
        raise AssertionError("the block above returns or raises")
    raise ToolFailed(
        f'the MCP server "{name}" did not answer within {server.connect_seconds * 2:g} s',
        _LOOK.format(name),
    )


_LOOK = "aosctl describe mcpserver {} shows how it is reached"
