"""Secrets in the client: sealed before they go to the database, opened when they are used."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.domain import sealing
from aosctl.domain.master_key import Keys, find_keys
from aosctl.domain.sealing import MAX_TEXT_BYTES, Place, Plaintext, Sealed
from aosctl.domain.sources import read_beside
from aosctl.errors import AosError, Denied, InvalidInput, ManifestError, NotFound
from aosctl.redaction import remember

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.db.connection import Connection
    from aosctl.domain.document import Document
    from aosctl.domain.kinds.base import Resource


def sealed_document(document: Document, tenant: UUID, live: Resource | None) -> Document:
    """Return a Secret with every value sealed; one that did not change stays as `live` has it.

    Raises ManifestError with the place of a value that can't be read, AosError without a key.
    """
    stored = live.spec["data"] if live is not None else {}
    sealing_one = _Sealing(document, str(tenant), stored)
    data = {key: {"sealed": sealing_one.of(key, given)} for key, given in _data(document).items()}
    return replace(document, spec={**document.spec, "data": data})


def checked_text(text: str, what: str) -> str:
    """Return a value's text. Raises InvalidInput for an empty or too large one."""
    if not text:
        raise InvalidInput(f"{what} is empty")
    if len(text.encode("utf-8", "replace")) > MAX_TEXT_BYTES:
        raise InvalidInput(f"{what} is larger than {MAX_TEXT_BYTES // 1024} KiB")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InvalidInput(f"{what} is no UTF-8 text") from None
    return text


def without_last_break(text: str) -> str:
    """Return a file's text without the line break that ends it."""
    return text.removesuffix("\n").removesuffix("\r")


def key_opener(tenant: str, given: Mapping[str, str]) -> Callable[[], str]:
    """Return what opens a model's key at the moment of a call.

    `given` has secret, key and sealed, as the kernel gave them to the worker.
    """
    return partial(open_text, Place(tenant, given["secret"], given["key"]), given["sealed"])


def person_opener(connection: Connection, tenant: UUID) -> Callable[[str], str]:
    """Return what opens a reference NAME or NAME/KEY for a person who may read sealed values."""

    def opened(reference: str) -> str:
        from aosctl.db import manifests
        from aosctl.domain.kinds import BY_NAME

        name, _, key = reference.partition("/")
        found = manifests.resources(connection, BY_NAME["Secret"].view, tenant, [name])
        data: Mapping[str, Mapping[str, str]] = found[0].spec["data"] if found else {}
        key = key or (next(iter(data)) if len(data) == 1 else "")
        if key not in data:
            raise NotFound(
                f'this tenant has no secret "{reference}"',
                f"aosctl create secret {name}" if not data else f"it has {', '.join(sorted(data))}",
            )
        if "sealed" not in data[key]:
            raise Denied(
                f'the login may not open the secret "{name}"',
                "it needs the role developer in the tenant",
            )
        return open_text(Place(str(tenant), name, key), data[key]["sealed"])

    return opened


def secret_opener(tenant: str, given: Mapping[str, Mapping[str, str]]) -> Callable[[str], str]:
    """Return what opens a skill's secrets by their references, at the moment of a call."""

    def open_one(reference: str) -> str:
        if reference not in given:
            raise NotFound(f'the skill names no secret "{reference}"')
        return key_opener(tenant, given[reference])()

    return open_one


def open_text(place: Place, sealed: str) -> str:
    """Open one sealed value with the key at hand; what this process prints won't hold it."""
    master = find_keys(os.environ).require(Sealed.parse(sealed).key_id, place)
    return remember(sealing.open_sealed(master, place, sealed))


class _Sealing:
    """Seals the values of one document."""

    def __init__(self, document: Document, tenant: str, stored: Mapping[str, Any]) -> None:
        self._document = document
        self._tenant = tenant
        self._stored = stored

    def of(self, key: str, given: Mapping[str, Any] | Plaintext) -> str:
        """Return the sealed value for what a manifest says of `key`."""
        place = Place(self._tenant, self._document.name, key)
        before: str | None = self._stored.get(key, {}).get("sealed")
        if not isinstance(given, Plaintext) and "sealed" in given:
            return self._checked(place, given["sealed"], before)
        text = self._text(key, given)
        keys = _keys()
        if before is not None:
            master = keys.find(Sealed.parse(before).key_id)
            if master is not None and sealing.holds(master, place, before, text):
                return before
        return sealing.seal(keys.current, place, text)

    def _checked(self, place: Place, sealed: str, before: str | None) -> str:
        """Refuse a sealed value of elsewhere, where the key to tell is at hand."""
        if sealed != before:
            from aosctl.domain.master_key import keys_at_hand

            keys = keys_at_hand(os.environ)
            master = keys.find(Sealed.parse(sealed).key_id) if keys else None
            if master is not None:
                try:
                    sealing.open_sealed(master, place, sealed)
                except AosError as error:
                    raise self._wrong(place.key, error.message) from None
        return sealed

    def _text(self, key: str, given: Mapping[str, Any] | Plaintext) -> str:
        if isinstance(given, Plaintext):
            return checked_text(given.reveal(), f'the value "{key}"')
        if "fromEnv" in given:
            name = given["fromEnv"]
            if name not in os.environ:
                raise self._wrong(key, f"the environment variable {name} is not set")
            text, what = os.environ[name], f"the environment variable {name}"
        else:
            try:
                text = without_last_break(read_beside(self._document.folder, given["fromFile"]))
            except ValueError as error:
                raise self._wrong(key, str(error)) from None
            what = "the file"
        try:
            return remember(checked_text(text, what))
        except InvalidInput as error:
            raise self._wrong(key, error.message) from None

    def _wrong(self, key: str, text: str) -> ManifestError:
        return ManifestError(self._document.problem(f"spec.data.{key}", text))


@cache
def _keys() -> Keys:
    """Read the keys once a process: a keyring may ask the person each time."""
    return find_keys(os.environ)


def _data(document: Document) -> Mapping[str, Any]:
    data: Mapping[str, Any] = document.spec["data"]
    return data
