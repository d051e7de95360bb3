"""Which resources a verb is to change: by name, by labels or fields, or all of a kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import UUID

from aosctl.cli.targets import Wanted, parse_targets
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aosctl.cli.flags import DryRun
    from aosctl.db.connection import Session
    from aosctl.db.rows import AnyConnection, AnySession
    from aosctl.domain.changing import Changed, Modify, Picked


class Choice(NamedTuple):
    """What was named, and what of it is meant where no names were given."""

    wanted: list[Wanted]
    labels: Callable[[Mapping[str, str]], bool]
    fields: Callable[[Mapping[str, Any]], bool]
    all_tenants: bool = False

    @property
    def by_name(self) -> bool:
        """Tell whether resources are named one by one."""
        return any(one.names is not None for one in self.wanted)


def choose(
    words: Sequence[str],
    verb: str,
    selector: str | None = None,
    field_selector: str | None = None,
    *,
    everything: bool = False,
    needs_choice: bool = True,
    all_tenants: bool = False,
) -> Choice:
    """Read what a verb is to change, in kubectl's words where it is too little or too much.

    Raises UsageError, also for runs and what they leave, which nobody declares; UnknownKind.
    """
    from aosctl.domain.field_selectors import parse_field_selector
    from aosctl.domain.selectors import parse_selector

    wanted = parse_targets(words, verb)
    for kind in (one.kind for one in wanted if one.kind.read_only):
        raise UsageError(
            f"{kind.plural} have no manifest that {verb} could change", f"aosctl get {kind.plural}"
        )
    selective = selector is not None or field_selector is not None
    choice = Choice(
        wanted,
        parse_selector(selector or ""),
        parse_field_selector(field_selector or "", [one.kind for one in wanted]),
        all_tenants,
    )
    if choice.by_name and all_tenants:
        raise UsageError("a resource cannot be retrieved by name across all namespaces")
    check_choice(
        by_name=choice.by_name,
        selective=selective,
        everything=everything,
        needs_choice=needs_choice,
    )
    return choice


def check_choice(
    *, by_name: bool, selective: bool, everything: bool, needs_choice: bool = True
) -> None:
    """Raise UsageError where resources are chosen in two ways, or in none."""
    if by_name and (selective or everything):
        raise UsageError("name cannot be provided when a selector or --all is specified")
    if needs_choice and not (by_name or selective or everything):
        raise UsageError(
            "resource(s) were provided, but no name was specified", "or choose by -l, or --all"
        )


def tenant_of(session: AnySession, wanted: Sequence[Wanted]) -> UUID | None:
    """Return the tenant to work in, where what is wanted belongs to one."""
    needed = any(one.kind.tenanted for one in wanted)
    return session.require_tenant() if needed else session.tenant_id


def pick(connection: AnyConnection, tenant: UUID | None, choice: Choice) -> list[Picked]:
    """Read what is chosen. Raises NotFound for names of nothing, all of them in it."""
    from aosctl.cli.targets import raise_all
    from aosctl.domain import inventory

    found: list[Picked] = []
    errors: list[AosError] = []
    for one in choice.wanted:
        owner = tenant if one.kind.tenanted else None
        if one.names is None:
            rows = inventory.resources(connection, one.kind, owner, everywhere=choice.all_tenants)
            rows = [row for row in rows if _is_meant(choice, one, row)]
        else:
            rows, missing = inventory.named(connection, one.kind, owner, one.names)
            known = inventory.known_names(connection, one.kind, owner) if missing else ()
            errors += [one.missing(name, known) for name in missing]
        found += [(one.kind, row) for row in rows]
    raise_all(errors)
    return found


def change(
    session: Session, choice: Choice, modify: Modify, trial: DryRun = "none"
) -> list[Changed]:
    """Change what is chosen, all of it or nothing, as `trial` says. Raises NotFound, Conflict."""
    from aosctl.domain.changing import change_all

    tenant = None if choice.all_tenants else tenant_of(session, choice.wanted)
    return change_all(
        session.connection,
        lambda: pick(session.connection, tenant, choice),
        modify,
        keep=trial == "none",
        only_look=trial == "client",
    )


def _is_meant(choice: Choice, wanted: Wanted, row: Any) -> bool:
    return choice.labels(row.labels) and choice.fields(wanted.kind.to_manifest(row))
