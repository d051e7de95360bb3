"""Apply and delete sets of manifests: one set is one transaction, errors point into the files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from aosctl.db import manifests
from aosctl.db.connection import Connection
from aosctl.db.manifests import Outcome
from aosctl.domain.cluster import Cluster, Key, key
from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME, Kind
from aosctl.domain.kinds.base import Resource
from aosctl.domain.placing import in_words
from aosctl.domain.relations import in_delete_order
from aosctl.errors import Conflict, Denied, NotFound

SERVER_OWNED = ("uid", "generation", "creationTimestamp")


@dataclass(frozen=True)
class Applied:
    """What became of one document; `live` is what stood there before, `merged` what stands now.

    Both are read only where a caller asked for them. `warnings` point into the document.
    """

    document: Document
    outcome: Outcome
    live: Resource | None = None
    merged: Resource | None = None
    warnings: tuple[str, ...] = ()

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
        cluster = Cluster(connection)
        ready = cluster.prepare(documents, tenancy)
        live = cluster.read(ready) if read_back or _has_generations(ready) else {}
        _check_generations(ready, live)
        outcomes = [cluster.apply(document) for document in ready]
        cluster.settle(ready)
        if only_new:
            _refuse_existing(ready, outcomes)
        merged = cluster.read(ready) if read_back else {}
        return [
            Applied(document, outcome, live.get(key(document)), merged.get(key(document)),
                    cluster.open_to_all(document))
            for document, outcome in zip(ready, outcomes, strict=True)
        ]  # fmt: skip

    return manifests.in_transaction(connection, work, keep=keep)


def compare_set(
    connection: Connection, documents: Sequence[Document], tenancy: Tenancy
) -> list[Applied]:
    """Say what applying would do, from reading alone."""

    def work() -> list[Applied]:
        cluster = Cluster(connection)
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
        cluster = Cluster(connection)
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
        raise in_words(error, kind) from error


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
