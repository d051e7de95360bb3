"""Apply and delete sets of manifests: one set is one transaction, errors point into the files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aosctl.db import manifests, tenants
from aosctl.db.connection import Connection
from aosctl.db.manifests import Outcome
from aosctl.domain.kinds import BY_NAME, Kind
from aosctl.domain.kinds.base import Resource
from aosctl.domain.manifest import (
    Document,
    check_references,
    in_apply_order,
    in_delete_order,
    resolve_tenants,
)
from aosctl.domain.yaml_text import MAX_BYTES
from aosctl.errors import (
    AosError,
    Conflict,
    DatabaseUnavailable,
    Denied,
    ManifestError,
    NotFound,
    UsageError,
)

Key = tuple[str, str | None, str]
_DENIED = re.compile("^permission denied for function|row-level security policy")
"""What PostgreSQL says to a login without the right to a kernel function or a row."""

_MAY = {
    "Tenant": "an administrator can: a member of aos_admin",
    "Model": "an administrator can: a member of aos_admin",
    "Principal": "it needs the role admin in the tenant",
    "Policy": "it needs the role admin in the tenant",
}
SERVER_OWNED = ("uid", "generation", "creationTimestamp")


@dataclass(frozen=True)
class Applied:
    """What became of one document; `live` is what stood there before, `merged` what stands now.

    Both are read only where a caller asked for them.
    """

    document: Document
    outcome: Outcome
    live: Resource | None = None
    merged: Resource | None = None

    @property
    def name(self) -> str:
        """Return the name as kubectl prints it: `persona.aos/pg_expert`."""
        return BY_NAME[self.document.kind].qualified(self.document.name)


@dataclass(frozen=True)
class Tenancy:
    """Where documents without a tenant belong: `flag` is -n, `default` what was set elsewhere."""

    flag: str | None
    default: str | None


def apply_set(
    connection: Connection,
    documents: Sequence[Document],
    tenancy: Tenancy,
    *,
    keep: bool = True,
    read_back: bool = False,
    only_new: bool = False,
) -> list[Applied]:
    """Apply the documents in one transaction, or none of them; without `keep`, try it only.

    With `only_new` nothing that exists is changed. Raises Conflict for it, ManifestError for
    references to nothing, the kernel's errors with the document's place.
    """

    def work() -> list[Applied]:
        cluster = _Cluster(connection)
        ready = cluster.prepare(documents, tenancy)
        live = cluster.read(ready) if read_back or _has_generations(ready) else {}
        _check_generations(ready, live)
        outcomes = [cluster.apply(document) for document in ready]
        cluster.settle(ready)
        if only_new:
            _refuse_existing(ready, outcomes)
        merged = cluster.read(ready) if read_back else {}
        return [
            Applied(document, outcome, live.get(key(document)), merged.get(key(document)))
            for document, outcome in zip(ready, outcomes, strict=True)
        ]

    return manifests.in_transaction(connection, work, keep=keep)


def compare_set(
    connection: Connection, documents: Sequence[Document], tenancy: Tenancy
) -> list[Applied]:
    """Say what applying would do, from reading alone."""

    def work() -> list[Applied]:
        cluster = _Cluster(connection)
        ready = cluster.prepare(documents, tenancy)
        live = cluster.read(ready)
        _check_generations(ready, live)
        return [
            Applied(document, _compare(document, live.get(key(document))), live.get(key(document)))
            for document in ready
        ]

    return manifests.in_transaction(connection, work, keep=False)


def delete_set(
    connection: Connection,
    documents: Sequence[Document],
    tenancy: Tenancy,
    *,
    ignore_missing: bool = False,
    keep: bool = True,
    only_look: bool = False,
) -> list[Document]:
    """Delete what the documents name in one transaction; return those that were there.

    Without `keep` it is tried and rolled back; with `only_look` not even tried.
    """

    def work() -> list[Document]:
        cluster = _Cluster(connection)
        ready = in_delete_order(cluster.with_tenants(documents, tenancy))
        there = cluster.read(ready)
        if not ignore_missing:
            _refuse_missing(ready, there)
        found = [document for document in ready if key(document) in there]
        for document in found if not only_look else ():
            cluster.delete(document)
        return found

    return manifests.in_transaction(connection, work, keep=keep)


def delete_named(
    connection: Connection, kind: Kind, tenant: UUID | None, name: str, *, keep: bool = True
) -> None:
    """Delete one resource in a transaction of its own. Raises NotFound, Conflict, Denied."""
    try:
        manifests.in_transaction(
            connection,
            lambda: manifests.delete(connection, kind.delete_function, tenant, name),
            keep=keep,
        )
    except Denied as error:
        raise _in_words(error, kind) from error


def key(document: Document) -> Key:
    """Return what tells a document from every other of its set."""
    return document.kind, document.tenant, document.name


def user_owned(kind: Kind, resource: Resource) -> dict[str, Any]:
    """Return a resource's manifest without what only the server sets."""
    manifest = kind.to_manifest(resource)
    manifest.pop("status", None)
    metadata = manifest["metadata"]
    return {**manifest, "metadata": {k: metadata[k] for k in metadata if k not in SERVER_OWNED}}


