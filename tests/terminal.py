"""The installed command at a terminal: what a person types, and what they see."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Mapping
from typing import Self

import pexpect

from command import AOSCTL

PROMPT = re.escape("\x1b[?2004h") + r"[^\n]*>"
"""prompt_toolkit has switched to its raw mode and drawn the prompt."""
QUESTION = "d later >"
ENTER, CTRL_C, CTRL_D, CTRL_J = "\r", "\x03", "\x04", "\n"
_ERASED = re.compile(r"[^\n]*\r\x1b\[2K")
_STYLES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07]*\x07|.)|[\r\x07]")


def plain(raw: str) -> str:
    """Return what is left on the screen: no styles, nothing of lines that were erased."""
    return _STYLES.sub("", _ERASED.sub("", raw))


class Terminal:
    """`aosctl` with these arguments on a pseudo-terminal; `seen` is all it printed so far."""

    def __init__(self, env: Mapping[str, str], *arguments: str, seconds: float = 30) -> None:
        settings = {**env, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1"}
        self._child = pexpect.spawn(
            str(AOSCTL),
            list(arguments),
            env=settings,
            encoding="utf-8",
            codec_errors="replace",
            timeout=seconds,
            dimensions=(40, 100),
        )
        self.raw = ""

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
        self.raw += came
        return plain(came)

    def expect_text(self, text: str) -> str:
        return self.expect(re.escape(text))

    def prompt(self) -> str:
        """Wait for the prompt of messages."""
        return self.expect(PROMPT)

    def type(self, keys: str) -> None:
        self._child.send(keys)

    def say(self, line: str) -> None:
        """Type a line and Enter."""
        self._child.send(line + ENTER)

    def paste(self, text: str) -> None:
        """Paste, as terminals do between brackets, and press Enter."""
        self._child.send(f"\x1b[200~{text}\x1b[201~{ENTER}")

    def kill(self) -> None:
        """End it with SIGKILL."""
        self._child.kill(signal.SIGKILL)
        self._child.expect(pexpect.EOF)
        self._child.close()

    def status(self) -> int:
        """Wait for its end; return the exit status."""
        self._child.expect(pexpect.EOF)
        self.raw += self._child.before
        self._child.close()
        return int(self._child.exitstatus if self._child.exitstatus is not None else -1)


Open = Callable[..., Terminal]
"""Open a terminal with these arguments; keywords add to the environment."""
