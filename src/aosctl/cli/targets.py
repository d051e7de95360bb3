"""What a person names on the command line: `KIND NAME…`, `KIND/NAME …`, `KIND,KIND`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from aosctl.errors import AosError, DatabaseUnavailable, NotFound, UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.rows import AnyConnection, AnySession
    from aosctl.domain.kinds import Kind
    from aosctl.domain.kinds.base import Resource

    Found = list[tuple[Kind, list[Resource]]]

T = TypeVar("T")
ALL = "all"
AGENT_WORDS = ("agent", "agents", "ag", "agent.aos", "agents.aos", "ag.aos")
"""What stands before the slash where all runs of an agent are meant."""
_ALL_OF_A_TENANT = (
    "Agent",
    "Persona",
    "Policy",
    "Skill",
    "McpServer",
    "Collection",
    "Budget",
    "Schedule",
    "Principal",
)


class Wanted(NamedTuple):
    """One kind, and the names of it; None means every one there is."""

    kind: Kind
    names: tuple[str, ...] | None

    def missing(self, name: str, known: Sequence[str] = ()) -> NotFound:
        """Return kubectl's error for a name that stands for nothing; `known` are those that do."""
        text = f'{self.kind.plural}.aos "{name}" not found'
        if not known:
            return NotFound(text)
        from aosctl.domain.names import nearest, quoted

        near = nearest(name, known)
        return NotFound(text, f"did you mean {quoted(near)}?" if near not in (None, name) else None)


def parse_targets(words: Sequence[str], verb: str) -> list[Wanted]:
    """Read what was named. Raises UsageError and NotFound in kubectl's words."""
    from aosctl.domain.inventory import readable_kind

    if not words:
        from aosctl.domain.inventory import READABLE

        known = ", ".join(kind.plural for kind in READABLE)
        raise UsageError(f"You must specify the type of resource to {verb}", f"one of {known}")
    if any("/" in word for word in words):
        return _pairs(words)
    if words[0] == ALL and len(words) == 1:
        return [Wanted(readable_kind(name), None) for name in _ALL_OF_A_TENANT]
    names = tuple(dict.fromkeys(words[1:])) or None
    kinds = dict.fromkeys(readable_kind(word) for word in words[0].split(","))
    return [Wanted(kind, names) for kind in kinds]


def _pairs(words: Sequence[str]) -> list[Wanted]:
    from aosctl.domain.inventory import readable_kind

    found: dict[Kind, list[str]] = {}
    for word in words:
        kind, slash, name = word.partition("/")
        if not slash:
            raise UsageError(
                "there is no need to specify a resource type as a separate argument when passing"
                " arguments in resource/name form (e.g. 'aosctl get resource/<resource_name>'"
                " instead of 'aosctl get resource resource/<resource_name>')"
            )
        if not kind or not name or "/" in name:
            raise UsageError("arguments in resource/name form must have a single resource and name")
        names = found.setdefault(readable_kind(kind), [])
        if name not in names:
            names.append(name)
    return [Wanted(kind, tuple(names)) for kind, names in found.items()]


def are_named(wanted: Sequence[Wanted], *, selective: bool, all_tenants: bool) -> bool:
    """Tell whether resources are read by name. Raises UsageError where they are chosen as well."""
    by_name = any(one.names for one in wanted)
    if by_name and selective:
        raise UsageError("name cannot be provided when a selector is specified")
    if by_name and all_tenants:
        raise UsageError("a resource cannot be retrieved by name across all namespaces")
    return by_name


def read_wanted(
    session: AnySession, wanted: list[Wanted], everywhere: bool
) -> tuple[Found, list[AosError]]:
    """Read what is wanted; return it and an error for each name of nothing."""
    from aosctl.domain import inventory

    tenant = None if everywhere else session.require_tenant()
    found: Found = []
    errors: list[AosError] = []
    for one in wanted:
        missing: list[str] = []
        if one.names is None:
            rows = inventory.resources(session.connection, one.kind, tenant, everywhere=everywhere)
        else:
            rows, missing = inventory.named(session.connection, one.kind, tenant, one.names)
        known = inventory.known_names(session.connection, one.kind, tenant) if missing else ()
        errors += [one.missing(name, known) for name in missing]
        found.append((one.kind, rows))
    return found, errors


def agent_of(connection: AnyConnection, tenant: UUID, word: str) -> str | None:
    """Return the agent that `agent/NAME` names; None for another word. Raises NotFound."""
    from aosctl.db import manifests
    from aosctl.domain.kinds import BY_NAME

    kind, slash, name = word.partition("/")
    if not slash or kind not in AGENT_WORDS:
        return None
    if name not in manifests.names(connection, BY_NAME["Agent"].view, tenant):
        raise NotFound(f'agents.aos "{name}" not found', "aosctl get agents")
    return name


def each(items: Iterable[T], act: Callable[[T], None]) -> None:
    """Do it to each; what is refused of one does not keep the others from it.

    Raises what was refused at the end, DatabaseUnavailable at once.
    """
    errors: list[AosError] = []
    for item in items:
        try:
            act(item)
        except DatabaseUnavailable:
            raise
        except AosError as error:
            errors.append(error)
    raise_all(errors)


def raise_all(errors: Sequence[AosError]) -> None:
    """Raise what went wrong, one line each; nothing where nothing did."""
    if not errors:
        return
    first = errors[0]
    rest = [f"{error.label}: {error.message}" for error in errors[1:]]
    hint = first.hint if len(errors) == 1 else None
    raise type(first)("\n".join([first.message, *rest]), hint)
