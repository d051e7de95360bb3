"""The section `mcp` of a Skill: a tool of an MCP server, as it was when a person approved it."""

from __future__ import annotations

from aosctl.domain.fields import Reference, Text
from aosctl.domain.kinds.implementation import Implementation
from aosctl.domain.structures import Field, Object

_SECTION = Object(
    fields=(
        Field("server", Reference(kind="McpServer"), "The McpServer.", required=True),
        Field(
            "tool",
            Text(min_length=1, max_length=200),
            "The tool's name, as the server has it.",
            required=True,
        ),
        Field(
            "pin",
            Text(
                max_length=71,
                pattern=r"sha256:[0-9a-f]{64}",
                rule="a pin, as aosctl mcp add writes it",
            ),
            "The digest of the tool's name, title, description, schemas and annotations when it was"
            " approved. A call is refused when the server offers something else; without a pin each"
            " is. `aosctl mcp add` and `aosctl mcp approve` write it.",
        ),
    )
)

MCP = Implementation(
    "mcp",
    _SECTION,
    "For a skill that is a tool of an MCP server. The model is told the manifest's description and"
    " input, never what the server says at the moment of the call.",
    ("untrusted", "egress"),
    closed=False,
)
