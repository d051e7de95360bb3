"""The process that `nursery` forks from: it has imported `aosctl`, and runs nothing itself."""

from __future__ import annotations

import json
import os
import selectors
import socket
import sys
import time
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import NoReturn

WARM = (
    "aosctl.cli.boundary", "aosctl.cli.app", "aosctl.db.connection", "aosctl.db.person",
    "aosctl.cli.output", "yaml",
)  # fmt: skip
FILES = 6
"""What comes with an order: stdin, stdout, stderr, the folder, the order, where to tell."""


def nurse(orders: socket.socket) -> list[int]:
    """Fork for each order and tell how the fork ended; return, in each fork, its files."""
    waiting = selectors.DefaultSelector()
    waiting.register(orders, selectors.EVENT_READ)
    while True:
        for ready, _ in waiting.select():
            if ready.data is not None:
                pid, told = ready.data
                waiting.unregister(ready.fd)
                os.close(ready.fd)
                with told, suppress(OSError):  # nobody may listen any more
                    told.sendall(str(os.waitpid(pid, 0)[1]).encode())
                continue
            _, files, _, _ = socket.recv_fds(orders, 1, FILES)
            if not files:
                os._exit(0)
            if (pid := os.fork()) == 0:
                _forget(waiting)
                return files
            told = socket.socket(fileno=files.pop())
            told.sendall(str(pid).encode())
            waiting.register(os.pidfd_open(pid), selectors.EVENT_READ, (pid, told))
            for file in files:
                os.close(file)


def _forget(waiting: selectors.BaseSelector) -> None:
    """Close in a fork what belongs to the nursery and to those before it."""
    for one in list(waiting.get_map().values()):
        if one.data is None:
            one.fileobj.close()  # type: ignore[union-attr]
        else:
            os.close(one.fd)
            one.data[1].close()
    waiting.close()


def become(files: list[int]) -> NoReturn:
    """Be the installed command, as its script is."""
    *streams, folder, form, _told = files
    for number, file in enumerate(streams):
        os.dup2(file, number)
    os.fchdir(folder)
    order = json.loads(Path(f"/proc/self/fd/{form}").read_bytes())
    for file in files:
        os.close(file)
    os.umask(order["umask"])
    os.environ.clear()
    os.environ.update(order["env"])
    time.tzset()
    sys.argv = order["argv"]
    sys.path[0] = str(Path(sys.argv[0]).parent)
    from aosctl.__main__ import entry

    sys.exit(entry())


if __name__ == "__main__":
    for name in WARM:
        import_module(name)
    become(nurse(socket.socket(fileno=int(sys.argv[1]))))
