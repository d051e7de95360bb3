"""Where the master key is kept: an environment variable, a file, or the keyring of the system.

The first of these that is set counts; one that is set and can't be used is an error, so that no
value is ever sealed under another key than a person thinks:

1. AOSCTL_MASTER_KEY, the key itself: 64 hex digits, or 32 bytes in base64
2. AOSCTL_MASTER_KEY_FILE, a file that holds it and that nobody else may read
3. `master.key` beside the config file, as `aosctl secret init` makes it
4. the system's keyring (`pip install 'aosctl[keyring]'`)
"""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aosctl.config import config_path
from aosctl.domain.sealing import KEY_BYTES, MasterKey
from aosctl.errors import AosError, Conflict
from aosctl.redaction import MASTER_KEY_VARIABLE, remember

FILE_VARIABLE = "AOSCTL_MASTER_KEY_FILE"
KEYRING_SERVICE = "aosctl"
KEYRING_NAME = "master-key"
CURRENT, NEXT = "", ".next"
"""Places of a store. A rotation fills the second, and leaves each key that was, for ever, in the
place `.KEYID`: backups and other databases may need it."""
_LONGEST_FILE = 4_096
_HINT = f"aosctl secret init makes one; or set {MASTER_KEY_VARIABLE} or {FILE_VARIABLE}"


class Store(Protocol):
    """A place that holds a master key, those it had before, and the next while it is rotated."""

    source: str
    writable: bool

    def read(self, place: str) -> MasterKey | None:
        """Return the key of a place, None where there is none."""

    def keep(self, place: str, key: bytes) -> MasterKey:
        """Keep a key, durably, in an empty place; return the one that is there afterwards."""

    def promote(self) -> None:
        """Make the next key the current one, and keep that under its id."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys at hand: one to seal with, and those that open what others sealed."""

    store: Store
    current: MasterKey

    def find(self, key_id: str) -> MasterKey | None:
        """Return the key of that id, None where it is not at hand."""
        if key_id == self.current.key_id:
            return self.current
        others = (self.store.read(place) for place in (f".{key_id}", NEXT))
        return next((key for key in others if key is not None and key.key_id == key_id), None)

    def require(self, key_id: str, what: object) -> MasterKey:
        """Return the key of that id. Raises AosError, naming both keys."""
        found = self.find(key_id)
        if found is None:
            raise AosError(
                f"{what} is sealed under the master key {key_id}; at hand is"
                f" {self.current.key_id}, from {self.current.source}",
                f"set {MASTER_KEY_VARIABLE} or {FILE_VARIABLE} to that key",
            )
        return found


def find_keys(env: Mapping[str, str]) -> Keys:
    """Return the keys at hand. Raises AosError when there is none, or one can't be used."""
    keys = keys_at_hand(env)
    if keys is None:
        raise AosError("there is no master key to seal and open secrets with", _HINT)
    return keys


def keys_at_hand(env: Mapping[str, str]) -> Keys | None:
    """Return the keys at hand, None where no place is set. Raises AosError for an unusable one."""
    store = _chosen_store(env)
    current = store.read(CURRENT) if store is not None else None
    if store is None or current is None:
        return None
    return Keys(store, current)


def _chosen_store(env: Mapping[str, str]) -> Store | None:
    if MASTER_KEY_VARIABLE in env:
        return VariableStore(MASTER_KEY_VARIABLE, env)
    if chosen := env.get(FILE_VARIABLE):
        return FileStore(Path(chosen).expanduser(), required=True)
    path = default_file(env)
    return FileStore(path) if os.path.lexists(path) else keyring_store()


def default_file(env: Mapping[str, str]) -> Path:
    """Return where the key is kept unless told: beside the config file."""
    return config_path(env).with_name("master.key")


def key_from(where: str, env: Mapping[str, str]) -> MasterKey:
    """Read the key that `file:PATH` or `env:NAME` names."""
    kind, _, name = where.partition(":")
    store: Store
    if kind == "file" and name:
        store = FileStore(Path(name).expanduser(), required=True)
    elif kind == "env" and name:
        store = VariableStore(name, env)
    else:
        raise AosError("a key comes from file:PATH or env:NAME", "aosctl secret init --file PATH")
    found = store.read(CURRENT)
    if found is None:
        raise AosError(f"{store.source} holds no key", _HINT)
    return found


def key_text(key: bytes) -> str:
    """Write a key as people keep it."""
    return base64.b64encode(key).decode()


