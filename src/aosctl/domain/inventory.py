"""Read resources of any kind, in one tenant or wherever the login may look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from uuid import UUID

from aosctl.db import manifests, tenants
from aosctl.db.manifests import Change
from aosctl.db.runs import find_run, runs
from aosctl.domain.kinds import KINDS, Kind
from aosctl.domain.kinds.base import Resource
from aosctl.domain.kinds.records import ALLOWANCE, APPROVAL, EVENT, TURN
from aosctl.domain.kinds.run import RUN, run_resource
from aosctl.domain.names import did_you_mean, quoted
from aosctl.errors import NotFound, UnknownKind

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection

_OF_KUBERNETES = {
    "runs": "po pod pods job jobs process processes",
    "agents": "deploy deployment deployments",
    "tenants": "ns namespace namespaces",
    "principals": "sa serviceaccount serviceaccounts user users",
}
"""What its kinds are here, whose names are near to others."""
READABLE: tuple[Kind, ...] = (*KINDS, RUN, TURN, APPROVAL, ALLOWANCE, EVENT)


def readable_kind(word: str) -> Kind:
    """Find the kind that a person typed, those only to be read among them: `runs`, `turn`, `ev`.

    Raises UnknownKind in kubectl's words.
    """
    typed = word.lower().removesuffix(".aos")
    known = {name: kind for kind in READABLE for name in kind.words}
    if typed in known:
        return known[typed]
    meant = [kind for kind, words in _OF_KUBERNETES.items() if typed in words.split()]
    near = f"; did you mean {quoted(meant[0])}?" if meant else did_you_mean(typed, known)
    text = f"the server doesn't have a resource type {quoted(word)}{near}"
    plurals = ", ".join(kind.plural for kind in READABLE)
    raise UnknownKind(text, f"it has {plurals}")


def named(
    connection: AnyConnection, kind: Kind, tenant: UUID | None, names: Sequence[str]
) -> tuple[list[Resource], list[str]]:
    """Read resources by name, in the order asked; return them and the names of none.

    A run may also be named by its id or a unique end. Raises AosError where that is ambiguous.
    """
    if kind is RUN:
        return _named_runs(connection, tenant, names)
    if kind.read_only:
        from aosctl.domain import records

        return records.named(connection, kind, _chosen(tenant), names)
    rows = {row.name: row for row in resources(connection, kind, tenant, names)}
    return [rows[name] for name in names if name in rows], [n for n in names if n not in rows]


def known_names(connection: AnyConnection, kind: Kind, tenant: UUID | None) -> list[str]:
    """List the names that one may have meant, of the selected tenant; empty where nobody knows."""
    if kind is RUN:
        return [row.name for row in runs(connection, tenant)]
    if kind.read_only:
        return []
    return manifests.names(connection, kind.view, tenant if kind.tenanted else None)


def resources(
    connection: AnyConnection,
    kind: Kind,
    tenant: UUID | None,
    names: Sequence[str] | None = None,
    *,
    everywhere: bool = False,
) -> list[Resource]:
    """Read resources of the selected tenant; `everywhere`, of all that the login may see.

    Tenants themselves are always read everywhere. Leaves the selection as it was.
    """
    if not kind.tenanted and kind.name != "Tenant":
        return _read(connection, kind, None, names)
    if not everywhere and kind.tenanted:
        return _read(connection, kind, tenant, names)
    if kind.read_only and kind is not RUN:
        return _records_everywhere(connection, kind, tenant)
    found = tenants.everywhere(connection, lambda: _read(connection, kind, None, names))
    tenants.choose(connection, tenant)
    return found


def changes(
    connection: AnyConnection, kind: Kind, row: Resource, tenant: UUID | None, last: int
) -> list[Change]:
    """Return the last events about a resource, oldest first; models have none."""
    owner = tenants.tenant_id(connection, row.tenant or row.name) if tenant is None else tenant
    if owner is None or not (kind.tenanted or kind.name == "Tenant"):
        return []
    if tenant is None:
        tenants.choose(connection, owner)
    if kind is RUN:
        from aosctl.db.events import events

        run = find_run(connection, owner, row.uid)
        return [Change(one.at, one.kind, one.actor) for one in events(connection, run, last=last)]
    return manifests.changes(connection, owner, kind.singular, row.name, last)


def _read(
    connection: AnyConnection, kind: Kind, tenant: UUID | None, names: Sequence[str] | None
) -> list[Resource]:
    if kind is RUN:
        return [run_resource(row) for row in runs(connection, tenant)]
    if kind.read_only:
        from aosctl.domain import records

        return records.listed(connection, kind, _chosen(tenant))
    rows = manifests.resources(connection, kind.view, tenant, names)
    return [Resource(kind=kind.name, **row._asdict()) for row in rows]


def _records_everywhere(
    connection: AnyConnection, kind: Kind, tenant: UUID | None
) -> list[Resource]:
    """Read the newest records of each tenant that the login may see."""
    found: list[Resource] = []
    for each in tenants.my_tenants(connection):
        tenants.choose(connection, each.id)
        found += _read(connection, kind, each.id, None)
    tenants.choose(connection, tenant)
    return found


def _chosen(tenant: UUID | None) -> UUID:
    if tenant is None:
        raise AssertionError("records are read in a tenant")
    return tenant


def _named_runs(
    connection: AnyConnection, tenant: UUID | None, names: Sequence[str]
) -> tuple[list[Resource], list[str]]:
    found, missing = [], []
    for name in names:
        try:
            found.append(run_resource(find_run(connection, tenant, name)))
        except NotFound:
            missing.append(name)
    return found, missing
