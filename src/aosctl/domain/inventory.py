"""Read resources of any kind, in one tenant or wherever the login may look."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from uuid import UUID

from aosctl.db import manifests, tenants
from aosctl.db.connection import Connection
from aosctl.db.runs import find_run, runs
from aosctl.domain.kinds import KINDS, Kind, kind_named
from aosctl.domain.kinds.base import Resource
from aosctl.domain.kinds.run import RUN, run_resource
from aosctl.errors import NotFound

READABLE: tuple[Kind, ...] = (*KINDS, RUN)


def readable_kind(word: str) -> Kind:
    """Find the kind that a person typed, runs among them. Raises NotFound in kubectl's words."""
    if word.lower().removesuffix(".aos") in (RUN.singular, RUN.plural):
        return RUN
    try:
        return kind_named(word)
    except NotFound as error:
        raise NotFound(error.message, f"{error.hint}, {RUN.plural}") from None


def resources(
    connection: Connection,
    kind: Kind,
    tenant: UUID | None,
    names: Sequence[str] | None = None,
    *,
    everywhere: bool = False,
) -> list[Resource]:
    """Read resources of the selected tenant; `everywhere`, of all that the login may see.

    Tenants themselves are always read everywhere. Leaves the selection as it was.
    """
    if kind is RUN and names is not None:
        return _named_runs(connection, tenant, names)
    if not everywhere and kind.name != "Tenant":
        return _read(connection, kind, tenant if kind.tenanted else None, names)
    found: list[Resource] = []
    try:
        for scope in tenants.scopes(connection):
            tenants.choose(connection, scope)
            found += _read(connection, kind, None, names)
            if not kind.tenanted and kind.name != "Tenant":
                break
    finally:
        if not connection.closed:
            tenants.choose(connection, tenant)
    return found


def _read(
    connection: Connection, kind: Kind, tenant: UUID | None, names: Sequence[str] | None
) -> list[Resource]:
    if kind is RUN:
        return [run_resource(row) for row in runs(connection, tenant)]
    rows = manifests.resources(connection, kind.view, tenant, names)
    return [Resource(kind=kind.name, **asdict(row)) for row in rows]


def _named_runs(
    connection: Connection, tenant: UUID | None, names: Sequence[str]
) -> list[Resource]:
    found = []
    for name in names:
        try:
            found.append(run_resource(find_run(connection, tenant, name)))
        except NotFound:
            continue
    return found
