"""One stream's chain as an export tells it, checked with nothing of the database.

This is no translation of the kernel's SQL: it follows the hash as schema/README.md describes it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

Line = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is not as it was recorded; `seq` is an event's number, a step's, or None."""

    tenant: str
    stream_id: str
    run: str | None
    seq: int | None
    what: str
    detail: str = ""


@dataclass(slots=True)
class Chain:
    """Follow a stream: `seq` and `hash` are those of the last event; `cuts` what may be absent."""

    tenant_id: str
    stream_id: str
    cuts: Sequence[Line] = ()
    seq: int = 0
    hash: bytes = b""

    def follow(self, event: Line) -> Iterator[tuple[int, str]]:
        """Yield (number, fault) for what is wrong with the next event."""
        number = int(event["seq"])
        yield from self._skip_to(number)
        if number <= self.seq:
            yield number, "event inserted"
        elif number != self.seq + 1:
            yield self.seq + 1, "event missing"
        digest = self._digest(event)
        if digest.hex() != event["hash"]:
            yield number, "hash differs"
        self.seq, self.hash = number, bytes.fromhex(event["hash"])

    def end(self) -> None:
        """Take what was cut at the stream's end for followed."""
        for _ in self._skip_to(None):
            pass

    def _skip_to(self, number: int | None) -> Iterator[tuple[int, str]]:
        """Go over the pieces that retention cut and that begin where we are."""
        while self.cuts and (number is None or number > self.seq + 1):
            cut = self.cuts[0]
            if int(cut["first_seq"]) > self.seq + 1:
                return
            self.cuts = self.cuts[1:]
            if int(cut["seq"]) > self.seq:
                if cut["hash"] is None:
                    yield self.seq + 1, "event missing"
                self.seq, self.hash = int(cut["seq"]), bytes.fromhex(cut["hash"] or "")

    def _digest(self, event: Line) -> bytes:
        parts = (
            self.tenant_id,
            self.stream_id,
            str(event["seq"]),
            event["at"],
            event["kind"],
            event["data"],
            event["actor"],
        )
        return sha256(self.hash + "|".join(parts).encode()).digest()


def pieces(cuts: Sequence[Line]) -> tuple[Line, ...]:
    """Return what an export says is absent: what came before its own beginning, if it has one."""
    since = [cut for cut in cuts if cut["cut_at"] is None]
    return tuple(since or sorted(cuts, key=lambda cut: int(cut["seq"])))


def data_of(event: Line) -> dict[str, Any]:
    """Return an event's data; nothing where somebody made it no object, which its hash shows."""
    try:
        data = json.loads(event["data"])
    except ValueError:
        return {}
    return data if isinstance(data, dict) else {}
