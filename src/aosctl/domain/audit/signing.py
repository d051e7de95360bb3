"""The key that signs heads: Ed25519, in a file outside the database, made at its first use."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aosctl.config import config_path
from aosctl.errors import AosError, UsageError
from aosctl.private_file import new_private_file

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_RAW_BYTES = 32


def default_path(env: Mapping[str, str]) -> Path:
    """Return where the key is kept: `audit.key` beside the config file."""
    return config_path(env).parent / "audit.key"


def load_or_make(path: Path) -> tuple[Ed25519PrivateKey, bool]:
    """Read the private key, or make one that only its owner can read; tell whether it is new."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if path.exists():
        return load(path), False
    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with new_private_file(path, "choose another: --key FILE") as file:
        file.write(_pem(key).decode())
    return key, True


def load(path: Path) -> Ed25519PrivateKey:
    """Read a private key in PEM. Raises AosError, also where others may read the file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        mode = path.stat().st_mode
        text = path.read_bytes()
    except OSError as error:
        raise AosError(f"can't read the key {path}: {error.strerror}") from error
    if mode & 0o077:
        raise AosError(f"the key {path} may be read by others", f"chmod 600 {path}")
    try:
        key = load_pem_private_key(text, password=None)
    except (ValueError, TypeError) as error:
        raise AosError(f"{path} holds no private key in PEM without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise AosError(f"{path} holds a key of another kind than Ed25519")
    return key


def _pem(key: Ed25519PrivateKey) -> bytes:
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def public_of(key: Ed25519PrivateKey) -> str:
    """Return the public key: its 32 bytes in base64."""
    return base64.b64encode(key.public_key().public_bytes_raw()).decode()


def sign(key: Ed25519PrivateKey, text: bytes) -> str:
    """Return the signature in base64."""
    return base64.b64encode(key.sign(text)).decode()


def is_signed(public: str, text: bytes, signature: str) -> bool:
    """Tell whether the owner of the public key has signed the text."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public, validate=True))
        key.verify(base64.b64decode(signature, validate=True), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def read_public(given: str) -> str:
    """Return the public key that `--public-key` names: 44 characters, or a file that holds them."""
    path = Path(given)
    text = given
    if path.is_file():
        text = path.read_text(encoding="utf-8", errors="replace").strip()
    try:
        raw = base64.b64decode(text, validate=True)
    except ValueError:
        raw = b""
    if len(raw) != _RAW_BYTES:
        raise UsageError(
            f'"{given}" is neither a public key nor a file with one',
            "aosctl audit public-key prints it",
        )
    return text
