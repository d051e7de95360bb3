"""What is piped to a command."""

from __future__ import annotations

import sys


def piped_text() -> str:
    """Return all of standard input as text; what is not UTF-8 stands as U+FFFD."""
    return sys.stdin.buffer.read().decode("utf-8", "replace")
