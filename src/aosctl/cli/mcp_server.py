"""aosctl as an MCP server: the tools, their schemas and hints, over stdio or HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from functools import partial
from inspect import cleandoc
from threading import Event
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

from aosctl.cli.mcp_desk import (
    Agents,
    Answer,
    Desk,
    Done,
    Lines,
    Questions,
    Runs,
    Started,
    words_of,
)
from aosctl.errors import AosError

if TYPE_CHECKING:
    import socket

    from mcp.server import MCPServer

T = TypeVar("T")
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_ABOUT = (
    "Agents that live inside PostgreSQL, as one person may use them. Everything here happens with"
    " that person's rights; the database decides what is allowed, what needs a person's approval"
    " and what it may cost. An answer of state `waiting` waits for a person: do not send the"
    " message again, call chat with the run alone once it is decided."
)
RUN = Annotated[str, "A run's name, or a unique beginning or end of it."]


async def _off(work: Callable[[], T], stop: Event | None = None) -> T:
    """Do what blocks in a thread; a client that cancels sets `stop` and is waited for no longer."""
    import anyio
    import anyio.to_thread
    from mcp.server.mcpserver.exceptions import ToolError

    try:
        return await anyio.to_thread.run_sync(work, abandon_on_cancel=True)
    except AosError as error:
        raise ToolError(words_of(error)) from None
    except anyio.get_cancelled_exc_class():
        if stop is not None:
            stop.set()
        raise


class Tools:
    """The functions that clients see; their docstrings are what a model is told."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    async def list_agents(self) -> Agents:
        """List the agents that can be talked to, each with what it is for."""
        return await _off(self._desk.list_agents)

    async def list_runs(self, agent: str | None = None, everything: bool = False) -> Runs:
        """List the runs with an open turn: what they do and what they wait for.

        With `everything` those without an open turn and closed ones too, the last 200.
        """
        return await _off(partial(self._desk.list_runs, agent, everything))

    async def start_run(self, agent: str, task: str, name: str | None = None) -> Started:
        """Leave a task to an agent in the background; a running `aosctl worker` takes it up.

        Returns at once with the run's name. For an answer in the same call use chat.
        """
        return await _off(partial(self._desk.start_run, agent, task, name))

    async def chat(
        self, message: str | None = None, agent: str | None = None, run: str | None = None
    ) -> Answer:
        """Send a message to an agent and wait for its answer.

        With `agent` a new run begins; with `run` it goes on with that one. A run whose approval
        was decided goes on with `run` alone. The state is `completed`, `waiting` (for a person;
        `approvals` names what for), `limited`, `failed` or `cancelled`.
        """
        stop = Event()
        return await _off(partial(self._desk.chat, agent, message, run, stop), stop)

    async def get_run(self, run: RUN) -> Answer:
        """Say how a run stands: its state, its last answer, and what it waits for."""
        return await _off(partial(self._desk.get_run, run))

    async def logs(self, run: RUN, after: int = 0, limit: int = 100) -> Lines:
        """Show what was said and done in a run, an event after another.

        `after` is the cursor of the last answer: only what came since is shown. `more` tells that
        there is more behind `limit` events.
        """
        return await _off(partial(self._desk.logs, run, after, limit))

    async def list_approvals(self, run: str | None = None) -> Questions:
        """List the calls of agents that wait for a person's decision, and what each would do."""
        return await _off(partial(self._desk.list_approvals, run))

    async def decide_approval(
        self, approval: str, decision: Literal["approve", "deny"], digest: str, reason: str
    ) -> Done:
        """Approve or deny a call that waits, as the person who serves this.

        Only what a person has seen and agreed to may be approved: show them the arguments and what
        would change. `digest` is the one list_approvals gave; when the call has changed since, the
        decision is refused. The agent's model reads the reason of a denial.
        """
        return await _off(partial(self._desk.decide_approval, approval, decision, digest, reason))

    async def kill_run(self, run: RUN, reason: str | None = None) -> Done:
        """End a run for good; its open turn leaves no more effects."""
        return await _off(partial(self._desk.kill_run, run, reason))

    async def steer(self, run: RUN, text: str) -> Done:
        """Send a message into the turn that is under way; the model reads it next."""
        return await _off(partial(self._desk.steer, run, text))


READS, STARTS, ENDS = "reads", "starts", "ends"
_HINTS: Mapping[str, Mapping[str, bool]] = {
    READS: {"read_only_hint": True, "open_world_hint": False},
    # What agents do may change and send something: that is theirs and their approvals' concern.
    STARTS: {"read_only_hint": False, "destructive_hint": False, "open_world_hint": True},
    ENDS: {"read_only_hint": False, "destructive_hint": True, "open_world_hint": False},
}
TOOLS: Mapping[str, tuple[str, str]] = {
    "list_agents": ("List agents", READS),
    "list_runs": ("List runs", READS),
    "start_run": ("Start a run", STARTS),
    "chat": ("Chat with an agent", STARTS),
    "get_run": ("Look at a run", READS),
    "logs": ("Read a run's log", READS),
    "list_approvals": ("List pending approvals", READS),
    "decide_approval": ("Decide an approval", ENDS),
    "kill_run": ("Kill a run", ENDS),
    "steer": ("Steer a run", STARTS),
}
"""Each tool's title, and what a client may expect of it."""


def build(desk: Desk, *, allow_approve: bool) -> MCPServer:
    """Return the server; without `allow_approve` it has no tool that decides."""
    from mcp.server import MCPServer
    from mcp_types import ToolAnnotations

    from aosctl import __version__

    server = MCPServer(
        "aosctl",
        title="pgAgentOS",
        instructions=_ABOUT,
        version=__version__,
        log_level="CRITICAL",  # what clients sent is nothing for stderr
    )
    tools = Tools(desk)
    for name, (title, kind) in TOOLS.items():
        if name == "decide_approval" and not allow_approve:
            continue
        function = getattr(tools, name)
        server.add_tool(
            function,
            name=name,
            title=title,
            description=cleandoc(function.__doc__ or ""),
            annotations=ToolAnnotations(title=title, **_HINTS[kind]),
            structured_output=True,
        )
    return server


def serve_stdio(server: MCPServer) -> None:
    """Serve whoever started us, until they close our input."""
    import anyio

    anyio.run(server.run_stdio_async)


def serve_http(server: MCPServer, listening: socket.socket, token: str) -> None:
    """Serve whoever knows the token, until SIGINT or SIGTERM."""
    import uvicorn

    host = listening.getsockname()[0]
    app = guarded(server.streamable_http_app(host=host), token)
    config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=5)
    uvicorn.Server(config).run(sockets=[listening])


def guarded(app: App, token: str) -> App:
    """Return the application behind a bearer token."""
    import hmac

    wanted = f"Bearer {token}".encode()

    async def guard(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            given = dict(scope["headers"]).get(b"authorization", b"")
            if not hmac.compare_digest(given, wanted):
                await _refuse(send)
                return
        await app(scope, receive, send)

    return guard


async def _refuse(send: Send) -> None:
    body = b'{"error": "a bearer token is needed: the one that aosctl mcp serve was started with"}'
    headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
    await send({"type": "http.response.start", "status": 401, "headers": headers})
    await send({"type": "http.response.body", "body": body})
