"""Many command lines in one process, one after the other, each with streams of its own.

A process for each costs half a second of imports. Here `aosctl` is entered as its program enters
it, with new streams on the file descriptors 1 and 2, as a shell would have made them: what counts
is what came out of them, bytes and all.
"""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

LONGEST_SECONDS = 20
"""A line that takes longer is stopped, and the place where it stood is shown."""
Streams = Literal["file", "terminal", "full", "gone", "no stdout", "no stderr", "neither"]
"""What stands behind stdout; stderr is a file, but for a terminal, which is behind both."""


_KEPT: list[object] = []
"""What the program put in the place of a closed stream: else it closes a later line's."""


class Came(NamedTuple):
    """What became of a command line: its status, and the bytes of both streams."""

    status: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8", "surrogateescape")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8", "surrogateescape")


def in_turn(
    lines: Sequence[Sequence[str]],
    env: Mapping[str, str],
    streams: Streams = "file",
    *,
    stdin: Mapping[int, str] | None = None,
    columns: int = 80,
    cwd: Path | None = None,
) -> list[Came]:
    """Run command lines in one process; `stdin` has the input of a line by its place."""
    order = {
        "lines": [list(line) for line in lines],
        "streams": streams,
        "stdin": {str(place): text for place, text in (stdin or {}).items()},
        "columns": columns,
    }
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__))], input=json.dumps(order).encode(), check=False,
        capture_output=True, env=dict(env), timeout=240, cwd=cwd,
    )  # fmt: skip
    assert done.returncode == 0, (done.returncode, done.stderr.decode("utf-8", "replace"))
    came = [
        Came(int(status), base64.b64decode(out), base64.b64decode(err))
        for status, out, err in json.loads(done.stdout)
    ]
    assert len(came) == len(lines)
    return came


def _main() -> None:
    import faulthandler
    import os
    import traceback

    order = json.loads(sys.stdin.buffer.read())
    answer = os.fdopen(os.dup(1), "w", encoding="ascii")
    complaint = os.dup(2)  # for what is wrong with this program itself
    trail = os.open(os.environ.get("TRAIL", os.devnull), os.O_WRONLY | os.O_CREAT)
    forms = [(stream.encoding, stream.errors) for stream in (sys.stdout, sys.stderr)]
    answers = []
    for place, argv in enumerate(order["lines"]):
        faulthandler.dump_traceback_later(LONGEST_SECONDS, exit=True, file=complaint)
        os.write(trail, f"{argv}\n".encode("ascii", "backslashreplace"))
        stage = _Stage(order["streams"], forms, order["columns"])
        try:
            status = stage.run(argv, order["stdin"].get(str(place), ""))
        except BaseException as error:
            os.write(complaint, "".join(traceback.format_exception(error)).encode())
            os._exit(1)
        out, err = stage.came()
        answers.append((status, base64.b64encode(out).decode(), base64.b64encode(err).decode()))
    json.dump(answers, answer)
    answer.flush()
    os._exit(0)


class _Stage:
    """The streams of one command line."""

    def __init__(self, kind: Streams, forms: list[tuple[str, str]], columns: int) -> None:
        import os
        import tempfile
        import threading

        self._forms = forms
        self._kind = kind
        self._files = [tempfile.TemporaryFile() for _ in (1, 2)]  # noqa: SIM115
        self._seen = bytearray()
        self._reader: threading.Thread | None = None
        ends = [file.fileno() for file in self._files]
        extra = -1
        if kind == "terminal":
            import fcntl
            import pty
            import struct
            import termios

            master, extra = pty.openpty()
            fcntl.ioctl(extra, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
            self._reader = threading.Thread(target=self._read, args=(master,), daemon=True)
            self._reader.start()
            ends = [extra, extra]
        elif kind == "full":
            extra = ends[0] = os.open("/dev/full", os.O_WRONLY)
        elif kind == "gone":
            reader, extra = os.pipe()
            os.close(reader)
            ends[0] = extra
        for number, end in enumerate(ends, 1):
            os.dup2(end, number)
        if extra >= 0:
            os.close(extra)

    def run(self, argv: list[str], text: str) -> int:
        """Run one line as the program does; return its status."""
        import os
        import tempfile

        given = tempfile.TemporaryFile()  # noqa: SIM115
        given.write(text.encode())
        given.seek(0)
        os.dup2(given.fileno(), 0)
        given.close()
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        sys.stdout, sys.stderr = (
            open(number, "w", encoding=encoding, errors=errors, closefd=False,  # noqa: SIM115
                 buffering=1 if number == 2 or os.isatty(number) else -1)
            for number, (encoding, errors) in enumerate(self._forms, 1)
        )  # fmt: skip
        for number, name in ((1, "stdout"), (2, "stderr")):
            if self._kind in (f"no {name}", "neither"):
                os.close(number)
                setattr(sys, name, None)
        # As a shell would have given them, in bytes.
        argv = [os.fsdecode(word.encode("utf-8", "surrogateescape")) for word in argv]
        sys.argv = ["aosctl", *argv]
        from aosctl.__main__ import main

        try:
            status = main()
        except SystemExit as leaving:
            status = leaving.code if isinstance(leaving.code, int) else 1
        for stream in filter(None, (sys.stdout, sys.stderr)):
            try:
                stream.flush()
            except (OSError, ValueError):
                status = status or 1
        return status

    def came(self) -> tuple[bytes, bytes]:
        """Return what was written to the streams; a terminal's all as stdout."""
        import os

        _KEPT.extend((sys.stdout, sys.stderr))
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        if null > 2:
            os.close(null)
        if self._reader is not None:
            self._reader.join()
            return bytes(self._seen).replace(b"\r\n", b"\n"), b""
        found = []
        for file in self._files:
            file.seek(0)
            found.append(file.read())
            file.close()
        return found[0], found[1]

    def _read(self, master: int) -> None:
        import os

        try:
            while piece := os.read(master, 65536):
                self._seen += piece
        except OSError:  # nobody has the other end any more
            pass
        os.close(master)


if __name__ == "__main__":
    _main()
