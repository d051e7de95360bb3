"""`aosctl skill`: what an agent's skills do, tried by hand."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output, talk
from aosctl.cli.globals import globals_of
from aosctl.errors import Denied, InvalidInput, NotFound

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from aosctl.cli.globals import Globals
    from aosctl.db.connection import Session
    from aosctl.db.skills import Decision
    from aosctl.repl.turns import Decider

app = typer.Typer(
    help="""Try a skill as an agent would use it.

`aosctl get skills -o wide` says which agents may use which skills, and why.

Examples:
  aosctl skill test sql_query --args '{"query": "select 1"}'
  aosctl skill test sql_query --args '{"query": "select 1"}' --dry-run""",
    rich_markup_mode=None,
)

_HINT = """try: --args '{"name": "value"}'"""


@app.command("test")
def test(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="SKILL", help="Skill to call")],
    args: Annotated[
        str, typer.Option("--args", metavar="JSON", help="Its arguments, an object; - is stdin")
    ] = "{}",
    agent: Annotated[
        str | None,
        typer.Option("--agent", metavar="AGENT", help="Whose rights count, if several may"),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only show what the gate would decide")
    ] = False,
    output_format: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FORMAT", help="json|stream-json"),
    ] = None,
    approve: talk.Approve = "ask",
) -> int:
    """Call a skill once, for real, with an agent's rights; no model is asked.

    The gate's decision goes to stderr, the result alone to stdout as JSON. The call stands in a
    run of its own, with its approval, its events and its trace, as any other. Exit status 1 when
    the gate refuses the call or the skill fails, 3 when an approval is pending.

    Examples:
      aosctl skill test sql_query --args '{"query": "table shop.orders"}'

      # What would be decided, and why; nothing runs
      aosctl skill test sql_execute --agent my_pg_bot --dry-run \\
        --args '{"statement": "delete from shop.orders"}'

      echo '{"query": "upsert"}' | aosctl skill test rag_search --args -
    """
    given = globals_of(ctx)
    formats: tuple[output.Format, ...] = ("json",) if dry_run else ("json", "stream-json")
    chosen = output.parse_output(output_format, allowed=formats)
    values = _object(args)
    decider = talk.decider_of(approve)
    from aosctl.cli.wiring import session_of
    from aosctl.db.skills import explain_gate

    with ExitStack() as held:
        session = session_of(given)
        held.callback(session.close)
        tenant = session.require_tenant()
        whose = agent or _only_agent(session, tenant, name)
        decided = explain_gate(session.connection, tenant, whose, name, values)
        if dry_run:
            _show(decided, whose, chosen)
            return int(decided.refuses)
        if decided.refuses:
            if decided.decision == "invalid":
                takes = f"aosctl get skill {name} -o jsonpath='{{.spec.input}}' shows what it takes"
                raise InvalidInput(f"{name}: {decided.words}", takes)
            raise Denied(f"{name}: {decided.words}", "aosctl get skills -o wide")
        if chosen.is_table:
            output.note(f"gate: {decided.words} · agent {whose}", quiet=given.quiet)
        held.pop_all()  # whoever talks closes it
    return _call(given, session, whose, name, values, decider, chosen)


def _call(
    given: Globals,
    session: Session,
    agent: str,
    skill: str,
    args: Mapping[str, Any],
    decider: Decider | None,
    chosen: output.Output,
) -> int:
    """Have the agent make the call, in a task that is closed with its result."""
    from aosctl.cli.wiring import one_call

    model = one_call(skill, args)
    with talk.reporting(chosen) as report:
        access = talk.Access(given, session, agent, kind="task", provider_for=lambda _: model)
        conversation = access.open(None)
        status = talk.one_shot(given, access, conversation, f"skill test {skill}", decider, report)
    return status or int(model.ok is not True)


def _object(text: str) -> Mapping[str, Any]:
    """Return the arguments. Raises InvalidInput with the place where they are no JSON object."""
    import json
    import sys

    given = sys.stdin.read() if text == "-" else text
    try:
        value = json.loads(given)
    except ValueError as error:
        raise InvalidInput(f"--args is no JSON: {error}", _HINT) from None
    if not isinstance(value, dict):
        raise InvalidInput("--args is no JSON object", _HINT)
    return value


def _only_agent(session: Session, tenant: UUID, skill: str) -> str:
    """Return the agent that may use the skill, where there is one alone. Raises NotFound."""
    from aosctl.db.skills import agents_with

    names = agents_with(session.connection, tenant, skill)
    if len(names) == 1:
        return names[0]
    if names:
        listed = ", ".join(names)
        raise InvalidInput(f'several agents may use "{skill}": {listed}', f"--agent {names[0]}")
    raise NotFound(f'no agent may use a skill "{skill}"', "aosctl get skills -o wide")


def _show(decided: Decision, agent: str, chosen: output.Output) -> None:
    if chosen.format == "json":
        output.write_json({"agent": agent, **decided.to_json()})
        return
    output.write(f"{decided.decision}\n")
    for reason in decided.reasons:
        output.write(f"  {reason}\n")
    if decided.deciders:
        output.write(f"  decided by: {', '.join(decided.deciders)}\n")
