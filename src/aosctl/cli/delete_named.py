"""What `aosctl delete` does with names and selectors: one by one, or with what depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.flags import DryRun, suffix
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, DatabaseUnavailable, NotFound

if TYPE_CHECKING:
    from aosctl.cli.targets import Wanted
    from aosctl.db.connection import Session
    from aosctl.domain.kinds import Kind


ALLOWANCE = "Allowance"
"""The one record that is deleted: it is taken back."""


class Plan(NamedTuple):
    """Which of the kinds named, and how: after a question, with what depends on it."""

    selector: str
    field_selector: str
    interactive: bool
    cascade: bool
    patience: int | None
    """Milliseconds to wait for what another session holds; 0: for ever; None: as it is set."""


def delete_chosen(
    ctx: typer.Context,
    wanted: list[Wanted],
    plan: Plan,
    ignore_missing: bool,
    trial: DryRun,
    chosen: output.Output,
) -> None:
    """Delete what is named or chosen, one by one, each with its dependents where they go too."""
    from aosctl.cli.resource_table import note_none
    from aosctl.cli.targets import raise_all
    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import wait_for_others

    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        wait_for_others(session.connection, plan.patience)
        going = list(_chosen(session, wanted, plan))
        asks = plan.interactive and trial == "none" and going
        if asks and not agrees(_with_dependents(session, going, cascade=plan.cascade)):
            return
        deletion = _Deletion(session, plan, trial, chosen)
        for one, name in going:
            deletion.delete(one, name, ignore_missing=ignore_missing)
    if not deletion.gone and not deletion.errors and not wanted[0].names:
        note_none(session.tenant, quiet=given.quiet)
    raise_all(deletion.errors)


class _Deletion:
    """What is gone so far, and what was in the way."""

    def __init__(self, session: Session, plan: Plan, trial: DryRun, chosen: output.Output) -> None:
        self.gone: set[tuple[str, str]] = set()
        self.errors: list[AosError] = []
        self._session = session
        self._plan = plan
        self._trial = trial
        self._chosen = chosen

    def delete(self, one: Wanted, name: str, *, ignore_missing: bool) -> None:
        """Delete one, if it did not go with another. Raises DatabaseUnavailable."""
        if (one.kind.name, name) in self.gone:
            return
        try:
            done = _delete(self._session, one, name, self._trial, cascade=self._plan.cascade)
        except NotFound:
            self.errors += [] if ignore_missing else [_missing(self._session, one, name)]
        except DatabaseUnavailable:
            raise
        except AosError as error:
            self.errors.append(error)
        else:
            self.gone |= {(kind.name, its_name) for kind, its_name in done}
            for kind, its_name in done:
                print_deleted(kind, its_name, self._trial, self._chosen)


def _missing(session: Session, one: Wanted, name: str) -> NotFound:
    from aosctl.domain import inventory

    tenant = session.tenant_id if one.kind.tenanted else None
    return one.missing(name, inventory.known_names(session.connection, one.kind, tenant))


def _with_dependents(
    session: Session, going: list[tuple[Wanted, str]], *, cascade: bool
) -> list[str]:
    """Return the names of all that goes, as they are shown."""
    from aosctl.domain.cascade import dependents

    names: list[str] = []
    for one, name in going:
        if cascade:
            below = dependents(session.connection, session.tenant_id, (one.kind, name))
            names += [kind.qualified(its_name) for kind, its_name in below]
        names.append(one.kind.qualified(name))
    return list(dict.fromkeys(names))


def agrees(names: list[str]) -> bool:
    """List what goes and ask. Raises UsageError off a terminal."""
    from aosctl.cli.confirm import says_yes

    lines = "\n".join(names)
    what = f"You are about to delete the following {len(names)} resource(s):\n{lines}"
    if says_yes(f"{what}\nDo you want to continue?"):
        return True
    output.note("deletion is cancelled")
    return False


def _chosen(session: Session, wanted: list[Wanted], plan: Plan) -> Iterator[tuple[Wanted, str]]:
    """Yield what to delete by name; kinds that refer to others first, where none is named."""
    from aosctl.domain import inventory
    from aosctl.domain.field_selectors import parse_field_selector
    from aosctl.domain.selectors import parse_selector

    labels = parse_selector(plan.selector)
    fields = parse_field_selector(plan.field_selector, [one.kind for one in wanted])
    order = {kind.name: place for place, kind in enumerate(inventory.READABLE)}
    if not wanted[0].names:
        wanted = sorted(wanted, key=lambda one: -order[one.kind.name])
    for one in wanted:
        if one.names:
            yield from ((one, name) for name in one.names)
            continue
        tenant = session.require_tenant() if one.kind.tenanted else None
        for row in inventory.resources(session.connection, one.kind, tenant):
            over = one.kind.name == ALLOWANCE and row.status["state"] != "active"
            if labels(row.labels) and fields(one.kind.to_manifest(row)) and not over:
                yield one, row.name


def _delete(
    session: Session, wanted: Wanted, name: str, trial: DryRun, *, cascade: bool
) -> list[tuple[Kind, str]]:
    """Delete one resource in a transaction of its own; return all that went, in its order.

    Raises NotFound, Conflict.
    """
    from aosctl.domain import inventory
    from aosctl.domain.applying import delete_named
    from aosctl.domain.cascade import delete_cascading, dependents

    kind, connection = wanted.kind, session.connection
    if kind.name == ALLOWANCE:
        return [(kind, _revoke(session, name, trial))]
    tenant = session.require_tenant() if kind.tenanted else None
    if trial == "client":
        if not inventory.resources(connection, kind, tenant, [name]):
            raise wanted.missing(name)
        below = dependents(connection, tenant, (kind, name)) if cascade else []
        return [*below, (kind, name)]
    if cascade:
        return delete_cascading(connection, kind, tenant, name, keep=trial == "none")
    delete_named(connection, kind, tenant, name, keep=trial == "none")
    return [(kind, name)]


def _revoke(session: Session, typed: str, trial: DryRun) -> str:
    """Take back an allowance, whose row stays; return its name. Raises NotFound, Conflict."""
    from functools import partial

    from aosctl.db.allowances import find_allowance, revoke
    from aosctl.db.manifests import in_transaction

    tenant = session.require_tenant()
    row = find_allowance(session.connection, tenant, typed)
    if trial != "client":
        work = partial(revoke, session.connection, tenant, row.allowance_id)
        in_transaction(session.connection, work, keep=trial == "none")
    return row.short


def print_deleted(kind: Kind, name: str, trial: DryRun, chosen: output.Output) -> None:
    """Say what is gone, in kubectl's words."""
    if chosen.format == "name":
        output.write(f"{kind.qualified(name)}\n")
    else:
        output.write(f'{kind.singular}.aos "{name}" deleted{suffix(trial)}\n')
