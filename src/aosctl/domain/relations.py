"""How the documents of a set relate: their tenants, what they refer to, the order they go in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from aosctl.domain.document import MAX_PROBLEMS, Document, refuse
from aosctl.domain.kinds import BY_NAME, KINDS
from aosctl.domain.kinds.embedding import embeds_texts
from aosctl.domain.names import did_you_mean, quoted
from aosctl.domain.reading import Ref

_MOST_COMPARED = 5  # with all the names there are


class Lookup(Protocol):
    """What exists in the database, as far as references are concerned."""

    def exists(self, kind: str, tenant: str | None, name: str) -> bool:
        """Tell whether the resource exists; tenant is None for tenants and models."""

    def names(self, kind: str, tenant: str | None) -> list[str]:
        """List the names that exist, to suggest one."""

    def secret_keys(self, tenant: str, name: str) -> list[str]:
        """List what a Secret that exists has values for."""

    def embeds(self, model: str) -> bool:
        """Tell whether a Model that exists makes embeddings, and can't chat."""


def resolve_tenants(
    documents: Sequence[Document], flag: str | None, default: Callable[[], str]
) -> tuple[Document, ...]:
    """Give every document that belongs to a tenant its tenant.

    `flag` is the value of -n, and must not differ from a document's own; `default` names the
    tenant where both are silent, and is called only then.
    """
    problems = [
        document.problem(
            "metadata.tenant",
            f"the tenant {quoted(document.tenant)} does not match the tenant {quoted(flag)} of -n",
        )
        for document in documents
        if flag is not None and document.tenant is not None and document.tenant != flag
    ]
    refuse(problems, f"leave -n {flag} out, or apply the files of one tenant at a time")
    resolved = tuple(
        replace(document, tenant=flag if flag is not None else default())
        if document.tenant is None and BY_NAME[document.kind].tenanted
        else document
        for document in documents
    )
    refuse(duplicates(resolved))
    return resolved


def check_references(documents: Sequence[Document], lookup: Lookup) -> None:
    """Refuse the set if a name in it stands for nothing, neither in the set nor in the database."""
    here = {(one.kind, one.tenant, one.name): one for one in documents}
    problems: list[str] = []
    missing: list[Ref] = []
    for document, ref in ((one, ref) for one in documents for ref in _references(one)):
        tenant = _owner(document) if BY_NAME[ref.kind].tenanted else None
        given = here.get((ref.kind, tenant, ref.name))
        if ref.value is not None and (given or lookup.exists(ref.kind, tenant, ref.name)):
            keys = list(given.spec["data"]) if given else lookup.secret_keys(tenant or "", ref.name)
            if reason := _no_value(ref, sorted(keys)):
                problems.append(document.problem(ref.path, reason))
            continue
        if ref.name in ref.builtins or given or lookup.exists(ref.kind, tenant, ref.name):
            if ref.kind == "Model" and (reason := _other_use(ref, given, lookup)):
                problems.append(document.problem(ref.path, reason))
            continue
        known = [name for kind, owner, name in here if (kind, owner) == (ref.kind, tenant)]
        known += [*lookup.names(ref.kind, tenant), *ref.builtins]
        near = did_you_mean(ref.name, known) if len(problems) < _MOST_COMPARED else ""
        # What stands in the place of a Secret's name may be the value itself: it is not repeated.
        name = quoted(ref.name) if ref.value is None else "of this name"
        problems.append(document.problem(ref.path, f"no {ref.kind} {name} exists{near}"))
        missing.append(ref)
        if len(problems) >= MAX_PROBLEMS:
            break
    if missing:
        plural = BY_NAME[missing[0].kind].plural
        refuse(problems, f"aosctl get {plural} lists what exists; or add it to the files")
    refuse(problems)


def duplicates(documents: Sequence[Document]) -> list[str]:
    """Return a problem for each document that is given a second time."""
    first: dict[tuple[str, str | None, str], Document] = {}
    problems = []
    for document in documents:
        earlier = first.setdefault((document.kind, document.tenant, document.name), document)
        if earlier is not document:
            place = earlier.places.get("metadata.name", (earlier.line, earlier.column))
            where = ":".join(map(str, (earlier.source, *place)))
            problems.append(document.problem("metadata.name", f"is already given at {where}"))
    return problems


def in_apply_order(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Sort by kind so that what is referred to comes first; the order within a kind stays."""
    order = {kind.name: place for place, kind in enumerate(KINDS)}
    return tuple(sorted(documents, key=lambda document: order[document.kind]))


def in_delete_order(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Sort so that what refers to others goes first."""
    return tuple(reversed(in_apply_order(documents)))


def _references(document: Document) -> list[Ref]:
    refs = list(document.refs)
    if document.tenant is not None:
        place = document.places.get("metadata.tenant", (document.line, document.column))
        refs.append(Ref("Tenant", document.tenant, "metadata.tenant", *place))
    return refs


def _owner(document: Document) -> str | None:
    """Return the tenant whose resources a document names: a Tenant's are its own."""
    return document.name if document.kind == "Tenant" else document.tenant


def _other_use(ref: Ref, given: Document | None, lookup: Lookup) -> str | None:
    """Say why a Model that exists is none for what it is named for."""
    embeds = embeds_texts(given.spec) if given else lookup.embeds(ref.name)
    if embeds == ref.embeds:
        return None
    if embeds:
        return f"the Model {quoted(ref.name)} makes embeddings and can't chat"
    return f"the Model {quoted(ref.name)} makes no embeddings (spec.capabilities.embeddings)"


def _no_value(ref: Ref, keys: Sequence[str]) -> str | None:
    """Say why a reference to a Secret that exists stands for none of its values."""
    if ref.value in keys or (not ref.value and len(keys) == 1):
        return None
    if ref.value:
        near = did_you_mean(ref.value, keys)
        return f"the Secret {quoted(ref.name)} has no value of this name{near}"
    return f"which value of the Secret {quoted(ref.name)}? It has {', '.join(keys)}"
