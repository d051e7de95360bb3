"""What the answers of all services have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from aosctl.messages import Block, Call
from aosctl.providers.base import new_call_id

FILTERED = "The provider's content filter stopped this answer."


def with_own_ids(blocks: Iterable[Block]) -> Iterator[Block]:
    """Yield the blocks; a call without an id, or with that of another call, gets a new one."""
    seen: set[str] = set()
    for block in blocks:
        if isinstance(block, Call) and (not block.id or block.id in seen):
            block = replace(block, id=new_call_id())
        if isinstance(block, Call):
            seen.add(block.id)
        yield block
