"""`aosctl get`: list resources."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    AllTenants,
    FieldSelector,
    IgnoreNotFound,
    NoHeaders,
    OutputText,
    Selector,
    SortBy,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.cli.resource_table import Layout
    from aosctl.cli.targets import Found, Wanted
    from aosctl.domain.kinds.base import Kind, Resource


def command(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="KIND [NAME…] | KIND/NAME…", show_default=False)
    ] = None,
    output_format: OutputText = None,
    selector: Selector = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
    show_labels: Annotated[
        bool, typer.Option("--show-labels", help="Add a column with all labels")
    ] = False,
    show_kind: Annotated[
        bool, typer.Option("--show-kind", help="Print the kind before each name")
    ] = False,
    label_columns: Annotated[
        list[str] | None,
        typer.Option("-L", "--label-columns", metavar="LABEL", help="Add a column for a label"),
    ] = None,
    sort_by: SortBy = None,
    ignore_not_found: IgnoreNotFound = False,
    field_selector: FieldSelector = None,
    watch: Annotated[
        bool, typer.Option("-w", "--watch", help="Go on, with a row for each change")
    ] = False,
    watch_only: Annotated[
        bool, typer.Option("--watch-only", help="As -w, without what there is at first")
    ] = False,
    watch_events: Annotated[
        bool,
        typer.Option(
            "--output-watch-events", help="With -w: say what was ADDED, MODIFIED, DELETED"
        ),
    ] = False,
) -> None:
    """List resources.

    Kinds: tenants, principals, secrets, models, collections, mcpservers, skills,
    policies, personas, agents, budgets, schedules; and to look at: runs, turns,
    approvals, allowances, events (aosctl api-resources).

    Examples:
      aosctl get agents
      aosctl get personas,skills -A -o wide
      aosctl get persona pg_expert -o yaml
      aosctl get agents -l team=data -o jsonpath='{.items[*].metadata.name}'
      aosctl get runs --field-selector status.state=idle
      aosctl get runs -w
    """
    from aosctl.cli.resource_table import Layout, note_none
    from aosctl.cli.targets import are_named, parse_targets, raise_all, read_wanted

    chosen = output.parse_output(output_format)
    wanted = parse_targets(words or (), "get")
    selective = selector is not None or field_selector is not None
    by_name = are_named(wanted, selective=selective, all_tenants=all_tenants)
    if watch_events:
        _check_events(chosen, watches=watch or watch_only)
    given = globals_of(ctx)
    matches = _matches(wanted, selector, field_selector)
    labels = tuple(one for text in label_columns or () for one in text.split(","))
    layout = Layout(
        wide=chosen.format == "wide",
        tenant=all_tenants,
        show_kind=show_kind or len(wanted) > 1,
        show_labels=show_labels,
        label_columns=labels,
        headers=not no_headers,
    )
    everywhere = all_tenants or not any(one.kind.tenanted for one in wanted)
    if watch or watch_only:
        from aosctl.cli.get_watch import watch_resources

        if sort_by:
            text = "warning: --watch or --watch-only requested, --sort-by will be ignored"
            output.note(text, quiet=given.quiet)
        watch_resources(
            given,
            wanted,
            matches,
            chosen,
            layout,
            everywhere=everywhere,
            only_news=watch_only,
            with_events=watch_events,
            ignore_not_found=ignore_not_found,
        )
        return

    from aosctl.cli.wiring import quick_session_of, remember_names

    with closing(quick_session_of(given, select_tenant=not everywhere)) as session:
        found, missing = read_wanted(session, wanted, everywhere)
        tenant = session.tenant
    for kind, rows in found:
        if not (by_name or all_tenants):
            remember_names(given, kind.words, [row.name for row in rows])
    errors = [] if ignore_not_found else missing
    found = [(kind, [row for row in rows if matches(kind, row)]) for kind, rows in found]
    if sort_by:
        from aosctl.cli.sorting import Order

        found = Order(sort_by).sort(found, lambda row: row)
    if not chosen.is_table:
        _write_objects(found, chosen, wanted, headers=not no_headers)
    elif any(rows for _, rows in found):
        _write_tables(found, layout, quiet=given.quiet)
    elif not missing:
        note_none(tenant, quiet=given.quiet)
    raise_all(errors)


def _check_events(chosen: output.Output, *, watches: bool) -> None:
    """Raise UsageError where --output-watch-events would say nothing."""
    if not watches:
        raise UsageError(
            "--output-watch-events option can only be used with --watch or --watch-only"
        )
    if chosen.format == "name":
        raise UsageError("-o name has no room for --output-watch-events", "leave -o out")


def _matches(
    wanted: list[Wanted], selector: str | None, field_selector: str | None
) -> Callable[[Kind, Resource], bool]:
    """Return the test of -l and --field-selector. Raises UsageError."""
    if selector is None and field_selector is None:
        return lambda _kind, _row: True
    from aosctl.domain.selectors import parse_selector

    labels = parse_selector(selector or "")
    if field_selector is None:
        return lambda _kind, row: labels(row.labels)
    from aosctl.domain.field_selectors import parse_field_selector

    fields = parse_field_selector(field_selector, [one.kind for one in wanted])
    return lambda kind, row: labels(row.labels) and fields(kind.to_manifest(row))


def _write_tables(found: Found, layout: Layout, *, quiet: bool) -> None:
    from aosctl.cli.resource_table import write_resources

    for place, (kind, rows) in enumerate((kind, rows) for kind, rows in found if rows):
        if place:
            output.write("\n")
        write_resources(kind, rows, layout)
        if note := kind.note(rows):
            output.note(note, quiet=quiet)


def _write_objects(
    found: Found, chosen: output.Output, wanted: list[Wanted], *, headers: bool
) -> None:
    manifests = [kind.to_manifest(row) for kind, rows in found for row in rows]
    asked = sum(len(one.names or ()) for one in wanted)
    if manifests or not asked:  # for names, kubectl prints no empty list
        output.write_objects(manifests, chosen, single=asked == 1, show_headers=headers)
