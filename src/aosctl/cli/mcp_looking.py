"""What the verbs of `aosctl mcp` share: a server asked, beside the skills that are made of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from aosctl.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterable
    from uuid import UUID

    from aosctl.cli.globals import Globals
    from aosctl.db.connection import Connection, Session
    from aosctl.domain.kinds.base import Resource
    from aosctl.domain.mcp_offers import Offer, Skill

Server = Annotated[str, typer.Argument(metavar="SERVER", help="The McpServer")]


class Looked(NamedTuple):
    """A server and what it offers now."""

    server: str
    tenant: str
    offers: list[Offer]


def look(session: Session, given: Globals, server: str) -> Looked:
    """Ask a server what it offers. Raises NotFound, ToolFailed, Denied."""
    from aosctl.cli.wiring import mcp_tools
    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.mcp_offers import compare
    from aosctl.domain.secrets import person_opener

    tenant = session.require_tenant()
    found = resources(session.connection, "McpServer", tenant)
    row = next((one for one in found if one.name == server), None)
    if row is None:
        raise not_found(BY_NAME["McpServer"].plural, server, [one.name for one in found])
    opener = person_opener(session.connection, tenant)
    tools = mcp_tools(given, row.spec, opener, server)
    mine = [
        skill
        for skill in skills(session.connection, tenant)
        if skill.spec["mcp"]["server"] == server
    ]
    return Looked(server, row.tenant or "", compare(tools, mine))


def skills(connection: Connection, tenant: UUID) -> list[Skill]:
    """Return the skills of a tenant that are tools of MCP servers."""
    from aosctl.domain.mcp_offers import Skill

    return [
        Skill(row.name, row.spec, row.annotations)
        for row in resources(connection, "Skill", tenant)
        if "mcp" in row.spec
    ]


def resources(connection: Connection, kind: str, tenant: UUID) -> list[Resource]:
    """Return all resources of a kind in a tenant."""
    from aosctl.domain import inventory
    from aosctl.domain.kinds import BY_NAME

    return inventory.resources(connection, BY_NAME[kind], tenant)


def not_found(plural: str, name: str, known: Iterable[str]) -> NotFound:
    """Return kubectl's error for a name that stands for nothing."""
    from aosctl.domain.names import nearest, quoted

    near = nearest(name, list(known))
    hint = f"did you mean {quoted(near)}?" if near else f"aosctl get {plural}"
    return NotFound(f'{plural}.aos "{name}" not found', hint)
