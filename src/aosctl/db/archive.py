"""The file that `db backup` writes: a zip with one COPY stream a table and a manifest of all.

manifest.json          versions, tables with counts and digests, SQL identities, logins
tables/SCHEMA.TABLE    the rows as COPY writes them in text form, by primary key
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import IO, Any, TypeAlias

from aosctl.errors import AosError

FORMAT = 1
Row: TypeAlias = bytes | bytearray | memoryview
_CHUNK_BYTES = 1 << 18
_UNREADABLE = (
    zipfile.BadZipFile, zlib.error, KeyError, EOFError, OSError, RuntimeError, UnicodeDecodeError,
)  # fmt: skip
"""What zipfile raises for damaged bytes, wherever they are."""


@dataclass(frozen=True, slots=True)
class TableEntry:
    """The rows of one table."""

    name: str
    columns: tuple[str, ...]
    rows: int
    sha256: str

    @property
    def member(self) -> str:
        return f"tables/{self.name}"


@dataclass(frozen=True, slots=True)
class Grant:
    """A right of a SQL identity on an object of the business: `column` of a table, or all of it."""

    kind: str
    schema: str
    object: str | None
    column: str | None
    privilege: str


@dataclass(frozen=True, slots=True)
class IdentityEntry:
    """A SQL identity's role and what it was granted outside of the kernel."""

    tenant_id: str
    scope_id: str
    role: str
    grants: tuple[Grant, ...]


@dataclass(frozen=True, slots=True)
class LoginEntry:
    """A login that is a principal, or a member of one of the kernel's groups."""

    role: str
    principals: tuple[str, ...]
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of the event log, its bounds as text in UTC; the default one is not listed."""

    name: str
    lower: str
    upper: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds."""

    kernel: str
    client: str
    server: str
    database: str
    created_at: str
    tables: tuple[TableEntry, ...]
    identities: tuple[IdentityEntry, ...]
    logins: tuple[LoginEntry, ...]
    partitions: tuple[Partition, ...]
    format: int = FORMAT

    def rows(self, table: str) -> int:
        return next((entry.rows for entry in self.tables if entry.name == table), 0)


class ArchiveWriter:
    """Write an archive, also into a pipe: nothing is sought, the manifest comes last."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True)

    def add_table(self, name: str, columns: tuple[str, ...], rows: Iterable[Row]) -> TableEntry:
        """Store the rows of one table as they come."""
        digest, count = hashlib.sha256(), 0
        with self._zip.open(f"tables/{name}", "w", force_zip64=True) as member:
            for row in rows:
                digest.update(row)
                member.write(row)
                count += 1
        return TableEntry(name, columns, count, digest.hexdigest())

    def finish(self, manifest: Manifest) -> None:
        """Store the manifest and close the zip."""
        text = json.dumps(asdict(manifest), indent=1, ensure_ascii=False)
        self._zip.writestr("manifest.json", text)
        self._zip.close()


class ArchiveReader:
    """Read an archive. Raises AosError for a file that is none, or is damaged."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._name = name
        try:
            self._zip = zipfile.ZipFile(file)
            self.manifest = _parse(json.loads(self._zip.read("manifest.json")))
        except (*_UNREADABLE, ValueError, TypeError) as error:
            raise self._damaged("not a whole archive of aosctl db backup") from error

    def verify(self) -> None:
        """Compare each table's bytes with the digest in the manifest."""
        for entry in self.manifest.tables:
            digest = hashlib.sha256()
            for chunk in self.chunks(entry):
                digest.update(chunk)
            if digest.hexdigest() != entry.sha256:
                raise self._damaged(f"the rows of {entry.name} are not those that were backed up")

    def chunks(self, entry: TableEntry) -> Iterator[bytes]:
        """Yield the COPY stream of a table."""
        try:
            with self._zip.open(entry.member) as member:
                while chunk := member.read(_CHUNK_BYTES):
                    yield chunk
        except _UNREADABLE as error:
            raise self._damaged(f"the rows of {entry.name} can't be read") from error

    def _damaged(self, what: str) -> AosError:
        return AosError(f"{self._name}: {what}", "nothing was restored; take another backup file")


def _parse(raw: Any) -> Manifest:
    """Return the manifest of parsed JSON. Raises ValueError, KeyError or TypeError."""
    if int(raw["format"]) != FORMAT:
        raise AosError(
            f"the archive is of format {raw['format']}, this aosctl reads {FORMAT}",
            f"restore it with aosctl {raw.get('client', 'of its time')}",
        )
    kernel, client, server = (_text(raw[key]) for key in ("kernel", "client", "server"))
    return Manifest(
        kernel,
        client,
        server,
        _text(raw["database"]),
        _text(raw["created_at"]),
        tables=tuple(
            TableEntry(_text(t["name"]), _texts(t["columns"]), int(t["rows"]), _text(t["sha256"]))
            for t in raw["tables"]
        ),
        identities=tuple(
            IdentityEntry(
                _text(i["tenant_id"]), _text(i["scope_id"]), _text(i["role"]),
                tuple(Grant(**g) for g in i["grants"]),
            )
            for i in raw["identities"]
        ),
        logins=tuple(
            LoginEntry(_text(x["role"]), _texts(x["principals"]), _texts(x["groups"]))
            for x in raw["logins"]
        ),
        partitions=tuple(Partition(**p) for p in raw["partitions"]),
    )  # fmt: skip


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"not a text: {value!r}")
    return value


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(_text(value) for value in values)
