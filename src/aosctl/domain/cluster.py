"""The database as a set of manifests meets it: what is there, and the kernel's functions on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import manifests, tenants
from aosctl.db.connection import Connection
from aosctl.db.manifests import Outcome
from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME, KINDS
from aosctl.domain.kinds.base import Resource
from aosctl.domain.kinds.embedding import embeds_texts
from aosctl.domain.placing import at_its_place, meant, placed
from aosctl.domain.relations import check_references, in_apply_order, resolve_tenants
from aosctl.domain.yaml_text import MAX_BYTES
from aosctl.errors import AosError, ManifestError, NotFound, UsageError

if TYPE_CHECKING:
    from aosctl.domain.applying import Tenancy

Key = tuple[str, str | None, str]


def key(document: Document) -> Key:
    """Return what tells a document from every other of its set."""
    return document.kind, document.tenant, document.name


class Cluster:
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

    def embeds(self, model: str) -> bool:
        rows = manifests.resources(self._connection, BY_NAME["Model"].view, None, [model])
        return any(embeds_texts(row.spec) for row in rows)

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

    def labelled(self, tenant: str, label: str, value: str) -> list[Resource]:
        """Read what of a tenant has a label of this value, of every kind."""
        if tenant not in self._tenants:
            return []
        chosen = self._choose(tenant)
        return [
            Resource(kind=kind.name, **row._asdict())
            for kind in KINDS
            if kind.tenanted
            for row in manifests.resources(self._connection, kind.view, chosen)
            if row.labels.get(label) == value
        ]

    def apply(self, document: Document) -> Outcome:
        kind = BY_NAME[document.kind]
        meta = {"labels": dict(document.labels), "annotations": dict(document.annotations)}
        document = self.sealed(document)
        with placed(document):
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
            document = meant(documents, error.message)
            if document is None:
                raise
            raise at_its_place(error, document) from (error.__cause__ or error)

    def open_to_all(self, document: Document) -> tuple[str, ...]:
        """Warn of what a skill is granted that no policy can keep to its tenant."""
        grants = (document.spec.get("sql") or {}).get("grants") or []
        if document.kind != "Skill" or not grants:
            return ()
        return tuple(
            document.problem(
                "spec.sql.grants",
                f"{name} is a {what}, which can have no row-level security: the skill sees"
                " every tenant's rows in it",
            )
            for name, what in manifests.without_policies(self._connection, grants)
        )

    def by_words_alone(self, document: Document) -> tuple[str, ...]:
        """Warn of a collection whose embeddings this database cannot search."""
        if document.kind != "Collection" or not document.spec.get("embedding"):
            return ()
        if manifests.has_vector(self._connection):
            return ()
        text = (
            "the database lacks the extension vector: the collection is searched by full text alone"
        )
        return (document.problem("spec.embedding", text),)

    def delete(self, document: Document) -> None:
        kind = BY_NAME[document.kind]
        with placed(document):
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
