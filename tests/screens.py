"""The installed command at an emulated terminal: what stands on the screen, not what came."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from typing import Self

import pexpect
import pyte

from command import AOSCTL
from terminal import CTRL_C, ENTER

ROWS = 40


class Screen:
    """`aosctl` with these arguments; it is looked at below the line that was said last."""

    def __init__(
        self,
        env: Mapping[str, str],
        *arguments: str,
        seconds: float = 90,
        columns: int = 100,
        term: str = "xterm-256color",
    ) -> None:
        self._child = pexpect.spawn(
            str(AOSCTL),
            list(arguments),
            env={**env, "TERM": term},
            encoding="utf-8",
            codec_errors="replace",
            timeout=seconds,
            dimensions=(ROWS, columns),
        )
        self._seconds = seconds
        self._screen = pyte.Screen(columns, ROWS)
        self._screen.write_process_input = self._child.send  # where the cursor is, when asked
        self._stream = pyte.Stream(self._screen)
        self._said = ""
        self.raw = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._child.close(force=True)

    @property
    def shown(self) -> str:
        """Return the screen's lines below the one that was said last."""
        lines = [line.rstrip() for line in self._screen.display]
        if self._said:
            places = [i for i, line in enumerate(lines) if line.endswith(self._said)]
            lines = lines[places[-1] + 1 :] if places else []
        return "\n".join(lines)

    def expect(self, pattern: str) -> str:
        """Wait until the screen shows a text; return it."""
        until = time.monotonic() + self._seconds
        while not (found := re.search(pattern, self.shown, re.MULTILINE)):
            assert time.monotonic() < until, f"{pattern!r} did not come:\n{self._whole()}"
            self._read()
        return found[0]

    def expect_text(self, text: str) -> str:
        return self.expect(re.escape(text))

    def type(self, keys: str) -> None:
        self._said = ""
        self._child.send(keys)

    def say(self, line: str) -> None:
        """Type a line and Enter; what is expected from now on stands below it."""
        self._child.send(line)
        self._said = f"> {line}"[-14:].rstrip()
        until = time.monotonic() + self._seconds
        while not any(row.rstrip().endswith(self._said) for row in self._screen.display):
            assert time.monotonic() < until, f"{line!r} was not typed:\n{self._whole()}"
            self._read()
        self._child.send(ENTER)

    def interrupt(self) -> None:
        self._child.send(CTRL_C)

    def paste(self, text: str) -> None:
        """Paste, as terminals do between brackets, and press Enter."""
        self._said = ""
        self._child.send(f"\x1b[200~{text}\x1b[201~{ENTER}")

    def hang_up(self) -> int:
        """Take the terminal away; wait for the end of the program and return its wait status."""
        self._child.ptyproc.fileobj.close()
        _, status = os.waitpid(self._child.pid, 0)
        self._child.ptyproc.closed = self._child.ptyproc.terminated = True
        return status

    def status(self) -> int:
        """Wait for its end; return the exit status."""
        while True:
            try:
                self._take(self._child.read_nonblocking(65536, self._seconds))
            except pexpect.EOF:
                break
        self._child.close()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -1)

    def _read(self) -> None:
        try:
            self._take(self._child.read_nonblocking(65536, 1))
        except pexpect.TIMEOUT:
            return
        except pexpect.EOF:
            raise AssertionError(f"it has ended:\n{self._whole()}") from None

    def _take(self, text: str) -> None:
        self.raw += text
        self._stream.feed(text)

    def _whole(self) -> str:
        return "\n".join(line.rstrip() for line in self._screen.display).rstrip()
