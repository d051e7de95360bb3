"""Call somebody back to the terminal: its bell, and a notification where it knows those."""

from __future__ import annotations

from collections.abc import Mapping

from aosctl.terminal import clean

BELL = "\a"
_WIDEST = 120
_NO_NOTIFICATIONS = ("", "dumb", "linux", "vt100", "vt220")


def call_for(text: str, env: Mapping[str, str]) -> str:
    r"""Return what to write to a terminal so that somebody looks at it; "" with AOSCTL_NO_BELL.

    The notification is OSC 9 (iTerm2, kitty, WezTerm, Windows Terminal …); terminals that don't
    know it ignore it. tmux hands it through where it was told to; screen and the console get the
    bell alone.
    """
    if env.get("AOSCTL_NO_BELL"):
        return ""
    term = env.get("TERM", "")
    notice = f"\x1b]9;aosctl: {' '.join(clean(text).split())[:_WIDEST]}\x07"
    if env.get("TMUX"):
        inner = notice.replace("\x1b", "\x1b\x1b")
        return f"{BELL}\x1bPtmux;{inner}\x1b\\"
    if term in _NO_NOTIFICATIONS or term.startswith("screen") or env.get("STY"):
        return BELL
    return BELL + notice
