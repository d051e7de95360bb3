"""An MCP server of the newer era, by the official package.

python modern.py NOTES               over stdio
python modern.py NOTES --http [TOKEN]  over HTTP, with bearer TOKEN; prints its port
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from mcp import UrlElicitationRequiredError
from mcp.server import MCPServer
from mcp.server.mcpserver import Elicit, Resolve
from mcp_types import ElicitRequestURLParams
from pydantic import BaseModel

NOTES = Path(sys.argv[1])


class Size(BaseModel):
    size: str


class Sum(BaseModel):
    total: int


server = MCPServer("modern")


async def size() -> Elicit[Size]:
    return Elicit("Which size?", Size)


@server.tool()
def add(a: int, b: int) -> Sum:
    """Add two numbers."""
    return Sum(total=a + b)


@server.tool()
async def order(chosen: Annotated[Size, Resolve(size)]) -> str:
    """Order a shirt."""
    return f"a shirt of size {chosen.size}"


@server.tool()
async def pay() -> str:
    """Pay, once somebody has signed in at a page."""
    if "visited" not in NOTES.read_text().splitlines():
        page = ElicitRequestURLParams(
            message="Sign in", url="https://pay.example.com/1", elicitation_id="1"
        )
        raise UrlElicitationRequiredError([page])
    return "paid"


@server.tool()
async def wait() -> str:
    """Wait until somebody cancels."""
    import anyio

    with NOTES.open("a") as notes:
        notes.write("waiting\n")
    try:
        await anyio.sleep(600)
    except anyio.get_cancelled_exc_class():
        with NOTES.open("a") as notes:
            notes.write("cancelled\n")
        raise
    return "waited"


def over_http(token: str | None) -> None:
    import socket

    import uvicorn

    app = server.streamable_http_app()

    async def guarded(scope, receive, send):  # type: ignore[no-untyped-def]
        headers = dict(scope.get("headers", []))
        if (
            token
            and scope["type"] == "http"
            and headers.get(b"authorization") != (f"Bearer {token}".encode())
        ):
            await send({"type": "http.response.start", "status": 401, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        await app(scope, receive, send)

    listening = socket.create_server(("127.0.0.1", 0))
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(guarded, log_level="critical")
    uvicorn.Server(config).run(sockets=[listening])


if __name__ == "__main__":
    if len(sys.argv) > 2:
        over_http(sys.argv[3] if len(sys.argv) > 3 else None)
    else:
        server.run("stdio")
