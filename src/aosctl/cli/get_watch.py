"""`aosctl get -w`: a row for each change; nothing is drawn twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple
from uuid import UUID

from aosctl.cli import output
from aosctl.cli.resource_table import Layout, write_resources

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.cli.targets import Wanted
    from aosctl.db.connection import Session
    from aosctl.domain.kinds.base import Kind, Resource

_ENDLESS = 3600.0
Key = tuple[str, str | None, str]


class News(NamedTuple):
    """One change: ADDED, MODIFIED or DELETED, with the resource as it is, or was."""

    event: str
    kind: Kind
    row: Resource


def watch_resources(
    given: Globals,
    wanted: list[Wanted],
    matches: Callable[[Kind, Resource], bool],
    chosen: output.Output,
    layout: Layout,
    *,
    everywhere: bool,
    only_news: bool,
    with_events: bool,
) -> None:
    """Print what there is, then each change, until somebody ends it.

    Runs are looked at when the kernel tells of them, all else once a second.
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db.watching import Watch

    seen: dict[Key, tuple[Kind, Resource]] = {}
    with closing(session_of(given, select_tenant=not everywhere)) as session:
        watch = Watch(session.connection)
        tenant = None if everywhere else session.require_tenant()
        first = True
        while True:
            now = {
                (kind.name, row.tenant, row.uid): (kind, row)
                for kind, row in _read(session, wanted, tenant, everywhere=everywhere)
                if matches(kind, row)
            }
            news = list(_changes(seen, now))
            seen = now
            if news and not (first and only_news):
                layout = _write(news, chosen, layout, with_events=with_events)
            first = False
            watch.wait(_open_runs(now, tenant), _ENDLESS)


def _read(
    session: Session, wanted: list[Wanted], tenant: UUID | None, *, everywhere: bool
) -> Iterator[tuple[Kind, Resource]]:
    from aosctl.domain import inventory

    for one in wanted:
        if one.names is None:
            rows = inventory.resources(session.connection, one.kind, tenant, everywhere=everywhere)
        else:
            rows, _ = inventory.named(session.connection, one.kind, tenant, one.names)
        yield from ((one.kind, row) for row in rows)


def _changes(
    before: dict[Key, tuple[Kind, Resource]], now: dict[Key, tuple[Kind, Resource]]
) -> Iterator[News]:
    for key, (kind, row) in now.items():
        if key not in before:
            yield News("ADDED", kind, row)
        elif before[key][1] != row:
            yield News("MODIFIED", kind, row)
    for key, (kind, row) in before.items():
        if key not in now:
            yield News("DELETED", kind, row)


def _open_runs(
    now: dict[Key, tuple[Kind, Resource]], tenant: UUID | None
) -> list[tuple[UUID, UUID]]:
    """Return the runs that notices can be asked for: tenant and run."""
    from aosctl.domain.conditions import is_final
    from aosctl.domain.kinds.run import RUN

    if tenant is None:
        return []
    return [
        (tenant, UUID(row.uid))
        for kind, row in now.values()
        if kind is RUN and not is_final(kind, row)
    ]


def _write(news: list[News], chosen: output.Output, layout: Layout, *, with_events: bool) -> Layout:
    """Print changes; return the layout for the next ones, which needs no headers any more."""
    if not chosen.is_table:
        for one in news:
            manifest = one.kind.to_manifest(one.row)
            if with_events:
                manifest = {"type": one.event, "object": manifest}
            output.write("---\n" if chosen.format == "yaml" else "")
            output.write_objects([manifest], chosen, single=True)
    else:
        for kind in dict.fromkeys(one.kind for one in news):
            of_kind = [one for one in news if one.kind is kind]
            events = [one.event for one in of_kind] if with_events else None
            write_resources(kind, [one.row for one in of_kind], layout, events)
    sys.stdout.flush()
    return layout._replace(headers=False)
