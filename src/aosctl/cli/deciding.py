"""What `approve` and `deny` share: the list of what is pending, and the decisions."""

from __future__ import annotations

import sys
from contextlib import closing
from typing import TYPE_CHECKING

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.cli.wish import Wish, check

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.db.approvals import ApprovalRow
    from aosctl.db.rows import AnySession

HEADERS = ("ID", "RUN", "AGENT", "SKILL", "ARGS", "CHANGES", "AGE", "EXPIRES", "WHY")
_ARGS_WIDTH = 60
KIND_WORDS = ("approval", "approvals", "appr")
"""Those of the kind Approval, whose module takes longer to load."""


def decide_or_list(ctx: typer.Context, wish: Wish, output_format: str | None) -> None:
    """Decide the approvals that are meant; list the pending ones where none is.

    `show`, or an output format, shows those that are meant and decides nothing; with `show` and
    no name that is all of them. On a terminal each is shown and asked about before it is
    approved, unless `yes`.
    """
    from aosctl.cli.wiring import quick_session_of, remember_names

    chosen = output.parse_output(output_format)
    seconds = check(wish)
    given = globals_of(ctx)
    with closing(quick_session_of(given, select_tenant=not wish.all_tenants)) as session:
        if wish.inbox:
            from aosctl.cli.inbox import walk

            walk(session, lambda: _labelled(session, wish.selector), wish.reason, seconds, given)
            return
        if wish.decides:
            meant = _meant(session, wish, quiet=given.quiet)
            if wish.show or not chosen.is_table:
                _show(session, meant, chosen, given)
            else:
                _decide(session, meant, wish, seconds, given)
            return
        rows = _pending(session, wish.all_tenants)
        tenant = session.tenant
    if not wish.all_tenants:
        remember_names(given, KIND_WORDS, [row.short for row in rows])
    _print(rows, chosen, wish.all_tenants, headers=not wish.no_headers)
    if not rows:
        where = f" in {tenant} tenant" if tenant else ""
        output.note(f"No pending approvals{where}", quiet=given.quiet)
    elif chosen.is_table:
        one = rows[0].short if len(rows) == 1 else "ID"
        hint = f'aosctl approve {one}, or aosctl deny {one} --reason "…"'
        output.note(f"hint: {hint}", quiet=given.quiet)


def _labelled(session: AnySession, selector: str | None) -> list[ApprovalRow]:
    """Return what is pending in runs with these labels, or in all."""
    rows = _pending(session, all_tenants=False)
    if selector is None:
        return rows
    from aosctl.db.runs import runs
    from aosctl.domain.selectors import parse_selector

    matches = parse_selector(selector)
    asked = {row.run_id for row in rows}
    found = runs(session.connection, session.require_tenant(), ids=list(asked))
    wanted = {run.run_id for run in found if matches(run.labels)}
    return [row for row in rows if row.run_id in wanted]


def _pending(session: AnySession, all_tenants: bool) -> list[ApprovalRow]:
    from aosctl.db import tenants
    from aosctl.db.approvals import approvals

    if not all_tenants:
        return approvals(session.connection, session.require_tenant(), pending_only=True)
    return tenants.everywhere(
        session.connection, lambda: approvals(session.connection, pending_only=True)
    )


def _decide(
    session: AnySession, rows: list[ApprovalRow], wish: Wish, seconds: int | None, given: Globals
) -> None:
    """Decide one after the other; on a terminal ask before."""
    from aosctl.cli.asking import approved, ask_all, edited, naming
    from aosctl.cli.confirm import is_interactive
    from aosctl.cli.targets import each
    from aosctl.db.approvals import decide

    interactive = is_interactive()
    if wish.edit:
        rows = [edited(session, rows[0], given)]
    if wish.decision == "approved" and not wish.yes and interactive:
        ask_all(session, rows, wish.reason, given, seconds, (wish.scope, wish.match))
        return
    if wish.choice.is_bulk:
        lines = [(row.short, row.run, row.agent, row.skill) for row in rows]
        wish.choice.confirm(wish.verb, lines, session.tenant or "", wish.yes)
    tenant = session.require_tenant()

    def one(row: ApprovalRow) -> None:
        if wish.scope != "once":
            with naming(row):
                said = approved(session, row, wish.reason, seconds, (wish.scope, wish.match))
            output.write(f"approval.aos/{said}\n")
            return
        with naming(row):
            decide(
                session.connection,
                tenant,
                row.approval_id,
                wish.decision,
                wish.reason,
                row.digest,
                seconds,
            )
        output.write(f"approval.aos/{row.short} {wish.decision}\n")

    each(rows, one)


def _meant(session: AnySession, wish: Wish, *, quiet: bool) -> list[ApprovalRow]:
    """Find the approvals that are named, each once, or else those that are pending.

    Raises NotFound before any is decided.
    """
    from aosctl.db.approvals import find_approval

    if not wish.ids:
        rows = _labelled(session, wish.selector)
        if not rows:
            output.note(f"No pending approvals in {session.tenant} tenant", quiet=quiet)
        return rows
    tenant = session.require_tenant()
    found = [find_approval(session.connection, tenant, typed) for typed in wish.ids]
    return list({row.approval_id: row for row in found}.values())


def _show(
    session: AnySession, meant: list[ApprovalRow], chosen: output.Output, given: Globals
) -> None:
    from aosctl.cli.asking import text_of, tried

    rows = [tried(session, row, given) for row in meant]
    if not chosen.is_table:
        output.write_objects(_manifests(rows), chosen, show_headers=True)
        return
    output.write("\n".join(text_of(session, row, sys.stdout, given) for row in rows))


def _print(
    rows: list[ApprovalRow], chosen: output.Output, all_tenants: bool, *, headers: bool
) -> None:
    if not chosen.is_table:
        output.write_objects(_manifests(rows), chosen, show_headers=headers)
    elif rows:
        from aosctl.cli.table import write_table

        width = None if chosen.format == "wide" else _ARGS_WIDTH
        names = [*(["TENANT"] if all_tenants else []), *HEADERS]
        lines = [[*([row.tenant] if all_tenants else []), *_cells(row, width)] for row in rows]
        write_table(names, lines, show_headers=headers)


def _cells(row: ApprovalRow, width: int | None) -> list[object]:
    from aosctl.cli.approval_screen import asked_of
    from aosctl.cli.table import age, time_left
    from aosctl.domain.previewing import effect_words
    from aosctl.repl.words import arguments_line

    arguments = arguments_line(row.args, width)
    return [
        row.short,
        row.run,
        row.agent,
        row.skill,
        arguments,
        effect_words(asked_of(row)),
        age(row.requested_at),
        time_left(row.expires_at),
        row.reason,
    ]


def _manifests(rows: list[ApprovalRow]) -> list[dict[str, object]]:
    """Return approvals as `get` prints them."""
    from aosctl.domain.kinds.records import APPROVAL
    from aosctl.domain.records import approval_resource

    return [APPROVAL.to_manifest(approval_resource(row)) for row in rows]
