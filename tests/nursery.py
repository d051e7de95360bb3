"""The installed command without its start: forked from a process that has imported it.

A start is 0.4 s of imports, a fork some 0.03 s. A fork has what an executed program has of who
starts it, and no more: arguments, environment, streams, folder, umask, signals as they are by
default. `tests/cli/test_nursery.py` compares the two.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from command import AOSCTL, Ended

_AT_START = ("PYTHON", "LC_", "LANG", "LD_", "MALLOC_", "TZ")
"""Settings that are read as a process starts: with others than the nursery's it must start."""


class Nursery:
    """Forks `aosctl`, several at once where threads ask for it."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._at_start = _at_start(env)
        self._orders, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, Path(__file__).with_name("nurse.py"), str(theirs.fileno())],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                env=dict(env), pass_fds=[theirs.fileno()],
            )  # fmt: skip

    def serves(self, env: Mapping[str, str]) -> bool:
        """Tell whether a fork with these settings is what a process would be."""
        return _at_start(env) == self._at_start

    def run(self, arguments: Sequence[str], env: Mapping[str, str], stdin: str) -> Ended:
        """Run `aosctl`; raise TimeoutExpired after two minutes."""
        argv = [str(AOSCTL), *(os.fsdecode(os.fsencode(word)) for word in arguments)]
        order = json.dumps({"argv": argv, "env": dict(env), "umask": _umask()}).encode()
        (given, giving), (out, outs), (err, errs) = (os.pipe() for _ in range(3))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        form, folder = os.memfd_create("order"), os.open(".", os.O_RDONLY | os.O_DIRECTORY)
        os.write(form, order)
        files = [given, outs, errs, folder, form, theirs.detach()]
        socket.send_fds(self._orders, [b"x"], files)
        for file in files:
            os.close(file)
        with ours, ThreadPoolExecutor(3) as streams:
            streams.submit(_write, giving, stdin)
            came = [streams.submit(_read, end) for end in (out, err)]
            pid = int(ours.recv(64))
            ours.settimeout(120)
            try:
                status = os.waitstatus_to_exitcode(int(ours.recv(64)))
            except TimeoutError:
                os.kill(pid, signal.SIGKILL)
                raise subprocess.TimeoutExpired(argv, 120) from None
            return Ended(status, came[0].result(), came[1].result())

    def close(self) -> None:
        """End the process that is forked from; it had nothing to say."""
        self._orders.close()
        said = self._process.communicate(timeout=20)
        assert (self._process.returncode, *said) == (0, b"", b"")


def _at_start(env: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if name.startswith(_AT_START)}


def _umask() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("Umask:")).split()[1], 8)


def _read(end: int) -> str:
    with open(end) as stream:
        return stream.read()


def _write(end: int, text: str) -> None:
    with suppress(BrokenPipeError), open(end, "w") as stream:
        stream.write(text)
