"""SIGTERM to a process that waits for one answer: its turn is stopped, and its result told."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

INTERRUPTED, TERMINATED = 128 + signal.SIGINT, 128 + signal.SIGTERM
_heard = threading.Event()


@contextmanager
def terminable() -> Iterator[None]:
    """Let SIGTERM in the block do what Ctrl-C does, once; a second one ends at once."""

    def heard(_number: int, _frame: object) -> None:
        _heard.set()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)

    before = signal.signal(signal.SIGTERM, heard)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def interrupted_status() -> int:
    """Return the exit status of what was interrupted: 130, or 143 where SIGTERM did it."""
    return TERMINATED if _heard.is_set() else INTERRUPTED
