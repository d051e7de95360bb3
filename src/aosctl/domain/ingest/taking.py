"""Take documents into a collection: each is read, and stored where it is not known as it is.

A document is stored in one commit with its passages; whatever ends this in the middle, the next
time finds by their digests which ones are done.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections import deque
from collections.abc import Callable, Generator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from threading import Event
from typing import Any, Literal

from aosctl.db.knowledge import KnowledgeClient, KnownDocument
from aosctl.domain.ingest.base import Readers, Unreadable
from aosctl.domain.ingest.converting import Text, to_text
from aosctl.domain.ingest.finding import Place
from aosctl.errors import InvalidInput
from aosctl.timestamps import rfc3339

Status = Literal["created", "changed", "unchanged", "skipped", "failed", "removed"]
MOST_BYTES = 50_000_000
_READING = 4
_AHEAD = 8
"""How many documents are held in memory, read and not yet stored."""


@dataclass(frozen=True, slots=True)
class Options:
    """How documents are taken in. `trust` None: as it was, a page of the web untrusted."""

    trust: Literal["trusted", "untrusted"] | None = None
    private: bool = False
    keep: bool = True
    most_bytes: int = MOST_BYTES


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one document; `reason` of one that was not taken in."""

    source: str
    status: Status
    reason: str = ""
    chunks: int = 0
    untrusted: bool = False


@dataclass(frozen=True, slots=True)
class _Read:
    """A document that was read, and is not known as it is."""

    place: Place
    sha256: str
    text: Text
    trust: str | None
    provenance: Mapping[str, Any]


class Intake:
    """Takes documents in; `stdin` reads what is piped in."""

    def __init__(
        self,
        knowledge: KnowledgeClient,
        readers: Readers,
        options: Options,
        stdin: Callable[[int], bytes],
    ) -> None:
        self._knowledge = knowledge
        self._readers = readers
        self._options = options
        self._stdin = stdin
        self._stop = Event()
        self._known: dict[str, KnownDocument] = {}

    def take(self, places: Sequence[Place]) -> Generator[Outcome, None, None]:
        """Take documents in, in their order; closing the iterator ends what is being read."""
        self._known = {one.source: one for one in self._knowledge.known()}
        pool = ThreadPoolExecutor(_READING, "aosctl reader")
        ahead: deque[Future[_Read | Outcome]] = deque()
        rest = iter(places)
        try:
            for place in rest:
                ahead.append(pool.submit(self._read, place))
                if len(ahead) >= _AHEAD:
                    yield self._stored(ahead.popleft().result())
            while ahead:
                yield self._stored(ahead.popleft().result())
        finally:
            self._stop.set()
            pool.shutdown(wait=True, cancel_futures=True)

    def gone(self, places: Sequence[Place], roots: frozenset[str]) -> list[Outcome]:
        """Name the documents that came from these roots, and stand there no more."""
        here = {place.source for place in places}
        return [
            Outcome(one.source, "removed")
            for one in self._known.values()
            if one.provenance.get("root") in roots and one.source not in here
        ]

    def remove(self, outcomes: Sequence[Outcome]) -> None:
        """Remove documents from the collection."""
        if outcomes and self._options.keep:
            self._knowledge.remove([one.source for one in outcomes])

    def _read(self, place: Place) -> _Read | Outcome:
        try:
            data, content_type, provenance = self._data(place)
            if len(data) > self._options.most_bytes:
                raise Unreadable(f"is larger than {self._options.most_bytes:,} bytes")
            digest = hashlib.sha256(data).hexdigest()
            known = self._known.get(place.source)
            trust = self._trust(place, known)
            if known and known.sha256 == digest and known.trust == trust:
                return Outcome(place.source, "unchanged", "", known.chunks, trust is not None)
            text = to_text(place.source, data, self._readers, self._stop, content_type)
        except Unreadable as error:
            status: Status = "failed" if place.is_named else "skipped"
            return Outcome(place.source, status, str(error))
        except OSError as error:
            return Outcome(place.source, "failed", f"can't be read: {error.strerror or error}")
        return _Read(place, digest, text, trust, provenance)

    def _data(self, place: Place) -> tuple[bytes, str, dict[str, Any]]:
        if place.url is not None:
            fetched = self._readers.fetch(place.url, self._stop, private=self._options.private)
            provenance = {"url": fetched.url, "fetched_at": rfc3339(datetime.now(UTC))}
            return fetched.data, fetched.content_type, provenance
        most = self._options.most_bytes + 1
        if place.path is None:
            return self._stdin(most), "", {"stdin": True}
        path = str(place.path.resolve()).encode("utf-8", "replace").decode()
        return read_file(str(place.path), most), "", {"path": path, "root": place.root}

    def _trust(self, place: Place, known: KnownDocument | None) -> str | None:
        """Return what is stored: 'untrusted', or None where the collection's counts."""
        if self._options.trust is not None:
            return "untrusted" if self._options.trust == "untrusted" else None
        if known is not None:
            return known.trust
        return "untrusted" if place.url is not None else None

    def _stored(self, read: _Read | Outcome) -> Outcome:
        if isinstance(read, Outcome):
            return read
        source, untrusted = read.place.source, read.trust is not None
        if not self._options.keep:
            status: Status = "changed" if source in self._known else "created"
            return Outcome(source, status, "", 0, untrusted)
        try:
            stored = self._knowledge.put(_document(read))
        except InvalidInput as error:
            return Outcome(source, "failed", error.message)
        return Outcome(source, stored.status, "", stored.chunks, untrusted)


def _document(read: _Read) -> dict[str, Any]:
    return {
        "source": read.place.source,
        "title": read.text.title,
        "media_type": read.text.media_type,
        "sha256": read.sha256,
        "content": read.text.content,
        "trust": read.trust,
        "provenance": read.provenance,
    }


def read_file(path: str, most_bytes: int) -> bytes:
    """Read a regular file. Raises OSError, Unreadable for what is none."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise Unreadable("is no regular file")
        return file.read(most_bytes)
