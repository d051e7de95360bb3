"""Kind McpServer: a server of the Model Context Protocol, whose tools become skills."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aosctl.domain.kinds.base import Column, Completion, Kind, Resource, Spec

if TYPE_CHECKING:
    from aosctl.domain.structures import Field


_OF_A_PROCESS = ("env", "cwd")
_OF_A_URL = ("headers", "auth")


def _reached_at(row: Resource) -> str | None:
    command = row.spec.get("command")
    return " ".join(command) if command else row.spec.get("url")


class McpServer(Kind):
    name = "McpServer"
    plural = "mcpservers"
    short_names = ("mcp",)
    db_schema = "aos_skills"
    own_verbs = ("mcp",)
    doc = (
        "A server of the Model Context Protocol: a program that `aosctl` starts and talks to over"
        " its standard streams, or a URL. What it offers is used by agents through skills with a"
        " section `mcp`, which `aosctl mcp add` writes. The machine that carries out calls has to"
        " allow a `command`: `AOSCTL_ALLOW_COMMANDS`. See mcp.md."
    )
    example = """\
apiVersion: aos/v1
kind: McpServer
metadata:
  name: tickets
  tenant: tech_corp
spec:
  url: https://tickets.example.com/mcp
  auth:
    bearer:
      secretRef: tickets/token
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("TRANSPORT", lambda row: "stdio" if "command" in row.spec else "http"),
        Column("SKILLS", lambda row: row.status.get("skills")),
        Column("AGE", lambda row: row.created_at),
        Column("REACHED-AT", _reached_at, wide=True),
        Column("TIMEOUT", lambda row: row.spec.get("timeoutSeconds"), wide=True),
    )

    @property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        """The fields; their own module, as a verb that lists servers needs none of them."""
        from aosctl.domain.kinds.mcp_server_spec import FIELDS

        return FIELDS

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Check that it is a program or a URL; leave out what is empty."""
        kept: dict[str, Any] = {key: value for key, value in spec.items() if value not in ({}, [])}
        if ("command" in spec) == ("url" in spec):
            at.wrong("spec", "takes either command or url")
            return kept
        way, others = ("command", _OF_A_URL) if "command" in spec else ("url", _OF_A_PROCESS)
        for name in others:
            if name in kept:
                at.wrong(f"spec.{name}", f"does not go with {way}")
        auth = kept.get("auth")
        if auth is not None and len(auth) != 1:
            at.wrong("spec.auth", "takes either bearer or oauth")
        return kept
