"""A body as it comes: unpacked piece by piece, and never more of it than the caller can use."""

from __future__ import annotations

import zlib

from aosctl.domain.names import quoted
from aosctl.domain.tools.web.faults import RequestFailed

ACCEPTED = "gzip"
_GZIP = 16 + zlib.MAX_WBITS


class Body:
    """Takes the pieces of one body; `is_cut` once there was more than `most` bytes, unpacked."""

    def __init__(self, encoding: str, most: int) -> None:
        """Raises RequestFailed for an encoding that was not asked for."""
        word = encoding.strip().lower()
        if word not in ("", "identity", "gzip", "x-gzip"):
            raise RequestFailed(
                f"the answer is packed with {quoted(word)}, which was not asked for"
            )
        self._is_packed = "gzip" in word
        self._unpacker = zlib.decompressobj(_GZIP)
        self._most = most
        self._pieces: list[bytes] = []
        self._size = 0
        self.is_cut = False

    def add(self, data: bytes) -> None:
        """Take the next piece. Raises RequestFailed for what is not packed as it says."""
        if not self._is_packed:
            self._keep(data)
            return
        try:
            self._unpack(data)
        except zlib.error:
            raise RequestFailed("the answer is not packed as it says") from None

    def end(self) -> bytes:
        """Return what was kept. Raises RequestFailed when the end is missing."""
        begun = self._size or self._unpacker.unconsumed_tail
        if self._is_packed and begun and not self._unpacker.eof and not self.is_cut:
            raise RequestFailed("the answer ended in the middle")
        return b"".join(self._pieces)

    def _unpack(self, data: bytes) -> None:
        while data and not self.is_cut:
            if self._unpacker.eof:  # a file of several members
                self._unpacker = zlib.decompressobj(_GZIP)
            # One byte more than fits tells that there is more.
            room = self._most - self._size + 1
            self._keep(self._unpacker.decompress(data, room))
            data = self._unpacker.unconsumed_tail or self._unpacker.unused_data

    def _keep(self, data: bytes) -> None:
        room = self._most - self._size
        self.is_cut = self.is_cut or len(data) > room
        self._pieces.append(data[:room])
        self._size += min(len(data), room)
