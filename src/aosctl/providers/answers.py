"""What the answers of all services have in common."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from aosctl.messages import Block, Call, Media
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


def picture_at(url: str) -> Media | None:
    """Return the picture that a model made, at hand as a `data:` URL or where it is; else None."""
    head, comma, _ = url.partition(";base64,")
    mime = head.removeprefix("data:")
    if comma and mime.startswith("image/"):
        return picture(mime, url)
    return picture("image/png", url) if url.startswith("https:") else None


def picture(mime: str, ref: str) -> Media:
    """Return a picture by its type, under a name that a file may have."""
    kind = mime.removeprefix("image/").partition("+")[0]
    return Media(mime, ref, f"picture.{kind}" if kind.isalnum() else "picture")
