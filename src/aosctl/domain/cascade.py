"""Delete a resource with what can't be without it: the agents of a persona, their budgets."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import UUID

from aosctl.db import manifests
from aosctl.db.connection import Connection
from aosctl.domain.fields import Reference
from aosctl.domain.kinds import KINDS, Kind
from aosctl.domain.placing import in_words
from aosctl.errors import Denied, InvalidInput

Target = tuple[Kind, str]


def dependents(connection: Connection, tenant: UUID | None, target: Target) -> list[Target]:
    """Return what names the target as its one of that kind, and what names that, leaves first.

    Lists of skills and collections are no such names: their agents can do with less. Raises
    InvalidInput for what belongs to no tenant: others of other tenants may depend on it.
    """
    kind, name = target
    if not kind.tenanted:
        raise InvalidInput(
            f'{kind.plural} belong to no tenant: "{name}" is not deleted with what uses it',
            "delete what uses it first",
        )
    found: list[Target] = []
    for one in _direct(connection, tenant, target):
        found += [*dependents(connection, tenant, one), one]
    return list(dict.fromkeys(found))


def delete_cascading(
    connection: Connection, kind: Kind, tenant: UUID | None, name: str, *, keep: bool = True
) -> list[Target]:
    """Delete a resource and its dependents in one transaction; return all of them in order.

    Raises NotFound, Conflict where one of them can't go, Denied.
    """

    def work() -> list[Target]:
        going = [*dependents(connection, tenant, (kind, name)), (kind, name)]
        for one, its_name in going:
            try:
                manifests.delete(connection, one.delete_function, tenant, its_name)
            except Denied as error:
                said = in_words(error, one)
                if said is error:
                    raise
                raise said from error
        return going

    return manifests.in_transaction(connection, work, keep=keep)


def _direct(connection: Connection, tenant: UUID | None, target: Target) -> Iterator[Target]:
    kind, name = target
    for other in KINDS:
        names = [
            field.name
            for field in other.fields
            if isinstance(field.type, Reference) and field.type.kind == kind.name
        ]
        if not names or not other.tenanted:
            continue
        for row in manifests.resources(connection, other.view, tenant):
            if any(row.spec.get(one) == name for one in names):
                yield other, row.name
