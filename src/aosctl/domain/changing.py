"""Change resources that are there: read, modify and apply as one step that loses nobody's work."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from aosctl.db import manifests
from aosctl.db.connection import Connection
from aosctl.db.manifests import Outcome
from aosctl.domain.applying import Tenancy, apply_documents, user_owned
from aosctl.domain.document import Document
from aosctl.domain.kinds import Kind
from aosctl.domain.kinds.base import Resource
from aosctl.domain.manifest import document_of
from aosctl.domain.names import quoted
from aosctl.errors import InvalidInput

Manifest: TypeAlias = dict[str, Any]
Modify: TypeAlias = Callable[[Resource, Manifest], Manifest]
"""Return a resource's manifest as it is to be; the one given is a copy to change.

Raises InvalidInput, Conflict.
"""
Picked: TypeAlias = tuple[Kind, Resource]


@dataclass(frozen=True)
class Changed:
    """A resource before and after; without an apply, `after` is what was asked for."""

    kind: Kind
    before: Resource
    outcome: Outcome
    after: Manifest

    @property
    def name(self) -> str:
        """Return the name as kubectl prints it: `persona.aos/pg_expert`."""
        return self.kind.qualified(self.before.name)


def change_all(
    connection: Connection,
    pick: Callable[[], Sequence[Picked]],
    modify: Modify,
    *,
    keep: bool = True,
    only_look: bool = False,
) -> list[Changed]:
    """Change all that `pick` reads in one transaction, or nothing of it.

    Nobody else's change comes in between: then it is all read again. Without `keep` it is tried
    and rolled back, with `only_look` not even tried.
    """

    def work() -> list[Changed]:
        return [_change(connection, *one, modify, only_look=only_look) for one in pick()]

    return manifests.in_transaction(connection, work, keep=keep, snapshot=True)


def editable(kind: Kind, resource: Resource) -> Manifest:
    """Return the part of a resource that is its owner's, and its generation."""
    manifest = user_owned(kind, resource)
    metadata = {**manifest["metadata"], "generation": resource.generation}
    return {**manifest, "metadata": metadata}


def _change(
    connection: Connection, kind: Kind, before: Resource, modify: Modify, *, only_look: bool
) -> Changed:
    given = editable(kind, before)
    wanted = modify(before, copy.deepcopy(given))
    if wanted == given:
        return Changed(kind, before, "unchanged", kind.to_manifest(before))
    document = _same(document_of(_labelled(wanted)), kind, before)
    if only_look:
        outcome: Outcome = (
            "unchanged" if document.manifest() == user_owned(kind, before) else "configured"
        )
        return Changed(kind, before, outcome, document.manifest())
    nowhere = Tenancy(None, None)
    (done,) = apply_documents(connection, [document], nowhere, read_back=True)
    after = kind.to_manifest(done.merged) if done.merged else document.manifest()
    return Changed(kind, before, done.outcome, after)


def _labelled(manifest: Mapping[str, Any]) -> Manifest:
    """Leave empty labels and annotations out, as `get` does."""
    metadata = manifest.get("metadata")
    if not isinstance(metadata, Mapping):
        return dict(manifest)
    empty = [name for name in ("labels", "annotations") if metadata.get(name) == {}]
    kept = {name: value for name, value in metadata.items() if name not in empty}
    return {**manifest, "metadata": kept}


def _same(document: Document, kind: Kind, before: Resource) -> Document:
    """Return the document if it is still about the resource. Raises InvalidInput."""
    tenant = before.tenant if kind.tenanted else None
    found = (document.kind, document.tenant or tenant, document.name)
    if found != (kind.name, tenant, before.name):
        subject = f"{kind.name} {quoted(before.name)}"
        raise InvalidInput(
            f"{subject}: kind, metadata.name and metadata.tenant can't be changed",
            "apply a manifest of the new name, and delete the old one",
        )
    return replace(document, tenant=tenant)
