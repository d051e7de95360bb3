"""Apply and delete sets of manifests: one set is one transaction, errors point into the files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from aosctl.db import manifests
from aosctl.db.connection import Connection
from aosctl.db.manifests import Outcome
from aosctl.domain import applysets
from aosctl.domain.applysets import Members
from aosctl.domain.cluster import Cluster, Key, key
from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME, Kind
from aosctl.domain.kinds.base import Resource
from aosctl.domain.manifest import document_of
from aosctl.domain.placing import in_words
from aosctl.domain.relations import in_delete_order
from aosctl.errors import AlreadyExists, Conflict, Denied, NotFound

Expected = Mapping[Key, Resource | None]
"""What somebody saw before they decided on a change; None where there was nothing."""

SERVER_OWNED = ("uid", "generation", "creationTimestamp")
_AGAIN = "get it again and repeat your change, or leave generation out to overwrite it"


class Overtaken(Conflict):
    """Somebody else changed the resource after it was read."""


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
    only: Literal["new", "there"] | None = None,
    expected: Expected | None = None,
    members: Members | None = None,
) -> list[Applied]:
    """Apply the documents in one transaction, or none of them; without `keep`, try it only.

    `members` says which apply-set they belong to, and whether the rest of it goes. `only` takes
    what is new, or what is there, and nothing else. Raises Conflict where one belongs to another
    set or is not new; NotFound where one is not there; Overtaken where what stands is not what the
    generation or `expected` says; ManifestError for references to nothing; the kernel's errors
    with the document's place.
    """

    def work() -> list[Applied]:
        done = apply_documents(
            connection,
            documents,
            tenancy,
            read_back=read_back,
            expected=expected,
            members=members,
        )
        if only == "new":
            _refuse_existing(done)
        elif only == "there":
            _refuse_new(done)
        return done

    # What is decided by what was read: that it was not changed, and which set it is in.
    decides = expected is not None or members is not None
    decides = decides or any(one.generation is not None for one in documents)
    return manifests.in_transaction(connection, work, keep=keep, snapshot=decides)


def apply_documents(
    connection: Connection,
    documents: Sequence[Document],
    tenancy: Tenancy,
    *,
    read_back: bool = False,
    expected: Expected | None = None,
    members: Members | None = None,
) -> list[Applied]:
    """Apply the documents inside the caller's transaction; see `apply_set`."""
    cluster = Cluster(connection)
    ready = cluster.prepare(documents, tenancy)
    pinned = expected is not None or any(one.generation is not None for one in ready)
    live = cluster.read(ready) if read_back or pinned or members else {}
    ready = members.join(ready, live) if members else ready
    _check_generations(ready, live)
    _check_expected(ready, live, expected or {})
    outcomes = [cluster.apply(document) for document in ready]
    left = _left_behind(cluster, ready, tenancy, members, expected)
    for gone in left:
        cluster.delete(gone.document)
    cluster.settle(ready)
    merged = cluster.read(ready) if read_back else {}
    done = [
        Applied(document, outcome, live.get(key(document)), merged.get(key(document)),
                (*cluster.open_to_all(document), *cluster.by_words_alone(document)))
        for document, outcome in zip(ready, outcomes, strict=True)
    ]  # fmt: skip
    return [*done, *left]


def compare_set(
    connection: Connection,
    documents: Sequence[Document],
    tenancy: Tenancy,
    members: Members | None = None,
) -> list[Applied]:
    """Say what applying would do, from reading alone."""

    def work() -> list[Applied]:
        cluster = Cluster(connection)
        ready = cluster.prepare(documents, tenancy)
        live = cluster.read(ready)
        ready = members.join(ready, live) if members else ready
        _check_generations(ready, live)
        done = [
            Applied(document, _compare(document, live.get(key(document))), live.get(key(document)))
            for document in ready
        ]
        return [*done, *_left_behind(cluster, ready, tenancy, members)]

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


def _check_generations(documents: Sequence[Document], live: dict[Key, Resource]) -> None:
    """Refuse a change of something that was changed since the file was read."""
    for document in documents:
        found = live.get(key(document))
        if document.generation is None or found is None or document.generation == found.generation:
            continue
        if _compare(document, found) == "configured":
            text = f"it was changed meanwhile: the file has {document.generation}"
            text += f", the database {found.generation}"
            raise Overtaken(document.problem("metadata.generation", text), _AGAIN)


def _left_behind(
    cluster: Cluster,
    documents: Sequence[Document],
    tenancy: Tenancy,
    members: Members | None,
    expected: Expected | None = None,
) -> list[Applied]:
    """Return what of an apply-set is to be pruned: in the tenants of the documents, and of -n."""
    if members is None or not members.prune or members.name is None:
        return []
    here = {key(document) for document in documents}
    tenants = {document.tenant for document in documents} | {tenancy.flag}
    left: list[Applied] = []
    for tenant in sorted(one for one in tenants if one is not None):
        for row in cluster.labelled(tenant, applysets.LABEL, members.name):
            if (row.kind, tenant, row.name) not in here and not members.leaves(row.kind):
                document = document_of(user_owned(BY_NAME[row.kind], row))
                left.append(Applied(document, "pruned", row))
    ordered = {id(one.document): one for one in left}
    left = [ordered[id(document)] for document in in_delete_order([o.document for o in left])]
    if expected is not None:
        nothing = {key(one.document): None for one in left}
        found = {key(one.document): one.live for one in left if one.live}
        _check_expected([one.document for one in left], found, {**nothing, **expected})
    return left


def _check_expected(
    documents: Sequence[Document], live: Mapping[Key, Resource], expected: Expected
) -> None:
    """Refuse a change where something else stands than what it was decided on."""
    for document in documents:
        if key(document) not in expected:
            continue
        before, found = expected[key(document)], live.get(key(document))
        if _content(before) != _content(found):
            what = "created" if before is None else "deleted" if found is None else "changed"
            text = f"it was {what} meanwhile"
            raise Overtaken(document.problem("metadata.name", text), "look again, then repeat it")


def _content(resource: Resource | None) -> object:
    """Return what people decide about in a resource; its uid tells it from a later namesake."""
    return resource and (resource.uid, user_owned(BY_NAME[resource.kind], resource))


def _refuse_existing(done: Sequence[Applied]) -> None:
    for one in done:
        if one.outcome != "created":
            document = one.document
            kind = BY_NAME[document.kind]
            secret = f"aosctl create secret {document.name} --replace changes it"
            file = f'error when creating "{document.source}": ' if document.line else ""
            raise AlreadyExists(
                f'{file}{kind.plural}.aos "{document.name}" already exists',
                secret if kind.name == "Secret" else f"aosctl edit {kind.singular} {document.name}",
            )


def _refuse_new(done: Sequence[Applied]) -> None:
    for one in done:
        if one.outcome == "created":
            plural = BY_NAME[one.document.kind].plural
            text = one.document.problem("metadata.name", f'{plural}.aos "{one.document.name}"')
            raise NotFound(f"{text} not found", "nothing was replaced; aosctl apply makes it")


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