def _compare(document: Document, live: Resource | None) -> Outcome:
    if live is None:
        return "created"
    same = user_owned(BY_NAME[document.kind], live) == document.manifest()
    return "unchanged" if same else "configured"


def _has_generations(documents: Sequence[Document]) -> bool:
    return any(document.generation is not None for document in documents)


def _check_generations(documents: Sequence[Document], live: dict[Key, Resource]) -> None:
    """Refuse a change of something that was changed since the file was read."""
    for document in documents:
        found = live.get(key(document))
        if document.generation is None or found is None or document.generation == found.generation:
            continue
        if _compare(document, found) == "configured":
            text = f"it was changed meanwhile: the file has {document.generation}"
            text += f", the database {found.generation}"
            raise Conflict(
                document.problem("metadata.generation", text),
                "get it again and repeat your change, or leave generation out to overwrite it",
            )


def _refuse_existing(documents: Sequence[Document], outcomes: Sequence[Outcome]) -> None:
    for document, outcome in zip(documents, outcomes, strict=True):
        if outcome != "created":
            kind = BY_NAME[document.kind]
            raise Conflict(
                f'{kind.plural}.aos "{document.name}" already exists',
                f"aosctl create {kind.singular} {document.name} --replace changes it",
            )


def _refuse_missing(documents: Sequence[Document], there: dict[Key, Resource]) -> None:
    missing = [document for document in documents if key(document) not in there]
    if missing:
        lines = [
            document.problem(
                "metadata.name", f'{BY_NAME[document.kind].plural}.aos "{document.name}" not found'
            )
            for document in missing
        ]
        raise NotFound("\n".join(lines), "nothing was deleted; --ignore-not-found deletes the rest")


