"""Seal and open values: AES-256-GCM, one data key a value, wrapped by the master key.

A sealed value is one line of text, `aos1.KEYID.WRAP.BODY.DIGEST`, the last three in base64url:

- KEYID: 16 hex digits that name the master key and tell nothing of it.
- WRAP: nonce and the data key, sealed under a key derived from the master key.
- BODY: nonce and the text, sealed under the data key.
- DIGEST: the first 16 bytes of an HMAC of the text under a key derived from the data key. It says
  whether a value changed; without the master key it says nothing, not even that two are equal.

Tenant, secret, key (and for WRAP the master key's id) are additional authenticated data: a value
that was moved elsewhere does not open. Its length can be seen, give or take the base64.
"""

from __future__ import annotations

import base64
import hmac
import re
import secrets
from dataclasses import dataclass, field
from typing import NamedTuple

from aosctl.errors import AosError

KEY_BYTES = 32
MAX_TEXT_BYTES = 65_536
_NONCE_BYTES = 12
_DIGEST_BYTES = 16
_VERSION = "aos1"
SEALED_PATTERN = (
    r"aos1\.[0-9a-f]{16}\.[A-Za-z0-9_-]{80}\.[A-Za-z0-9_-]{39,99000}\.[A-Za-z0-9_-]{22}"
)


class Plaintext:
    """A value that is not sealed yet; it prints as nothing and can't become JSON or YAML."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        from aosctl.redaction import remember

        self._text = remember(text)

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Plaintext(hidden)"


class Place(NamedTuple):
    """What a sealed value belongs to; it opens nowhere else."""

    tenant: str
    secret: str
    key: str

    def __str__(self) -> str:
        return f'the value "{self.key}" of secret "{self.secret}"'


@dataclass(frozen=True, slots=True)
class MasterKey:
    """A master key, where it was found, and the id by which sealed values name it."""

    source: str
    material: bytes = field(repr=False)

    @property
    def key_id(self) -> str:
        return _derived(self.material, "key id").hex()[:16]


@dataclass(frozen=True, slots=True)
class Sealed:
    """The parts of a sealed value."""

    key_id: str
    wrap: bytes
    body: bytes
    digest: bytes

    @classmethod
    def parse(cls, text: str) -> Sealed:
        """Raises ValueError for what is no sealed value."""
        if not re.fullmatch(SEALED_PATTERN, text):
            raise ValueError("this is no sealed value")
        _, key_id, wrap, body, digest = text.split(".")
        return cls(key_id, _bytes(wrap), _bytes(body), _bytes(digest))

    def __str__(self) -> str:
        parts = (_text(self.wrap), _text(self.body), _text(self.digest))
        return ".".join((_VERSION, self.key_id, *parts))


def new_key() -> bytes:
    """Make a master key."""
    return secrets.token_bytes(KEY_BYTES)


def seal(master: MasterKey, place: Place, text: str) -> str:
    """Seal a text for its place."""
    data_key = secrets.token_bytes(KEY_BYTES)
    body = _encrypt(data_key, text.encode(), _bound("data", place))
    wrap = _wrap(master, place, data_key)
    return str(Sealed(master.key_id, wrap, body, _digest(data_key, place, text)))


def open_sealed(master: MasterKey, place: Place, sealed: str) -> str:
    """Return the text. Raises AosError when key or place are others, or a bit was changed."""
    parts = Sealed.parse(sealed)
    data_key = _unwrap(master, place, parts)
    text = _decrypt(data_key, parts.body, _bound("data", place), place).decode()
    if not hmac.compare_digest(parts.digest, _digest(data_key, place, text)):
        raise _shut(place)
    return text


def holds(master: MasterKey, place: Place, sealed: str, text: str) -> bool:
    """Tell whether a sealed value holds `text`, without opening it."""
    parts = Sealed.parse(sealed)
    data_key = _unwrap(master, place, parts)
    return hmac.compare_digest(parts.digest, _digest(data_key, place, text))


def rewrap(old: MasterKey, new: MasterKey, place: Place, sealed: str) -> str:
    """Put a sealed value under another master key; the text itself is not opened."""
    parts = Sealed.parse(sealed)
    wrap = _wrap(new, place, _unwrap(old, place, parts))
    return str(Sealed(new.key_id, wrap, parts.body, parts.digest))


def _wrap(master: MasterKey, place: Place, data_key: bytes) -> bytes:
    key = _derived(master.material, "wrap")
    return _encrypt(key, data_key, _bound("wrap", place, master.key_id))


def _unwrap(master: MasterKey, place: Place, parts: Sealed) -> bytes:
    key = _derived(master.material, "wrap")
    return _decrypt(key, parts.wrap, _bound("wrap", place, parts.key_id), place)


def _encrypt(key: bytes, text: bytes, bound: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = secrets.token_bytes(_NONCE_BYTES)
    return nonce + AESGCM(key).encrypt(nonce, text, bound)


def _decrypt(key: bytes, sealed: bytes, bound: bytes, place: Place) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:], bound)
    except InvalidTag:
        raise _shut(place) from None


def _shut(place: Place) -> AosError:
    return AosError(
        f"{place} does not open: it was changed, or sealed for another tenant, secret or key",
        f"aosctl create secret {place.secret} --replace, with the value itself",
    )


def _digest(data_key: bytes, place: Place, text: str) -> bytes:
    key = _derived(data_key, "compare")
    return hmac.digest(key, _bound("compare", place) + text.encode(), "sha256")[:_DIGEST_BYTES]


def _derived(key: bytes, use: str) -> bytes:
    """Derive a key for one use; HKDF's expansion (RFC 5869) to one block, of a uniform key."""
    return hmac.digest(key, f"aosctl {_VERSION} {use}".encode() + b"\x01", "sha256")


def _bound(use: str, place: Place, key_id: str = "") -> bytes:
    """Return the additional data: each part with its length, so that none runs into the next."""
    parts = [part.encode() for part in (_VERSION, use, *place, key_id)]
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
