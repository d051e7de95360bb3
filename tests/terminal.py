"""The installed command at a terminal: what a person types, and what they see."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import termios
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Self

import pexpect
import pyte

from aosctl.repl.prompt import ALONE_SECONDS
from command import AOSCTL

PROMPT = re.escape("\x1b[?2004h") + r"[^\n]*>"
"""prompt_toolkit has switched to its raw mode and drawn the prompt."""
QUESTION = "d later >"
ENTER, CTRL_C, CTRL_D, CTRL_J = "\r", "\x03", "\x04", "\n"
CTRL_G, CTRL_O, CTRL_R, CTRL_Z, ESCAPE, UP = "\x07", "\x0f", "\x12", "\x1a", "\x1b", "\x1b[A"
ROWS, COLUMNS = 40, 100
PATIENCE_SECONDS = 90.0
_ALL = re.compile(".+", re.DOTALL)
_ERASED = re.compile(r"[^\n]*\r\x1b\[2K")
_STYLES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|.)|[\r\x07]")


def plain(raw: str) -> str:
    """Return what is left on the screen: no styles, nothing of lines that were erased."""
    return _STYLES.sub("", _ERASED.sub("", raw))


class Xterm:
    """The screen and scrollback of an emulated xterm: one that never wraps lines anew."""

    settings: Mapping[str, str] = {"XTERM_VERSION": "XTerm(379)"}

    def __init__(self, rows: int, columns: int) -> None:
        self._screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.01)
        self._stream = pyte.Stream(self._screen)
        self._above: list[str] = []

    def feed(self, text: str) -> None:
        self._stream.feed(text)

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(rows, columns)
        self._above.clear()

    @property
    def lines(self) -> list[str]:
        scrolled = self._screen.history.top  # a line there stays as it is
        if len(scrolled) < len(self._above):
            self._above.clear()
        for row in islice(scrolled, len(self._above), None):
            self._above.append("".join(row[x].data for x in range(self._screen.columns)).rstrip())
        return [*self._above, *(line.rstrip() for line in self._screen.display)]

    @property
    def typed(self) -> str:
        return str(self._screen.display[self._screen.cursor.y]).rstrip()


class Ghost:
    """The same of Ghostty, whose own emulation this is: it wraps long lines anew when resized."""

    settings: Mapping[str, str] = {"TERM_PROGRAM": "ghostty"}

    def __init__(self, rows: int, columns: int) -> None:
        from pyghostty import Terminal as Ghostty

        self._screen = Ghostty(columns, rows)

    def feed(self, text: str) -> None:
        self._screen.feed(text)

    def resize(self, rows: int, columns: int) -> None:
        self._screen.resize(columns, rows)

    @property
    def lines(self) -> list[str]:
        """Return lines as they were written: one that was wrapped by the terminal is one."""
        return [line.rstrip() for line in self._screen.contents().split("\n")]

    @property
    def typed(self) -> str:
        rows = self._screen.text().split("\n")
        row = self._screen.cursor[1]
        return rows[row].rstrip() if row < len(rows) else ""


class Terminal:
    """`aosctl` with these arguments on a pseudo-terminal; `seen` is all it printed so far.

    `lines` is what stands on the screen, and above it in the scrollback, of an emulated xterm,
    or of another `emulator`.
    """

    def __init__(
        self,
        env: Mapping[str, str],
        *arguments: str,
        seconds: float = 90,
        command: str = str(AOSCTL),
        rows: int = ROWS,
        columns: int = COLUMNS,
        term: str = "xterm-256color",
        emulator: type[Xterm] | type[Ghost] = Xterm,
    ) -> None:
        settings = {
            "TERM": term,
            **emulator.settings,
            "PROMPT_TOOLKIT_NO_CPR": "1",
            **{name: value for name, value in env.items() if name not in ("TMUX", "STY", "TERM")},
        }
        self._screen = emulator(rows, columns)
        self._child = pexpect.spawn(
            command,
            list(arguments),
            env=settings,
            encoding="utf-8",
            codec_errors="replace",
            timeout=seconds,
            dimensions=(rows, columns),
        )
        self.raw = ""
        self._standing: str | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._child.close(force=True)

    @property
    def seen(self) -> str:
        return plain(self.raw)

    @property
    def pid(self) -> int:
        return int(self._child.pid)

    def expect(self, pattern: str) -> str:
        """Wait for a text; return what came before and with it, without styles."""
        try:
            self._child.expect(pattern)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            raise AssertionError(
                f"{pattern!r} did not come: {self.seen}{self._child.before}"
            ) from error
        came = self._child.before + self._child.after
        self._take(came)
        return plain(came)

    def _take(self, came: str) -> None:
        self.raw += came
        self._screen.feed(came)
        self._standing = None

    @property
    def lines(self) -> list[str]:
        """Return all that was not erased again, without the spaces at the end of lines."""
        return self._screen.lines

    @property
    def standing(self) -> str:
        """Return `lines` as one text, without what is blank below."""
        if self._standing is None:
            self._standing = "\n".join(self.lines).rstrip()
        return self._standing

    def stands(self, *texts: str) -> str:
        """Wait until these texts are to be read on the screen or above; return all that is."""
        return self.until(lambda: all(text in self.standing for text in texts), f"{texts}")

    def gone(self, text: str) -> str:
        """Wait until a text is nowhere to be read any more."""
        return self.until(lambda: text not in self.standing, f"the end of {text!r}")

    def until(self, ready: Callable[[], bool], what: str) -> str:
        """Read until `ready` says so; return what stands there then."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not ready():
            try:
                self._child.expect(_ALL)
                assert time.monotonic() < deadline, f"{what} did not come: {self.standing}"
            except (pexpect.TIMEOUT, pexpect.EOF) as error:
                raise AssertionError(f"{what} did not come: {self.standing}") from error
            self._take(self._child.before + self._child.after)
        return self.standing

    @property
    def typed(self) -> str:
        """Return the line that the cursor stands in."""
        return self._screen.typed

    def ready(self) -> None:
        """Wait until the cursor stands at the prompt for a message, with nothing typed."""
        self.until(lambda: self.typed == ">", "the prompt")

    def resize(self, rows: int, columns: int) -> None:
        """Change the size, as a window manager does, between two pictures of the program.

        One that is still under way would be of the old size on a terminal of the new one.
        """
        self._is_in("S")  # no picture is being made
        os.kill(self.pid, signal.SIGSTOP)
        self._is_in("T")
        while self._child.expect([_ALL, pexpect.TIMEOUT], timeout=0) == 0:
            self._take(self._child.before + self._child.after)
        self._screen.resize(rows, columns)
        self._standing = None
        self._child.setwinsize(rows, columns)
        os.kill(self.pid, signal.SIGCONT)

    def _is_in(self, state: str) -> None:
        """Wait until all threads are asleep (S), or stopped (T), and stay so for a moment."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        times = 0
        while times < 3:
            found = set()
            for stat in Path(f"/proc/{self.pid}/task").glob("*/stat"):
                with suppress(OSError):  # a thread that has just ended
                    found.add(stat.read_text().rpartition(")")[2].split()[0])
            times = times + 1 if found == {state} else 0
            assert time.monotonic() < deadline, f"it is in {found}, not in {state}"
            time.sleep(0.01)

    def expect_text(self, text: str) -> str:
        return self.expect(re.escape(text))

    def prompt(self) -> str:
        """Wait for the prompt of messages."""
        return self.expect(PROMPT)

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def press(self, key: str) -> None:
        """Press a key that is to decide: after a while without any, as it stands alone."""
        self.taken()
        time.sleep(2 * ALONE_SECONDS)
        self._child.send(key)

    def taken(self) -> None:
        """Wait until the program has read all that was typed: it has keys one by one."""
        terminal = os.open(f"/proc/{self.pid}/fd/0", os.O_RDONLY | os.O_NOCTTY)
        try:
            deadline = time.monotonic() + PATIENCE_SECONDS
            while any(fcntl.ioctl(terminal, termios.FIONREAD, bytes(4))):
                assert time.monotonic() < deadline, f"it reads no key: {self.standing}"
                time.sleep(0.01)
        finally:
            os.close(terminal)

    def say(self, line: str) -> None:
        """Type a line and Enter."""
        self._child.send(line + ENTER)

    def paste(self, text: str) -> None:
        """Paste, as terminals do between brackets, and press Enter."""
        self._child.send(f"\x1b[200~{text}\x1b[201~{ENTER}")

    def hang_up(self) -> None:
        """Take the terminal away, as who closes its window does."""
        self._child.ptyproc.fileobj.close()

    def ended_by(self) -> int:
        """Wait for its end; return the signal that ended it, 0 for none."""
        self._child.wait()
        return int(self._child.signalstatus or 0)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._child.kill(signal.SIGKILL)
        self._child.expect(pexpect.EOF)
        self._child.close()

    def status(self) -> int:
        """Wait for its end; return the exit status."""
        self._child.expect(pexpect.EOF)
        self._take(self._child.before)
        self._child.close()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -1)


Open = Callable[..., Terminal]
"""Open a terminal with these arguments; keywords add to the environment."""
