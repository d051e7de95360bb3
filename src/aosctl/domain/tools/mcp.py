"""Skills that are tools of MCP servers: called only as they were when a person approved them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from aosctl.domain import traceparent
from aosctl.domain.mcp_pins import pin_of
from aosctl.domain.tools.base import Call, Question, ToolResult
from aosctl.domain.tools.host import Host
from aosctl.domain.tools.mcp_asking import pages_of
from aosctl.domain.tools.mcp_results import result_of
from aosctl.domain.tools.mcp_sessions import Sessions, Stopped
from aosctl.domain.tools.mcp_settings import Server, Stdio, server_of
from aosctl.errors import AosError

if TYPE_CHECKING:
    from anyio import CancelScope

    from aosctl.domain.tools.mcp_connection import Connection, Talk


_MOST_CALLS = 4
"""How often one call is made, after pages that its server wanted opened before."""
_AFTER = {
    "accept": "the person was there, and the server asks for it still",
    "decline": "the person declined to go there",
    "cancel": "nobody went there yet: tell the person the URL, and call again when they were there",
}
"""What a model is told of a page, by how the person was asked."""


class McpTool:
    """Calls tools of MCP servers, over connections that calls share; `host` says what may start."""

    name = "mcp"

    def __init__(self, host: Host, sessions: Sessions) -> None:
        self._host = host
        self._sessions = sessions

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Call the tool that the skill names, if it is still the one that was approved."""
        settings = call.settings
        if not settings.get("pin"):
            return _refused(call, "is not approved yet")
        try:
            server = server_of(settings.get("server", {}), call.secret)
            if isinstance(server, Stdio):
                self._host.check_command(server.command)
        except AosError as error:
            return ToolResult(False, {"error": error.message, "hint": error.hint})
        one = _OneCall(self._sessions, server, args, call)
        try:
            done = self._sessions.run(one.carry_out, call.stop)
        except Stopped:
            return ToolResult(False, {"error": f"{call.skill} was cancelled"})
        if one.changed is not None:
            call.disable(one.changed)
        return done


class _OneCall:
    """One call, on the thread of the connections."""

    def __init__(
        self, sessions: Sessions, server: Server, args: Mapping[str, Any], call: Call
    ) -> None:
        self._sessions = sessions
        self._server = server
        self._args = args
        self._call = call
        self._trace = traceparent.carried()
        self.changed: str | None = None
        """How the tool differs from what was approved."""
        self._sent = False
        self._connection: Connection | None = None

    async def carry_out(self) -> ToolResult:
        """Connect, compare, call."""
        import anyio
        from mcp import MCPError

        from aosctl.domain.tools.mcp_connection import Lost

        with anyio.CancelScope() as scope:
            scope.deadline = anyio.current_time() + self._call.timeout_seconds
            try:
                return await self._within(scope)
            except Lost as lost:
                return self._failed(f"the MCP server failed: {lost}")
            except MCPError as error:
                return self._failed(f"the MCP server refused: {error.message[:2000]}")
            except (RuntimeError, ValueError) as error:
                # What is no answer in the protocol's sense, or not of the tool's output schema.
                return self._failed(f"the MCP server answered wrongly: {error!s:.2000}")
        if self._connection is not None:
            # Whatever it hangs in, the next call shall not.
            self._sessions.retire(self._connection)
        return self._failed(
            f"the MCP server did not answer within {self._call.timeout_seconds:g} s"
        )

    async def _within(self, scope: CancelScope) -> ToolResult:
        owner = self._call.settings.get("owner")
        name = self._call.skill
        for attempt in (1, 2):
            connection, was_there = await self._sessions.connection(owner, self._server, name)
            self._connection = connection
            try:
                with connection.talking(name, self._call.ask, scope) as talk:
                    done = await self._on(connection, talk, may_retry=was_there and attempt == 1)
            finally:
                self._sessions.give_back(connection)
            if done is not None:
                return done
        raise AssertionError("the second attempt always ends")

    async def _on(
        self, connection: Connection, talk: Talk, *, may_retry: bool
    ) -> ToolResult | None:
        """Compare and call; None when the connection had died unnoticed before that."""
        from aosctl.domain.tools.mcp_connection import Lost

        wanted = self._call.settings["tool"]
        try:
            found = await connection.tools(wanted)
        except Lost:
            if may_retry:
                return None
            raise Lost(await connection.reason()) from None
        if not found:
            return self._changed(f'the server offers no tool "{wanted}" any more')
        if pin_of(found[0]) != self._call.settings["pin"]:
            return self._changed("the tool changed since it was approved")
        self._sent = True
        try:
            return await self._answered(connection, talk, wanted)
        except Lost:
            raise Lost(await connection.reason()) from None

    async def _answered(self, connection: Connection, talk: Talk, tool: str) -> ToolResult:
        """Call; again after the person has been where the server wants them to go first."""
        from mcp import MCPError

        for calls_left in reversed(range(_MOST_CALLS)):
            try:
                answer = await connection.call(tool, self._args, self._call.key, self._trace)
                return result_of(answer, self._call.max_bytes)
            except MCPError as error:
                pages = pages_of(talk.name, error)
                if not pages:
                    raise
            action = await _visited(talk, pages) if calls_left else "accept"
            if action != "accept" or not calls_left:
                return _to_visit(self._call, pages, action)
        raise AssertionError("the last call always ends")

    def _changed(self, why: str) -> ToolResult:
        self.changed = why
        return _refused(self._call, f"is disabled: {why}")

    def _failed(self, text: str) -> ToolResult:
        value = {"error": text}
        if self._sent and self._call.effect != "read":
            value["hint"] = "whether it did something is not known; look before asking again"
        return ToolResult(False, value)


async def _visited(talk: Talk, pages: Sequence[Question]) -> str:
    """Put one page after the other to the person; return how they left the first they refused."""
    for page in pages:
        action = (await talk.ask(page)).action
        if action != "accept":
            return action
    return "accept"


def _to_visit(call: Call, pages: Sequence[Question], action: str) -> ToolResult:
    why = "; ".join(page.message for page in pages)[:2000]
    return ToolResult(
        False,
        {
            "error": f"{call.skill} did nothing: a person has to open a page first: {why}",
            "urls": [page.url for page in pages],
            "hint": _AFTER[action],
        },
    )


def _refused(call: Call, why: str) -> ToolResult:
    return ToolResult(
        False,
        {
            "error": f"{call.skill} {why}",
            "hint": f"a person looks at it with: aosctl mcp approve {call.skill}",
        },
    )
