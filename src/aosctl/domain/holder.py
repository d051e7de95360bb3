"""The name under which a chat takes leases: from it a later process sees that the chat has ended.

It is LOGIN@HOST:PID, and where the system tells (Linux), the moment at which that process began and
a digest of its place: this boot, the namespace of its process numbers, and its user. A process
number alone says nothing: it is given again, and means another process elsewhere.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_PROC = Path("/proc")
_NAME = re.compile(
    r"(?P<shown>.+@[^@]*:(?P<pid>[0-9]{1,10}))\.(?P<began>[0-9]+)\.(?P<place>[0-9a-f]{12})"
)
_STATE, _BEGAN = 0, 19
"""Fields of /proc/PID/stat, counted from the one behind the program's name."""


def own_name(login: str) -> str:
    """Return the name of this process, as one of the database's `login`."""
    import socket

    pid = os.getpid()
    shown = f"{login}@{socket.gethostname()}:{pid}"
    place, stat = _place(), _stat(pid)
    return f"{shown}.{stat[_BEGAN]}.{place}" if place and stat else shown


def shown(name: str) -> str:
    """Return what people read of a name: LOGIN@HOST:PID."""
    found = _NAME.fullmatch(name)
    return found["shown"] if found else name


def has_ended(name: str) -> bool:
    """Tell whether the process of this name has ended for certain; False where that can't be seen.

    A stopped one has not; one that was killed and that nobody has waited for has.
    """
    found = _NAME.fullmatch(name)
    if found is None or found["place"] != _place():
        return False
    try:
        stat = _stat(int(found["pid"]))
    except OSError:
        return False
    if stat is None:
        return True
    if stat[_BEGAN] != found["began"]:
        return True  # the number was given to another process since
    return stat[_STATE] in ("Z", "X") and _threads(int(found["pid"])) <= 1


def _place() -> str | None:
    """Return a digest of where process numbers mean what they mean to us, None if unknown."""
    import hashlib

    try:
        boot = (_PROC / "sys/kernel/random/boot_id").read_text()
        numbers = os.readlink(_PROC / "self/ns/pid")
        if os.readlink(_PROC / "self") != str(os.getpid()):
            return None  # it lists the processes of another namespace
    except OSError:
        return None
    # /proc may hide the processes of other users, so that they seem to have ended.
    return hashlib.sha256(f"{boot}|{numbers}|{os.geteuid()}".encode()).hexdigest()[:12]


def _stat(pid: int) -> list[str] | None:
    """Return what the system says of a process, None when there is none."""
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()


def _threads(pid: int) -> int:
    try:
        return len(list((_PROC / str(pid) / "task").iterdir()))
    except OSError:
        return 0
