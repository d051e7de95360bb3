"""Run a process for a call: an environment of its own, a deadline, and an end to its output."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Self

from aosctl.errors import AosError

_TICK_SECONDS = 0.05
_CHUNK = 65_536
_MOST_STDERR = 8_192


@dataclass(frozen=True, slots=True)
class Ended:
    """How a process ended.

    status: as subprocess has it, a signal is below 0. why: None, or why it was ended: `stop`,
    `time`, `output`. stderr: the end of what it said.
    """

    status: int
    stdout: bytes
    stderr: str
    why: str | None


def child_environment(home: Path, declared: Mapping[str, str]) -> dict[str, str]:
    """Return what a skill's process gets: nothing of ours but where programs and texts are.

    Raises AosError for a variable that would load code into whatever is started.
    """
    for name in declared:
        if name.startswith(("LD_", "DYLD_")):
            raise AosError(f'the variable "{name}" may not be set for a skill')
    kept = ("PATH", "LANG", "LC_ALL", "TZ")
    own = {name: os.environ[name] for name in kept if name in os.environ}
    return {**own, "HOME": str(home), "TMPDIR": str(home), **declared}


def hide_memory() -> None:
    """Keep this process's environment and memory from other processes of the same user.

    Linux lets those read /proc/PID/environ, where a password may stand, and attach as a debugger.
    A process of root may still.
    """
    with suppress(OSError, AttributeError):
        import ctypes

        dumpable = 4  # PR_SET_DUMPABLE
        ctypes.CDLL(None).prctl(dumpable, 0, 0, 0, 0)


def run_process(
    argv: Sequence[str],
    *,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    max_bytes: int,
    stop: Event,
) -> Ended:
    """Run a command to its end, in a session of its own; it and its children are killed then."""
    process = subprocess.Popen(  # noqa: S603 - what the host allows
        argv,
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with _Reader(process, max_bytes) as reader:
        try:
            why = reader.read(time.monotonic() + seconds, stop)
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            status = process.wait()
    said = bytes(reader.stderr).decode("utf-8", "replace")
    return Ended(status, bytes(reader.stdout), said, why)


class _Reader:
    """Reads what a process says until it is gone or has to go."""

    def __init__(self, process: subprocess.Popen[bytes], max_bytes: int) -> None:
        self._process = process
        self._max_bytes = max_bytes
        self._ready = selectors.DefaultSelector()
        self.stdout, self.stderr = bytearray(), bytearray()
        for pipe, kept in ((process.stdout, self.stdout), (process.stderr, self.stderr)):
            if pipe is not None:
                self._ready.register(pipe, selectors.EVENT_READ, kept)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._ready.close()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                pipe.close()

    def read(self, deadline: float, stop: Event) -> str | None:
        """Return why the process has to go, or None when it went by itself."""
        while self._process.poll() is None:
            if stop.is_set():
                return "stop"
            if time.monotonic() > deadline:
                return "time"
            self._take(_TICK_SECONDS)
            if len(self.stdout) > self._max_bytes:
                return "output"
        while self._take(0):  # what it said last; a child of its own may hold the pipes open
            if len(self.stdout) > self._max_bytes:
                return "output"
        return None

    def _take(self, seconds: float) -> bool:
        """Take what can be read now; False when nothing can."""
        if not self._ready.get_map():
            time.sleep(seconds)
            return False
        took = False
        for key, _ in self._ready.select(seconds):
            chunk = os.read(key.fd, _CHUNK)
            key.data.extend(chunk)
            took = took or bool(chunk)
            if not chunk:
                self._ready.unregister(key.fileobj)
        del self.stderr[:-_MOST_STDERR]
        return took
