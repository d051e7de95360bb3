"""Headers that a manifest or a model may give a request."""

from __future__ import annotations

import re

_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}")
_LONGEST = 8_192
_OURS = {
    "host", "content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te",
    "trailer", "expect", "accept-encoding", "proxy-authorization", "proxy-connection", "via",
}  # fmt: skip


def why_not(name: str, value: str = "") -> str | None:
    """Say why a header can't be given; None where it can."""
    if not _NAME.fullmatch(name):
        return "is no name of a header"
    if name.lower() in _OURS:
        return "is set by aosctl"
    if len(value) > _LONGEST:
        return f"is longer than {_LONGEST:,} characters"
    if any((ord(char) < 32 and char != "\t") or ord(char) == 127 for char in value):
        return "holds a line break or another control character"
    if any("\ud800" <= char <= "\udfff" for char in value):
        return "holds half a character"
    return None
