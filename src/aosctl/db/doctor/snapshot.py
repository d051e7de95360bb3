"""The kernel's catalog as text: what there is, and what this aosctl's schema files make.

The second stands in `schema/catalog.json`, which `python -m tests.catalog` writes from real
installs on every version of PostgreSQL.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from hashlib import sha256
from typing import NamedTuple

import psycopg

from aosctl.db.doctor.catalog_sql import IDENTITIES, SECTIONS
from aosctl.errors import AosError
from aosctl.resources import resource_dir

Connection = psycopg.Connection[tuple[object, ...]]
Snapshot = Mapping[str, Mapping[str, str]]
"""Section (policies, triggers, functions, …) to object to definition."""

FILE = "catalog.json"
IDENTITY = "{identity}"
"""Stands for a SQL identity, whose name is random, in the file."""


class Difference(NamedTuple):
    """An object that is not as expected: `expected` or `found` is None where there is none."""

    object: str
    expected: str | None
    found: str | None


def identities(connection: Connection) -> tuple[str, ...]:
    """Name the roles of this database's SQL identities; search_path is pg_catalog."""
    return tuple(str(row[0]) for row in connection.execute(
        f"select rolname::text from ({IDENTITIES}) i order by 1".encode()
    ))  # fmt: skip


class Live(Mapping[str, Mapping[str, str]]):
    """The live catalog, each section read when it is asked for; search_path is pg_catalog."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._read: dict[str, Mapping[str, str]] = {}

    def __getitem__(self, section: str) -> Mapping[str, str]:
        if section not in self._read:
            rows = self._connection.execute(SECTIONS[section].encode())
            self._read[section] = {str(row[0]): str(row[1]) for row in rows}
        return self._read[section]

    def __iter__(self) -> Iterator[str]:
        return iter(SECTIONS)

    def __len__(self) -> int:
        return len(SECTIONS)


def expected(major: int, roles: Iterable[str]) -> Snapshot:
    """Return what the schema files make on a major version, with these SQL identities."""
    names = tuple(roles)
    return {
        section: _of_identities({k: _variant(v, major) for k, v in objects.items()}, names)
        for section, objects in _content().items()
    }


@cache
def _content() -> Mapping[str, Mapping[str, str | Mapping[str, str]]]:
    path = resource_dir("schema") / FILE
    try:
        found: Mapping[str, Mapping[str, str]] = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise AosError(f"aosctl is installed without {path}", "install aosctl again") from error
    return found


def _variant(definition: str | Mapping[str, str], major: int) -> str:
    """Return the text of the newest version that is not newer than `major`."""
    if isinstance(definition, str):
        return definition
    known = [int(version) for version in definition if int(version) <= major]
    return definition[str(max(known) if known else min(map(int, definition)))]


def _of_identities(objects: Mapping[str, str], roles: tuple[str, ...]) -> dict[str, str]:
    plain = {name: text for name, text in objects.items() if IDENTITY not in name}
    own = {name: text for name, text in objects.items() if IDENTITY in name}
    return plain | {
        name.replace(IDENTITY, role): text.replace(IDENTITY, role)
        for name, text in own.items()
        for role in roles
    }


def differences(wanted: Snapshot, live: Snapshot, section: str) -> list[Difference]:
    """List what differs in a section, by name."""
    names = sorted(wanted[section].keys() | live[section].keys())
    both = (Difference(n, wanted[section].get(n), live[section].get(n)) for n in names)
    return [difference for difference in both if difference.expected != difference.found]


def merge(by_major: Mapping[int, Snapshot], role: str) -> dict[str, dict[str, object]]:
    """Return the file's content from installs on several versions, with one SQL identity each."""
    majors = sorted(by_major)
    merged: dict[str, dict[str, object]] = {}
    for section in SECTIONS:
        names = sorted({name for major in majors for name in by_major[major][section]})
        merged[section] = {
            name.replace(role, IDENTITY): _versions(
                {major: by_major[major][section].get(name, "") for major in majors}, role
            )
            for name in names
        }
    return merged


def _versions(texts: Mapping[int, str], role: str) -> object:
    """Return the text when it is the same everywhere, else by the version where it begins."""
    changes: dict[str, str] = {}
    last = None
    for major, text in sorted(texts.items()):
        if text != last:
            changes[str(major)] = last = text.replace(role, IDENTITY)
    return next(iter(changes.values())) if len(changes) == 1 else changes


def build_of(content: Mapping[str, Mapping[str, object]]) -> str:
    """Return 12 hex digits that name a build of the kernel: what it makes on every version."""
    same = {
        section: {name: text for name, text in objects.items() if isinstance(text, str)}
        for section, objects in content.items()
    }
    text = json.dumps(same, sort_keys=True, separators=(",", ":"))
    return sha256(text.encode()).hexdigest()[:12]
