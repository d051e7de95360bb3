"""A terminal whose keys are ours for some time, and which is left as it was, whatever happens."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from types import FrameType


def in_foreground() -> bool:
    """Tell whether standard input is a terminal whose keys come to us."""
    try:
        return sys.stdin.isatty() and os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (OSError, ValueError):  # it went away, or was closed
        return False


@contextmanager
def own_terminal(enter: str = "", leave: str = "") -> Iterator[None]:
    """Read keys at once and unseen in the block; Ctrl-C, Ctrl-Z and SIGTERM work as they should.

    `enter` and `leave` are written at its beginning and end, and when it comes back and is
    suspended.
    """
    import termios

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)

    def begin() -> None:
        _take_keys(stdin, before)
        _write(enter)

    def end() -> None:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
        _write(leave)

    def suspended(_number: int, _frame: FrameType | None) -> None:
        end()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        # Somebody has said fg, or bg, where the terminal is another's.
        signal.signal(signal.SIGTSTP, suspended)
        if in_foreground():
            begin()

    handlers = {signal.SIGTERM: _ended, signal.SIGTSTP: suspended}
    kept = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        begin()
        yield
    finally:
        for number, handler in kept.items():
            signal.signal(number, handler)
        if in_foreground():
            end()


@contextmanager
def signalled() -> Iterator[int]:
    """Give a file that can be read as soon as a signal came: another size, or back from Ctrl-Z."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    kept = signal.signal(signal.SIGWINCH, lambda _number, _frame: None)
    before = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield read
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGWINCH, kept)
        os.close(read)
        os.close(write)


def pressed(seconds: float, *wakes: int) -> str | None:
    """Return the key that is pressed within some seconds, "" for none or when a file of `wakes` is
    readable, which is emptied.

    None at the end of the terminal.
    """
    from select import select

    stdin = sys.stdin.fileno()
    ready = select([stdin, *wakes], [], [], seconds)[0]
    for file in wakes:
        if file in ready:
            os.read(file, 64)
    if stdin not in ready:
        return ""
    try:
        return os.read(stdin, 1).decode("ascii", "replace") or None
    except OSError:  # the terminal went away
        return None


def _ended(_number: int, _frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signal.SIGTERM)


def _take_keys(stdin: int, before: list[Any]) -> None:
    """Have each key at once, without echo; Ctrl-S and Ctrl-Q are keys like others."""
    import termios

    mode = [*before[:6], list(before[6])]
    mode[0] &= ~termios.IXON
    mode[3] &= ~(termios.ICANON | termios.ECHO)
    mode[6][termios.VMIN], mode[6][termios.VTIME] = 1, 0
    termios.tcsetattr(stdin, termios.TCSADRAIN, mode)


def _write(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()
