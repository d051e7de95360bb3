"""`aosctl resolve`: say what became of calls whose outcome is unknown."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from aosctl.cli import output
from aosctl.cli.flags import AllTenants, NoHeaders, OutputText
from aosctl.cli.globals import globals_of
from aosctl.cli.piped import piped_text
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.db.calls import CallRow
    from aosctl.db.rows import AnySession

HEADERS = ("CALL", "RUN", "AGENT", "SKILL", "ARGS", "AGE", "WAITING")
_ARGS_WIDTH = 60
_DONE = {"retry": "will run again", "result": "succeeded", "fail": "failed"}
Action = Literal["retry", "result", "fail"]


def command(
    ctx: typer.Context,
    call: Annotated[str | None, typer.Argument(metavar="[CALL]", show_default=False)] = None,
    retry: Annotated[bool, typer.Option("--retry", help="It did not happen: run it again")] = False,
    result: Annotated[
        str | None,
        typer.Option(
            "--result",
            metavar="TEXT|@FILE|-",
            help="It happened, with this result: JSON, or text as it is",
        ),
    ] = None,
    fail: Annotated[bool, typer.Option("--fail", help="Count it as failed; --reason says why")] = (
        False
    ),
    reason: Annotated[
        str | None,
        typer.Option("--reason", metavar="TEXT", help="With --fail: what the model reads"),
    ] = None,
    output_format: OutputText = None,
    all_tenants: AllTenants = False,
    no_headers: NoHeaders = False,
) -> None:
    """Say what became of a call whose outcome is unknown; without a CALL list them.

    A call of a skill that must not be repeated is in doubt when its worker vanished in the middle:
    it may have happened or not. It is never sent again by itself. Look at the other side, then
    say so here; the waiting run goes on by itself. A CALL may be cut to a unique beginning or end,
    and a run with one such call may stand for it.

    Examples:
      aosctl resolve
      aosctl resolve 3f2a91cc --retry
      aosctl resolve 3f2a91cc --result '{"message_id": 17}'
      aosctl resolve my_pg_bot-x7k2p --fail --reason "it never left"
    """
    chosen = output.parse_output(output_format)
    actions: list[Action] = []
    actions += ["retry"] if retry else []
    actions += ["result"] if result is not None else []
    actions += ["fail"] if fail else []
    _check(call, actions, reason)
    from aosctl.cli.wiring import quick_session_of

    given = globals_of(ctx)
    value = _value(actions[0], result, reason) if actions else None
    with closing(quick_session_of(given, select_tenant=not all_tenants)) as session:
        if call is not None and actions:
            _resolve(session, call, actions[0], value)
            return
        rows = _unknown(session, all_tenants)
        tenant = session.tenant
    _print(rows, chosen, all_tenants, headers=not no_headers)
    _say_what_next(rows, chosen, tenant, given)


def _check(call: str | None, actions: list[Action], reason: str | None) -> None:
    if call is not None and not actions:
        raise UsageError(
            "what became of it?", f"aosctl resolve {call} --retry | --result TEXT | --fail"
        )
    if actions and call is None:
        raise UsageError(f"which call? aosctl resolve CALL --{actions[0]}", "aosctl resolve")
    if reason is not None and actions != ["fail"]:
        raise UsageError("--reason goes with --fail")


def _value(action: Action, result: str | None, reason: str | None) -> object:
    """Return what the model is to read."""
    if action == "fail":
        return {"error": reason} if reason else None
    if result is None:
        return None
    import json

    text = _text(result)
    try:
        return json.loads(text)
    except ValueError:
        return text.rstrip("\n")


def _text(result: str) -> str:
    """Return what --result stands for: itself, a file's content, or stdin."""
    if result == "-":
        return piped_text()
    if not result.startswith("@"):
        return result
    try:
        with open(result[1:], encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError as error:
        raise AosError(f"can't read {result[1:]}: {error.strerror}") from error


def _resolve(session: AnySession, typed: str, action: Action, value: object) -> None:
    from aosctl.db.calls import find_call, resolve

    tenant = session.require_tenant()
    row = find_call(session.connection, tenant, typed)
    try:
        resolve(session.connection, tenant, row.call_id, action, value)
    except AosError as error:
        raise error.about(f"call.aos/{row.short}") from error
    output.write(f"call.aos/{row.short} {_DONE[action]}\n")


def _unknown(session: AnySession, all_tenants: bool) -> list[CallRow]:
    from aosctl.db import tenants
    from aosctl.db.calls import unknown_calls

    if not all_tenants:
        return unknown_calls(session.connection, session.require_tenant())
    return tenants.everywhere(session.connection, lambda: unknown_calls(session.connection))


def _print(rows: list[CallRow], chosen: output.Output, all_tenants: bool, *, headers: bool) -> None:
    if not chosen.is_table:
        output.write_objects([_manifest(row) for row in rows], chosen, show_headers=headers)
    elif rows:
        from aosctl.cli.table import age, write_table
        from aosctl.repl.words import arguments_line

        width = None if chosen.format == "wide" else _ARGS_WIDTH
        names = [*(["TENANT"] if all_tenants else []), *HEADERS]
        lines = [
            [
                *([row.tenant] if all_tenants else []),
                row.short,
                row.run,
                row.agent,
                row.skill,
                arguments_line(row.args or {}, width),
                age(row.created_at),
                row.waits,
            ]
            for row in rows
        ]
        write_table(names, lines, show_headers=headers)


def _say_what_next(
    rows: list[CallRow], chosen: output.Output, tenant: str | None, given: Globals
) -> None:
    if not rows:
        where = f" in {tenant} tenant" if tenant else ""
        output.note(f"No calls of unknown outcome{where}", quiet=given.quiet)
    elif chosen.is_table:
        one = rows[0].short if len(rows) == 1 else "CALL"
        hint = f"aosctl resolve {one} --retry, --result TEXT, or --fail"
        output.note(f"hint: look at the other side, then {hint}", quiet=given.quiet)


def _manifest(row: CallRow) -> dict[str, object]:
    return {
        "apiVersion": "aos/v1",
        "kind": "Call",
        "metadata": {
            "name": row.short,
            "tenant": row.tenant,
            "uid": str(row.call_id),
            "creationTimestamp": row.created_at,
        },
        "spec": {
            "run": row.run,
            "agent": row.agent,
            "skill": row.skill,
            "args": dict(row.args or {}),
        },
        "status": {"state": row.state, "waiting": row.waits},
    }
