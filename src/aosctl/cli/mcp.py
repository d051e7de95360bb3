"""`aosctl mcp`: tools of MCP servers for agents, and this shell as such a server."""

from __future__ import annotations

import typer

from aosctl.cli import mcp_add, mcp_serve, mcp_tools

app = typer.Typer(
    help="""Use tools of MCP servers, and be one.

A manifest of kind McpServer says how a server is reached. Its tools become skills, each
pinned to what it was when you approved it: one that changes is refused until you approve
it again.

Examples:
  aosctl mcp tools tickets
  aosctl mcp add tickets search_tickets
  aosctl mcp diff tickets
  aosctl mcp approve tickets.search_tickets
  aosctl mcp serve""",
    rich_markup_mode=None,
)
app.command("tools")(mcp_tools.tools)
app.command("add")(mcp_add.add)
app.command("diff")(mcp_tools.diff)
app.command("approve")(mcp_add.approve)
app.command("serve")(mcp_serve.command)
