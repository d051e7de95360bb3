"""The keys with which one leaves `aosctl attach`: docker's, Ctrl-P Ctrl-Q, unless told."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aosctl.cli.own_terminal import in_foreground, own_terminal
from aosctl.errors import UsageError

DETACH_KEYS = "ctrl-p,ctrl-q"
_PAUSE = 0.2


def parse_keys(text: str) -> bytes:
    """Return the bytes of keys as docker writes them: ctrl-x, or a character. Raises UsageError."""
    found = bytearray()
    for part in text.split(","):
        word = part.strip()
        control = word.lower().removeprefix("ctrl-")
        if len(word) == 1 and word.isascii() and word.isprintable():
            found += word.encode()
        elif word.lower() != control and len(control) == 1 and control in _CONTROLS:
            found.append(ord(control.upper()) & 0x1F)
        else:
            raise UsageError(
                f'invalid keys "{text}" for --detach-keys', "such as ctrl-p,ctrl-q or ctrl-x,d"
            )
    return bytes(found)


_CONTROLS = "abcdefghijklmnopqrstuvwxyz@[\\]^_"


@contextmanager
def detaching(keys: bytes, typed: Callable[[], None]) -> Iterator[None]:
    """Raise KeyboardInterrupt in the block, in the main thread, when the keys are pressed.

    `typed` is called once, at the first Enter. Without a terminal in the foreground nothing is
    read.
    """
    if not in_foreground():
        yield
        return
    with own_terminal():
        threading.Thread(target=_read, args=(keys, typed), name="keys", daemon=True).start()
        yield


def _read(keys: bytes, typed: Callable[[], None]) -> None:
    from select import select

    stdin, last, told = sys.stdin.fileno(), b"", False
    while True:
        try:
            select([stdin], [], [])
            if not in_foreground():  # these keys are another's
                time.sleep(_PAUSE)
                continue
            key = os.read(stdin, 1)
        except (OSError, ValueError):
            return
        if not key:
            return
        last = (last + key)[-len(keys) :]
        if last == keys:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return
        if key in b"\r\n" and not told:
            told = True
            typed()
