"""What `postmaster.pid` tells about a running server, read without starting a process.

Every command passes here on its way to the embedded server: keep the imports few.
"""

from __future__ import annotations

import os
import signal
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import socket

POLL_SECONDS = 0.005


class Postmaster(NamedTuple):
    """The first process of a server, as its pid file describes it.

    `state` is `starting`, `ready`, `stopping` or `standby`; `socket_dir` is empty while starting.
    """

    pid: int
    data_dir: Path
    port: int
    socket_dir: str
    state: str

    @property
    def socket_path(self) -> str:
        return f"{self.socket_dir}/.s.PGSQL.{self.port}"


def read_pid_file(data_dir: Path) -> Postmaster | None:
    """Read the pid file of a data folder.

    None when there is none, it is half-written, or it came with a copy of another folder.
    """
    try:
        text = (data_dir / "postmaster.pid").read_text(encoding="utf-8", errors="surrogateescape")
    except (FileNotFoundError, NotADirectoryError):
        return None
    lines = [*text.split("\n"), *[""] * 8]
    try:
        pid, port = int(lines[0]), int(lines[3] or 0)
        if not os.path.samefile(lines[1], data_dir):
            return None
    except ValueError:
        return None
    except OSError:
        pass  # the server sees the folder under another path, in a container for one
    return Postmaster(pid, data_dir, port, lines[4].strip(), lines[7].strip() or "starting")


def accepts_connections(server: Postmaster) -> bool:
    """Tell whether the server listens on its socket, in a folder that is its owner's alone.

    The socket of a killed server takes connections, which nobody answers, until the last of its
    children has ended; so the process is looked at too, where its number means something here.
    """
    import socket

    if not is_private(server):
        return False
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
            client.settimeout(5)
            client.connect(server.socket_path)
            listener = _listener(client)
    except TimeoutError:
        return True  # somebody listens, and is busy
    except OSError:
        return False
    return listener != server.pid or is_alive(server.pid, server.data_dir)


def _listener(client: socket.socket) -> int:
    """Return the process that listens at the other end; 0 when it is in another container."""
    import struct

    try:
        from socket import SO_PEERCRED, SOL_SOCKET
    except ImportError:  # not Linux
        return 0
    size = struct.calcsize("3i")
    credentials = client.getsockopt(SOL_SOCKET, SO_PEERCRED, size)
    return int(struct.unpack("3i", credentials)[0])


def is_private(server: Postmaster) -> bool:
    """Tell whether the socket's folder belongs to the owner of the data.

    It may not, because a pid file outlives its server: after a reboot anybody could have made a
    folder of that name in /tmp.
    """
    try:
        folder = os.lstat(server.socket_dir)
        return stat.S_ISDIR(folder.st_mode) and folder.st_uid == server.data_dir.stat().st_uid
    except OSError:
        return False


def is_alive(pid: int, data_dir: Path) -> bool:
    """Tell whether the process is a server of this data folder, run by the folder's owner.

    A zombie and a stranger to whom the number has passed on since are not.
    """
    try:
        owner = data_dir.stat().st_uid
    except OSError:
        return False
    found_owner, state, command = _look_at(pid)
    if found_owner != owner or state in ("Z", "X"):
        return False
    return os.fsencode(data_dir) in command or not command  # without one: it is exiting


def _look_at(pid: int) -> tuple[int, str, bytes]:
    """Return the user id, the state and the command line of a process; of none: -1, "", b""."""
    try:
        if not os.path.exists("/proc/self/stat"):
            return _ask_ps(pid)
        owner = os.stat(f"/proc/{pid}").st_uid
        with open(f"/proc/{pid}/stat", "rb") as file:
            state = file.read().rpartition(b")")[2].split()[0].decode()
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return owner, state, file.read()
    except OSError:
        return -1, "", b""


def _ask_ps(pid: int) -> tuple[int, str, bytes]:
    import subprocess

    command = ["/bin/ps", "-ww", "-o", "uid=,state=,command=", "-p", str(pid)]
    answer = subprocess.run(command, capture_output=True, check=False).stdout  # noqa: S603 - fixed
    owner, state, command_line = [*answer.split(None, 2), b"", b"", b""][:3]
    return int(owner or -1), state[:1].decode(), command_line


def wait_until_gone(server: Postmaster, seconds: float) -> bool:
    """Wait for the server's first process to end; False when it outlives the time."""
    deadline = time.monotonic() + seconds
    while is_alive(server.pid, server.data_dir):
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def shut_down(server: Postmaster, seconds: float, *, immediately: bool = False) -> bool:
    """Stop the server: roll back what is open and write a checkpoint, or `immediately`, neither.

    False when it still runs after `seconds`.
    """
    if is_alive(server.pid, server.data_dir):
        try:
            os.kill(server.pid, signal.SIGQUIT if immediately else signal.SIGINT)
        except ProcessLookupError:
            return True
    return wait_until_gone(server, seconds)


def end_leftovers(data_dir: Path) -> None:
    """Ask processes that outlived a killed server to end, where /proc tells who they are.

    A backend in the middle of a long query does not see that its server is gone.
    """
    owner = data_dir.stat().st_uid
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if entry.stat().st_uid == owner and (entry / "cwd").readlink() == data_dir:
                os.kill(int(entry.name), signal.SIGTERM)
        except OSError:
            continue  # ended meanwhile, or not ours
