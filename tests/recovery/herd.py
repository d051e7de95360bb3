"""Worker processes: start them, kill them, stop them and let them go on."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

from recovery.journal import FOLDER, Journal
from recovery.scene import is_alive


@dataclass
class Herd:
    """Forks workers from a nursery; keeps `size` of them alive once `keep` is called."""

    dsn: str
    journal: Journal
    lease: int
    alive: list[int] = field(default_factory=list)
    stopped: dict[int, float] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._nursery = subprocess.Popen(
            [sys.executable, "-m", "recovery.launch"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for pid in self.alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self._nursery.stdin is not None:
            self._nursery.stdin.close()
        self._nursery.wait(20)
        if self._nursery.stdout is not None:
            self._nursery.stdout.close()

    @property
    def log(self) -> Path:
        return self.journal.folder / "workers.err"

    def start(self, *argv: str, env: Mapping[str, str] | None = None, dsn: str = "") -> int:
        """Start `aosctl worker` with these arguments; return its process id."""
        settings = {"AOSCTL_DSN": dsn or self.dsn, FOLDER: str(self.journal.folder), **(env or {})}
        arguments = list(argv) or ["worker", "--lease", str(self.lease), "--concurrency", "2"]
        order = {"argv": arguments, "env": settings, "log": str(self.log)}
        stdin, stdout = self._nursery.stdin, self._nursery.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps(order) + "\n")
        stdin.flush()
        pid = int(stdout.readline())
        self.alive.append(pid)
        return pid

    def tend(self) -> None:
        """Forget the dead; let those that have stood still for longer than a lease go on."""
        now = time.monotonic()
        for pid in list(self.alive):
            if not is_alive(pid):
                self.alive.remove(pid)
                self.stopped.pop(pid, None)
            elif _is_stopped(pid):
                since = self.stopped.setdefault(pid, now)
                if now - since > self.lease + 1.0:
                    self.stopped.pop(pid)
                    os.kill(pid, signal.SIGCONT)

    def strike(self, number: int, chance: random.Random) -> int | None:
        """Send a signal to some worker that is running."""
        running = [pid for pid in self.alive if pid not in self.stopped and is_alive(pid)]
        if not running:
            return None
        pid = chance.choice(running)
        with suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    def dismiss(self, seconds: float = 20.0) -> None:
        """End all by SIGTERM, as an administrator does, and wait for them."""
        for pid in self.alive:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + seconds
        while any(map(is_alive, self.alive)):
            assert time.monotonic() < deadline, f"workers do not end: {self.alive}"
            time.sleep(0.02)
        self.alive.clear()


def _is_stopped(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state == "T"


class Proxy:
    """A way to the server that can be cut in the middle of whatever goes over it."""

    def __init__(self, target: str, port: int = 5432) -> None:
        self._target = f"{target}/.s.PGSQL.{port}"
        self.folder = tempfile.mkdtemp(prefix="aosctl-proxy-")
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(f"{self.folder}/.s.PGSQL.{port}")
        self._door.listen(64)
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, chance: random.Random) -> None:
        """Cut one connection, both ways at once."""
        pairs = list(self._pairs)
        if pairs:
            self.cuts += 1
            self._end(chance.choice(pairs))

    def close(self) -> None:
        self._door.close()
        for pair in list(self._pairs):
            self._end(pair)
        for path in Path(self.folder).iterdir():
            path.unlink()
        Path(self.folder).rmdir()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._door.accept()
                server = socket.socket(socket.AF_UNIX)
                try:
                    server.connect(self._target)
                except OSError:
                    client.close()
                    server.close()
                    continue
                pair = (client, server)
                self._pairs.append(pair)
                for source, sink in (pair, (server, client)):
                    threading.Thread(
                        target=self._carry, args=(source, sink, pair), daemon=True
                    ).start()

    def _carry(
        self, source: socket.socket, sink: socket.socket, pair: tuple[socket.socket, socket.socket]
    ) -> None:
        with suppress(OSError):
            while data := source.recv(4096):
                sink.sendall(data)
        self._end(pair)

    def _end(self, pair: tuple[socket.socket, socket.socket]) -> None:
        with suppress(ValueError):
            self._pairs.remove(pair)
        for one in pair:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
