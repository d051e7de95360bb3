"""`aosctl get -w`: a row for each change; nothing is drawn twice."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

from aosctl.cli import output
from aosctl.cli.resource_table import Layout, write_resources

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.cli.targets import Wanted
    from aosctl.domain.kinds.base import Kind, Resource

Key = tuple[str, str | None, str]
_EVENT_WIDTH = len("MODIFIED   ")


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
    ignore_not_found: bool,
) -> None:
    """Print what there is, then each change, until somebody ends it.

    They are looked at when the kernel tells of them, and once a second what it tells nothing of.
    Raises NotFound for names of nothing, unless these are waited for.
    """
    from aosctl.cli.targets import raise_all, read_wanted
    from aosctl.cli.wiring import session_of
    from aosctl.db.watching import Watch
    from aosctl.domain.conditions import is_told, open_runs

    printer = _Printer(chosen, layout, with_events=with_events)
    seen: dict[Key, tuple[Kind, Resource]] = {}
    with closing(session_of(given, select_tenant=not everywhere)) as session:
        tenant = None if everywhere else session.tenant_id
        kinds = [one.kind for one in wanted]
        watch = Watch(session.connection, tenant=tenant, new_runs=any(k.read_only for k in kinds))
        told = tenant is not None and is_told(kinds)
        first = True
        while True:
            found, missing = read_wanted(session, wanted, everywhere)
            raise_all(missing if first and not ignore_not_found else [])
            now = {
                (kind.name, row.tenant, row.uid): (kind, row)
                for kind, rows in found
                for row in rows
                if matches(kind, row)
            }
            news = list(_changes(seen, now))
            seen = now
            if news and not (first and only_news):
                printer.write(news)
            first = False
            watch.wait(open_runs(tenant, now.values()), told=told)


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


class _Printer:
    """Prints changes; each kind has its headers once."""

    def __init__(self, chosen: output.Output, layout: Layout, *, with_events: bool) -> None:
        self._chosen = chosen
        self._layout = layout
        self._with_events = with_events
        self._headed: set[str] = set()
        self._widths: dict[str, list[int]] = {}

    def write(self, news: list[News]) -> None:
        """Print changes, at once."""
        for kind in dict.fromkeys(one.kind for one in news):
            of_kind = [one for one in news if one.kind is kind]
            headers = self._layout.headers and kind.name not in self._headed
            self._headed.add(kind.name)
            if self._chosen.is_table:
                events = [one.event for one in of_kind] if self._with_events else None
                layout = self._layout._replace(headers=headers)
                widths = self._widths.setdefault(kind.name, [_EVENT_WIDTH] if events else [])
                write_resources(kind, [one.row for one in of_kind], layout, events, widths)
            else:
                self._write_objects(of_kind, headers=headers)
        sys.stdout.flush()

    def _write_objects(self, news: list[News], *, headers: bool) -> None:
        for one in news:
            manifest = one.kind.to_manifest(one.row)
            if self._with_events:
                manifest = {"type": one.event, "object": manifest}
            output.write("---\n" if self._chosen.format == "yaml" else "")
            output.write_objects([manifest], self._chosen, single=True, show_headers=headers)
            headers = False
