"""The setup of a recorded test: the manifests of its agent and of all that they name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.domain.document import Document

_NOT_EXPORTED = ("Secret", "Principal", "Budget", "Schedule")
_Key = tuple[str, str]


def exported(session: Session, tenant: str, agent: str) -> str:
    """Return manifests by which an empty database has the agent, without people and secrets.

    A Policy goes along when it is about nothing but what is here.
    """
    from aosctl.domain.kinds import KINDS
    from aosctl.domain.yaml_dump import dump_yaml

    known = {(one.kind, one.name): one for one in _documents(session)}
    wanted: dict[_Key, None] = dict.fromkeys([("Tenant", tenant)])
    _follow([("Agent", agent)], known, wanted)
    for key, document in known.items():
        if document.kind == "Policy" and all(one in wanted for one in _named(document, known)):
            wanted[key] = None
    order = [kind.name for kind in KINDS]
    found = sorted((key for key in wanted if key in known), key=lambda key: order.index(key[0]))
    return "---\n".join(dump_yaml(_playable(known[key].manifest())) for key in found)


def _documents(session: Session) -> Iterator[Document]:
    from aosctl.domain import inventory
    from aosctl.domain.kinds import KINDS
    from aosctl.domain.manifest import document_of

    tenant = session.require_tenant()
    for kind in KINDS:
        if kind.name not in _NOT_EXPORTED:
            for row in inventory.resources(session.connection, kind, tenant, None):
                yield document_of(_declared(kind.to_manifest(row)))


def _follow(
    begin: Iterable[_Key], known: Mapping[_Key, Document], wanted: dict[_Key, None]
) -> None:
    """Take along what is named, by what is named, to the end."""
    queue = list(begin)
    for key in queue:
        if key in wanted or key not in known:
            continue
        wanted[key] = None
        queue += _named(known[key], known)


def _named(document: Document, known: Mapping[_Key, Document]) -> Iterator[_Key]:
    """Yield what a manifest names and the database has; an agent without `skills`, all of them."""
    yield from (key for ref in document.refs if (key := (ref.kind, ref.name)) in known)
    if document.kind == "Agent" and document.spec.get("skills") is None:
        yield from (key for key in known if key[0] == "Skill")


def _declared(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without what the server owns."""
    from aosctl.domain.applying import SERVER_OWNED

    head = {k: v for k, v in manifest["metadata"].items() if k not in SERVER_OWNED}
    return {**{k: v for k, v in manifest.items() if k != "status"}, "metadata": head}


def _playable(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a Model without its key's Secret: one that is played needs none, and has none."""
    if manifest["kind"] != "Model":
        return manifest
    spec = {key: value for key, value in manifest["spec"].items() if key != "apiKeySecret"}
    return {**manifest, "spec": spec}