def parse_key(text: str, source: str) -> MasterKey:
    """Read a key's text. Raises AosError, which does not show it."""
    text = remember(text.strip())
    try:
        if re.fullmatch("[0-9a-fA-F]{64}", text):
            material = bytes.fromhex(text)
        else:
            material = base64.b64decode(text.replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        material = b""
    if len(material) != KEY_BYTES:
        raise AosError(
            f"{source} holds no master key: that is {2 * KEY_BYTES} hex digits, or"
            f" {KEY_BYTES} bytes in base64",
            "aosctl secret init makes one",
        )
    return MasterKey(source, material)


class VariableStore:
    """An environment variable; nothing can be written there."""

    writable = False

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.source = f"the environment variable {name}"
        self._text = env.get(name)

    def read(self, place: str) -> MasterKey | None:
        if place != CURRENT or self._text is None:
            return None
        return parse_key(self._text, self.source)

    def keep(self, place: str, key: bytes) -> MasterKey:
        raise AosError(f"{self.source} can't be changed from here")

    def promote(self) -> None:
        raise AosError(f"{self.source} can't be changed from here")


class FileStore:
    """A file that only its owner may read; a rotation keeps two more beside it."""

    writable = True

    def __init__(self, path: Path, *, required: bool = False) -> None:
        self.path = path
        self.source = f"the file {path}"
        self._required = required

    def at(self, place: str) -> Path:
        return self.path.with_name(self.path.name + place)

    def read(self, place: str) -> MasterKey | None:
        path = self.at(place)
        try:
            text = read_private(path)
        except FileNotFoundError:
            if self._required and place == CURRENT:
                raise AosError(
                    f"the file {path} does not exist", "aosctl secret init makes one"
                ) from None
            return None
        except OSError as error:
            raise AosError(f"the file {path} can't be read: {error.strerror}") from None
        return parse_key(text, f"the file {path}")

    def keep(self, place: str, key: bytes) -> MasterKey:
        path = self.at(place)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            opened, draft = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
            try:
                with os.fdopen(opened, "w") as file:
                    file.write(key_text(key) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
                with suppress(FileExistsError):
                    os.link(draft, path)  # of two at once, one wins
            finally:
                os.unlink(draft)
            self._keep_folder()
        except OSError as error:
            raise AosError(f"the file {path} can't be written: {error.strerror}") from None
        found = self.read(place)
        if found is None:
            raise AosError(f"the file {path} vanished")
        return found

    def promote(self) -> None:
        current = self.read(CURRENT)
        if current is not None:
            self.keep(f".{current.key_id}", current.material)
        with suppress(FileNotFoundError):  # somebody else has finished the same rotation
            os.replace(self.at(NEXT), self.at(CURRENT))
        self._keep_folder()

    def _keep_folder(self) -> None:
        """Make the last change of names survive a crash of the machine."""
        opened = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


class KeyringStore:
    """The system's keyring: Secret Service, macOS Keychain, Windows Credential Store."""

    writable = True
    source = "the system's keyring"

    def read(self, place: str) -> MasterKey | None:
        import keyring

        text = keyring.get_password(KEYRING_SERVICE, KEYRING_NAME + place)
        return parse_key(text, self.source) if text else None

    def keep(self, place: str, key: bytes) -> MasterKey:
        import keyring

        found = self.read(place)
        if found is not None:
            return found
        keyring.set_password(KEYRING_SERVICE, KEYRING_NAME + place, key_text(key))
        return MasterKey(self.source, key)

    def promote(self) -> None:
        import keyring

        current, following = self.read(CURRENT), self.read(NEXT)
        if following is None:
            return  # somebody else has finished the same rotation
        if current is not None:
            self.keep(f".{current.key_id}", current.material)
        keyring.set_password(KEYRING_SERVICE, KEYRING_NAME, key_text(following.material))
        keyring.delete_password(KEYRING_SERVICE, KEYRING_NAME + NEXT)


def keyring_store() -> KeyringStore | None:
    """Return the keyring where the package is installed and a keyring answers."""
    try:
        import keyring
        from keyring.errors import KeyringError
    except ImportError:
        return None
    try:
        keyring.get_password(KEYRING_SERVICE, KEYRING_NAME)
    except KeyringError:
        return None
    return KeyringStore()


def read_private(path: Path) -> str:
    """Read a small file of ours that nobody else may read. Raises AosError, OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise AosError(f"{path} is no regular file")
        if found.st_mode & 0o077:
            raise AosError(
                f"the file {path} can be read by others (mode {stat.S_IMODE(found.st_mode):04o})",
                f"chmod 600 {path}; if others could read it, aosctl secret rotate as well",
            )
        if found.st_uid not in (os.geteuid(), 0):
            raise AosError(f"the file {path} belongs to somebody else", f"chown $USER {path}")
        return file.read(_LONGEST_FILE).decode("ascii", "replace")


def make_key(store: Store, key: bytes) -> MasterKey:
    """Keep a first key. Raises Conflict where there is one: what it sealed would be lost."""
    found = store.read(CURRENT)
    if found is not None:
        raise Conflict(
            f"{store.source} holds a master key already, {found.key_id}", "aosctl secret rotate"
        )
    return store.keep(CURRENT, key)
