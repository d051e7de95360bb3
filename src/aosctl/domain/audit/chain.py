"""One stream's chain as an export tells it, checked with nothing of the database.

This is no translation of the kernel's SQL: it follows the hash as schema/README.md describes it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

Line = Mapping[str, Any]
_MOMENT = re.compile(r"-?[0-9]+(\.[0-9]+)?|-?Infinity")


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
        if digest.hex() != event["hash"] or not _is_plain(event):
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


def pieces(cuts: Sequence[Line], *, since: bool) -> tuple[Line, ...]:
    """Return what an export says is absent.

    In one that begins at a moment (`since`) that is what came before it, and nothing later; in any
    other, what retention cut, of which there is a moment and an event.
    """
    if since and (before := [cut for cut in cuts if cut["cut_at"] is None]):
        return tuple(cut for cut in before[:1] if int(cut["first_seq"]) == 1)
    kept = [cut for cut in cuts if cut["cut_at"] is not None]
    return tuple(sorted(kept, key=lambda cut: int(cut["seq"])))


def data_of(event: Line) -> dict[str, Any]:
    """Return an event's data; nothing where it is no object, of which `follow` tells."""
    try:
        data = json.loads(event["data"])
    except (ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _is_plain(event: Line) -> bool:
    """Tell whether the line that is hashed can be read in this one way only.

    It has bars between its parts: where no other part holds one, data ends where its JSON does,
    and the actor is the rest.
    """
    if "|" in event["kind"] or not _MOMENT.fullmatch(event["at"]):
        return False
    try:
        return isinstance(json.loads(event["data"]), dict)
    except (ValueError, RecursionError):
        return False
