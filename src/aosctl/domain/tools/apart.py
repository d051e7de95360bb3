"""Read what strangers wrote in a process of its own: it can be made to hang or to eat its reader.

The process has no environment and opens no connection; it ends by itself when it takes too much
time or memory, and with the one that started it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import threading
from contextlib import suppress

from aosctl.domain.tools.web.deadline import Deadline

CPU_SECONDS = 30
MEMORY_BYTES = 1 << 30
_readers = threading.BoundedSemaphore(4)
"""How many are there at once: each may take that memory."""
_SLICE_SECONDS = 0.05


def read_apart(module: str, given: bytes, deadline: Deadline) -> bytes | None:
    """Give bytes to a module's process and return what it says; None when it has failed.

    Raises what `deadline` raises.
    """
    while not _readers.acquire(timeout=min(deadline.left(), _SLICE_SECONDS)):
        pass
    try:
        return _read(module, given, deadline)
    finally:
        _readers.release()


def _read(module: str, given: bytes, deadline: Deadline) -> bytes | None:
    command = [sys.executable, "-P", "-m", module]
    # A file and no pipe: of what a pipe takes no more, `communicate` forgets the rest when it is
    # called again after a time-out.
    with tempfile.TemporaryFile() as file:
        file.write(given)
        file.seek(0)
        child = subprocess.Popen(  # noqa: S603 - our own module; what is read comes on its input
            command,
            stdin=file,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            close_fds=True,
        )
    with child:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    out, _ = child.communicate(timeout=min(deadline.left(), _SLICE_SECONDS))
                    break
        except BaseException:
            child.kill()
            raise
    return out if child.returncode == 0 else None


def limit() -> None:
    """Lower the limits of this process for good; for the process that reads."""
    import resource

    for what, most in (
        (resource.RLIMIT_CPU, CPU_SECONDS),
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with suppress(OSError, ValueError):  # a lower one holds already
            resource.setrlimit(what, (most, most))