class _Cluster:
    """The database as one transaction on a set of documents sees it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._tenants = {row.name: row.id for row in tenants.my_tenants(connection)}
        self._names: dict[tuple[str, str | None], list[str]] = {}
        self._chosen: str | None = ""
        self._sealed: dict[Key, int] = {}

    def exists(self, kind: str, tenant: str | None, name: str) -> bool:
        return name in self.names(kind, tenant)

    def names(self, kind: str, tenant: str | None) -> list[str]:
        if kind == "Tenant":
            return list(self._tenants)
        if tenant is not None and tenant not in self._tenants:
            return []
        if (kind, tenant) not in self._names:
            found = manifests.names(self._connection, BY_NAME[kind].view, self._choose(tenant))
            self._names[kind, tenant] = found
        return self._names[kind, tenant]

    def secret_keys(self, tenant: str, name: str) -> list[str]:
        view = BY_NAME["Secret"].view
        rows = manifests.resources(self._connection, view, self._choose(tenant), [name])
        return [key for row in rows for key in row.spec["data"]]

    def prepare(self, documents: Sequence[Document], tenancy: Tenancy) -> tuple[Document, ...]:
        """Return the documents with their tenants, checked and in the order of applying."""
        ready = self.with_tenants(documents, tenancy)
        check_references(ready, self)
        return tuple(self.sealed(document) for document in in_apply_order(ready))

    def sealed(self, document: Document) -> Document:
        """Return a Secret with its values sealed, as soon as its tenant exists; others as is."""
        tenant = self._tenants.get(document.tenant or "")
        if document.kind != "Secret" or tenant is None:
            return document
        from aosctl.domain.secrets import sealed_document

        done = sealed_document(document, tenant, self.read((document,)).get(key(document)))
        self._sealed[key(document)] = sum(len(one["sealed"]) for one in done.spec["data"].values())
        if sum(self._sealed.values()) > MAX_BYTES:
            text = f"the secrets of the set hold more than {MAX_BYTES // 1_000_000} MB"
            raise ManifestError(document.problem("spec.data", text))
        return done

    def with_tenants(self, documents: Sequence[Document], tenancy: Tenancy) -> tuple[Document, ...]:
        new = {document.name for document in documents if document.kind == "Tenant"}

        def default() -> str:
            known = sorted({*self._tenants, *new})
            if tenancy.default:
                return tenancy.default
            if len(known) == 1:
                return known[0]
            if not known:
                raise NotFound(
                    "no tenant exists yet, or none that you may see",
                    "give the documents metadata.tenant and a document of kind Tenant",
                )
            raise UsageError(
                f"which tenant? choose one with -n: {', '.join(known)}",
                "or write it into the documents as metadata.tenant",
            )

        return resolve_tenants(documents, tenancy.flag, default)

    def read(self, documents: Sequence[Document]) -> dict[Key, Resource]:
        """Read what the documents name, as far as it exists."""
        groups: dict[tuple[str, str | None], list[str]] = {}
        for document in documents:
            groups.setdefault((document.kind, document.tenant), []).append(document.name)
        found: dict[Key, Resource] = {}
        for (kind, tenant), names in groups.items():
            if tenant is not None and tenant not in self._tenants:
                continue
            rows = manifests.resources(
                self._connection, BY_NAME[kind].view, self._choose(tenant), names
            )
            for row in rows:
                found[kind, tenant, row.name] = Resource(kind=kind, **row._asdict())
        return found

    def apply(self, document: Document) -> Outcome:
        kind = BY_NAME[document.kind]
        meta = {"labels": dict(document.labels), "annotations": dict(document.annotations)}
        document = self.sealed(document)
        with _placed(document):
            tenant = self._choose(document.tenant)
            outcome = manifests.apply(
                self._connection, kind.apply_function, tenant, document.name, meta, document.spec
            )
            if kind.name == "Tenant":
                found = tenants.tenant_id(self._connection, document.name)
                if found is not None:
                    self._tenants[document.name] = found
        return outcome

    def settle(self, documents: Sequence[Document]) -> None:
        """Let the kernel check what concerns several resources, and place what it refuses."""
        try:
            manifests.check_deferred(self._connection)
        except AosError as error:
            document = _meant(documents, error.message)
            if document is None:
                raise
            path = _path_of(document, error.message) or "metadata.name"
            placed = type(error)(document.problem(path, error.message), error.hint)
            raise placed from (error.__cause__ or error)

    def delete(self, document: Document) -> None:
        kind = BY_NAME[document.kind]
        with _placed(document):
            manifests.delete(
                self._connection,
                kind.delete_function,
                self._choose(document.tenant),
                document.name,
            )

    def _choose(self, name: str | None) -> UUID | None:
        """Select the tenant, none for what belongs to none; return its id."""
        tenant = self._tenants[name] if name is not None else None
        if name != self._chosen:
            tenants.choose_local(self._connection, tenant)
            self._chosen = name
        return tenant


@contextmanager
def _placed(document: Document) -> Iterator[None]:
    """Put the document's place before what the kernel says against it."""
    try:
        yield
    except DatabaseUnavailable:
        raise
    except AosError as error:
        error = _in_words(error, BY_NAME[document.kind])
        path = _path_of(document, error.message) or "metadata.name"
        placed = type(error)(document.problem(path, error.message), error.hint)
        raise placed from (error.__cause__ or error)


def _in_words(error: AosError, kind: Kind) -> AosError:
    """Say what PostgreSQL means by a refused function or row."""
    if not (isinstance(error, Denied) and _DENIED.search(error.message)):
        return error
    text = f"the login may not change {kind.plural}{' here' if kind.tenanted else ''}"
    return Denied(text, _MAY.get(kind.name, "it needs the role developer in the tenant"))


def _meant(documents: Sequence[Document], message: str) -> Document | None:
    """Find the document that a refusal of an agent is about: it, or what was changed around it."""
    words = re.findall(r'"([^"]+)"', message)
    for kind in ("Agent", "Skill", "Policy", "Collection"):
        for document in reversed(documents):
            named = document.name in words or kind in ("Policy", "Collection")
            if document.kind == kind and named:
                return document
    return None


def _path_of(document: Document, message: str) -> str | None:
    """Find the value that a message quotes: `spec.model` for `model "gpt-9" not found`."""
    for word in reversed(re.findall(r'"([^"]+)"', message)):
        for path, value in _leaves(document.spec, "spec"):
            matches = value == word or word.endswith(f".{value}")
            if matches and path in document.places:
                return path
    return None


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _leaves(inner, f"{path}.{name}")
    elif isinstance(value, list):
        for place, inner in enumerate(value):
            yield from _leaves(inner, f"{path}[{place}]")
    elif isinstance(value, str):
        yield path, value
