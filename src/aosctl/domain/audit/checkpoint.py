"""A signed list of all heads, to be kept where nobody who can change the database can change it.

A file of lines: a header in JSON, then `tenant_id stream_id seq hash` for each stream, in order.
The header has the SHA-256 of the lines after it, and the signature covers the header.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.db import audit
from aosctl.domain.audit import signing
from aosctl.errors import AosError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from aosctl.db.audit import AuditTenant, Identity
    from aosctl.db.connection import Connection

FORMAT = "aos-checkpoint/1"
_LINE = re.compile(r"([0-9a-f-]{36}) ([0-9a-f-]{36}) (\d{1,18}) ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Heads as they were: (tenant, stream) to (number, hash); `complete`: of all tenants."""

    at: str
    database: tuple[str, str]
    tenants: dict[str, str]
    complete: bool
    heads: dict[tuple[str, str], tuple[int, str]]
    public_key: str


def write(
    connection: Connection,
    kernel: str,
    tenants: Sequence[AuditTenant],
    key: Ed25519PrivateKey,
    *,
    complete: bool,
) -> Iterator[str]:
    """Yield the text of a checkpoint of these tenants; call within `audit.snapshot`."""
    body = sorted(
        f"{tenant.tenant_id} {stream.stream_id} {stream.last_seq} {stream.last_hash}\n"
        for tenant in tenants
        for stream in audit.streams(connection, tenant.tenant_id)
        if stream.last_seq is not None
    )
    digest = sha256()
    for line in body:
        digest.update(line.encode())
    header = {
        "format": FORMAT,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "kernel": kernel,
        "database": audit.identity(connection)._asdict(),
        "tenants": {str(tenant.tenant_id): tenant.name for tenant in tenants},
        "complete": complete,
        "streams": len(body),
        "sha256": digest.hexdigest(),
        "public_key": signing.public_of(key),
    }
    yield json.dumps({**header, "signature": signing.sign(key, signed_text(header))}) + "\n"
    yield from body


def signed_text(header: dict[str, Any]) -> bytes:
    """Return what the signature covers: the header without it, keys sorted, no white space."""
    kept = {name: value for name, value in header.items() if name != "signature"}
    return json.dumps(kept, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def read(text: str, public_key: str) -> Checkpoint:
    """Parse a checkpoint that the owner of `public_key` signed. Raises AosError for any other."""
    first, _, body = text.partition("\n")
    try:
        header = json.loads(first)
        if header["format"] != FORMAT:
            raise ValueError(header["format"])
        checkpoint = Checkpoint(
            at=str(header["at"]),
            database=(header["database"]["system"], header["database"]["database"]),
            tenants={str(k): str(v) for k, v in header["tenants"].items()},
            complete=bool(header["complete"]),
            heads=_heads(body),
            public_key=str(header["public_key"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise AosError("this is no checkpoint", "aosctl audit checkpoint writes one") from error
    if not signing.is_signed(public_key, signed_text(header), str(header.get("signature"))):
        whose = "by another key" if checkpoint.public_key != public_key else "for another text"
        raise AosError(
            f"the checkpoint's signature is not valid: it was made {whose}",
            "it was changed, or --public-key is another's; trust nothing that it says",
        )
    if sha256(body.encode()).hexdigest() != header["sha256"]:
        raise AosError(
            "the checkpoint's lines are not those that were signed", "trust nothing that it says"
        )
    return checkpoint


def _heads(body: str) -> dict[tuple[str, str], tuple[int, str]]:
    heads = {}
    for line in body.splitlines():
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(line)
        heads[found[1], found[2]] = (int(found[3]), found[4])
    return heads


def of_tenant(checkpoint: Checkpoint, tenant: UUID) -> list[tuple[UUID, int, str]]:
    """Return a tenant's heads as `audit.head_faults` takes them."""
    return [
        (UUID(stream), seq, digest)
        for (owner, stream), (seq, digest) in checkpoint.heads.items()
        if owner == str(tenant)
    ]


def is_of(checkpoint: Checkpoint, now: Identity) -> bool:
    """Tell whether the checkpoint was taken of this database, as far as the cluster tells."""
    return checkpoint.database == (now.system, now.database)
