"""Ids of tool calls as the services admit them."""

from __future__ import annotations

import hashlib
import re


class CallIds:
    """Ids that are admissible ([a-zA-Z0-9_-], 64 at most) and stand once in a transcript."""

    def __init__(self) -> None:
        self._used: set[str] = set()
        self._ids: dict[str, str] = {}

    def begin(self, call_id: str) -> str:
        """Return the id to send for a call: other services use characters, and ids, again."""
        sent, number = call_id, 0
        while sent in self._used or not re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", sent):
            sent = "call_" + hashlib.sha256(f"{call_id} {number}".encode()).hexdigest()[:24]
            number += 1
        self._used.add(sent)
        self._ids[call_id] = sent
        return sent

    def answered(self, call_id: str) -> str:
        """Return the id to send for the result of the last call with this id."""
        return self._ids[call_id]
