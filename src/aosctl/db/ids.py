"""Ids that a client makes: keys of requests, ordered in time so that indexes stay compact."""

from __future__ import annotations

import os
import time
from uuid import UUID


def uuid7() -> UUID:
    """Make a version 7 UUID (RFC 9562): milliseconds of the wall clock, then 74 random bits.

    Python has one of its own from 3.14 on.
    """
    milliseconds = time.time_ns() // 1_000_000
    random = int.from_bytes(os.urandom(10), "big")
    value = (milliseconds & 0xFFFFFFFFFFFF) << 80
    value |= 0x7000 << 64 | ((random >> 62) & 0x0FFF) << 64
    value |= 0b10 << 62 | (random & 0x3FFFFFFFFFFFFFFF)
    return UUID(int=value)
