"""MCP over the standard streams of a process of our own, with bounds on all that it sends.

The `mcp` package's own transport gives the server some of our environment, keeps a line of any
length and leaves stderr to us; apart from that, this does what it does (`mcp/client/stdio.py`).
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from aosctl.domain.tools.mcp_allowance import Allowance
from aosctl.domain.tools.mcp_settings import Stdio
from aosctl.domain.tools.processes import child_environment, hide_memory

if TYPE_CHECKING:
    from anyio.abc import ByteReceiveStream, ByteSendStream, Process
    from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
    from mcp.client._transport import TransportStreams
    from mcp.shared.message import SessionMessage

_GRACE_SECONDS = 1.0
_STDERR_BYTES = 4_096


class Stderr:
    """The end of what a server wrote to stderr."""

    def __init__(self) -> None:
        self._end = b""

    def add(self, chunk: bytes) -> None:
        self._end = (self._end + chunk)[-_STDERR_BYTES:]

    def last_line(self) -> str | None:
        """Return the last line that says something."""
        lines = [line for line in self._end.decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].strip()[:500] if lines else None


@asynccontextmanager
async def stdio_transport(
    server: Stdio, allowance: Allowance, stderr: Stderr, ended: Callable[[], None]
) -> AsyncGenerator[TransportStreams, None]:
    """Start the server and yield its streams; end it, and all that it started, afterwards.

    `ended` is told when nothing more will come of it. Raises OSError where it can't be started.
    """
    import subprocess

    import anyio
    from mcp.shared.message import SessionMessage

    process = await anyio.open_process(
        server.command,
        env=_environment(server),
        cwd=server.cwd,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    incoming, read = anyio.create_memory_object_stream[SessionMessage | Exception](0)
    write, outgoing = anyio.create_memory_object_stream[SessionMessage](0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_read_messages, process.stdout, incoming, allowance, ended)
        tasks.start_soon(_read_stderr, process.stderr, stderr)
        tasks.start_soon(_write_messages, process.stdin, outgoing, incoming)
        try:
            yield read, write
        finally:
            with anyio.CancelScope(shield=True):
                write.close()
                read.close()
                await _end(process)
            tasks.cancel_scope.cancel()


def _environment(server: Stdio) -> dict[str, str]:
    """Return what the server gets: of ours, where programs, texts and caches are, and no more.

    Raises AosError for a variable that would load code into whatever is started.
    """
    home = Path(os.path.expanduser("~"))
    declared = {"TMPDIR": os.environ.get("TMPDIR", "/tmp"), **server.env}  # noqa: S108 - the system's
    hide_memory()
    return child_environment(home, declared)


async def _read_messages(
    stdout: ByteReceiveStream | None,
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
    allowance: Allowance,
    ended: Callable[[], None],
) -> None:
    """Pass on a message a line, until the server ends or sends too much."""
    import anyio

    async with incoming:
        lines = _Lines(allowance)
        while (chunk := await _received(stdout)) is not None:
            if not allowance.take(len(chunk)) or not lines.add(chunk):
                break
            for line in lines.complete():
                with suppress(anyio.ClosedResourceError, anyio.BrokenResourceError):
                    await incoming.send(_message(line))
    ended()


async def _read_stderr(stream: ByteReceiveStream | None, stderr: Stderr) -> None:
    while (chunk := await _received(stream)) is not None:
        stderr.add(chunk)


async def _write_messages(
    stdin: ByteSendStream | None,
    outgoing: MemoryObjectReceiveStream[SessionMessage],
    incoming: MemoryObjectSendStream[SessionMessage | Exception],
) -> None:
    import anyio

    try:
        async with outgoing:
            async for each in outgoing:
                text = each.message.model_dump_json(by_alias=True, exclude_unset=True)
                if stdin is not None:
                    await stdin.send(f"{text}\n".encode())
    except (anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        await incoming.aclose()  # nobody waits for an answer to what never went out


class _Lines:
    """Bytes as they come, cut at line breaks."""

    def __init__(self, allowance: Allowance) -> None:
        self._allowance = allowance
        self._parts: list[bytes] = []
        self._size = 0
        self._complete: list[bytes] = []

    def add(self, chunk: bytes) -> bool:
        """Take bytes; False when the line they belong to is too long."""
        *ends, rest = chunk.split(b"\n")
        for end in ends:
            if not self._allowance.admit(self._size + len(end)):
                return False
            self._complete.append(b"".join([*self._parts, end]))
            self._parts, self._size = [], 0
        if rest:
            self._parts.append(rest)
            self._size += len(rest)
        return self._allowance.admit(self._size)

    def complete(self) -> list[bytes]:
        """Return the lines that ended since the last time."""
        lines, self._complete = self._complete, []
        return [line for line in lines if line.strip()]


def _message(line: bytes) -> SessionMessage | Exception:
    import mcp_types
    from mcp.shared.message import SessionMessage

    try:
        return SessionMessage(mcp_types.jsonrpc_message_adapter.validate_json(line, by_name=False))
    except ValueError as error:
        return error


async def _received(stream: ByteReceiveStream | None) -> bytes | None:
    """Return the next bytes of a pipe, None at its end."""
    import anyio

    if stream is None:
        return None
    try:
        return await stream.receive()
    except (anyio.EndOfStream, anyio.ClosedResourceError, anyio.BrokenResourceError, OSError):
        return None


async def _end(process: Process) -> None:
    """Close the server's input, give it a moment, then end it with all that it started."""
    import anyio

    with suppress(OSError, anyio.BrokenResourceError, anyio.ClosedResourceError):
        if process.stdin is not None:
            await process.stdin.aclose()
    for sign in (None, signal.SIGTERM, signal.SIGKILL):
        if sign is not None:
            # The leader's id is the group's, also when the leader is gone and others are left.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, sign)
        with anyio.move_on_after(_GRACE_SECONDS):
            while process.returncode is None:
                await anyio.sleep(0.01)
        if process.returncode is not None:
            break
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.aclose()
