"""Copy through the terminal itself (OSC 52), which works through ssh too."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping

_CANNOT = ("", "dumb", "linux", "vt100", "vt220")
"""Terminals that have no clipboard; of others nobody can ask."""


def sequence(text: str) -> str:
    """Return the control sequence that puts `text` on the clipboard.

    Of the text only base64 reaches the terminal, so nothing in it can end the sequence.
    """
    return f"\x1b]52;c;{base64.b64encode(text.encode('utf-8', 'replace')).decode('ascii')}\a"


def why_not(*, styled: bool, env: Mapping[str, str] = os.environ) -> str | None:
    """Say why the terminal can't copy; None where it may."""
    if not styled and not env.get("NO_COLOR"):
        return "this is no terminal"
    if env.get("TERM", "") in _CANNOT:
        return f'the terminal "{env.get("TERM", "")}" has no clipboard'
    return None
