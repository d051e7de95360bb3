"""`aosctl run`: one task for an agent, in the foreground."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output, talk
from aosctl.cli.conflicts import refuse
from aosctl.cli.globals import globals_of
from aosctl.cli.manner import Attach, Manner, NoStream, RawOutput, System
from aosctl.errors import AosError, UsageError

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.db.new_runs import Caps
    from aosctl.messages import Message


def command(
    ctx: typer.Context,
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Agent to work on it")],
    task: Annotated[
        list[str] | None,
        typer.Argument(metavar="[TASK]", help="What to do; stdin is appended, - is stdin alone"),
    ] = None,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Name of the run")
    ] = None,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait for approvals; off a terminal the run is parked else"),
    ] = False,
    detach: Annotated[
        bool, typer.Option("-d", "--detach", help="Queue it for a worker, and print its name")
    ] = False,
    output_format: Annotated[
        str | None,
        typer.Option("-o", "--output", metavar="FORMAT", help="json|stream-json; name with -d"),
    ] = None,
    approve: talk.Approve = "ask",
    budget: talk.Budget = None,
    max_steps: talk.MaxSteps = None,
    max_turns: talk.MaxTurns = None,
    model: talk.Model = None,
    output_schema: talk.OutputSchemaFile = None,
    system: System = None,
    no_stream: NoStream = False,
    raw_output: RawOutput = False,
    attach: Attach = None,
) -> int:
    """Give an agent one task and wait for the answer.

    The run is closed with its answer. One that was parked for an approval goes on when that is
    decided, in `aosctl worker` or `aosctl chat --resume RUN`, and is closed then. The answer alone
    goes to stdout; the exit status is that of `aosctl chat AGENT MESSAGE`. With --detach a
    running `aosctl worker` takes it up.

    Examples:
      aosctl run my_pg_bot "Which products are out of stock?"

      aosctl run my_pg_bot "What is wrong with this plan?" --attach plan.png

      # Parked with exit status 3 when an approval is needed; or wait for it
      aosctl run my_pg_bot --wait "delete from orders where status = 'cancelled'"

      # A line of JSON for each thing that happens, the last one of type "result"
      aosctl run my_pg_bot --approve=never "Which orders are open?" -o stream-json

      aosctl attach $(aosctl run my_pg_bot -d "Which indexes are unused?" -o name)
    """
    given = globals_of(ctx)
    if agent.count("/") == 1:
        from aosctl.cli.schedule import is_word

        word, _, schedule = agent.partition("/")
        if is_word(word):
            hint = f"aosctl schedule run {schedule} begins a run of it"
            raise UsageError(f"{agent} is a schedule, and no agent", hint)
    formats: tuple[output.Format, ...] = ("name",) if detach else ("json", "stream-json")
    chosen = output.parse_output(output_format, allowed=formats)
    with talk.reporting(chosen) as report:
        refuse(ctx)
        manner = Manner(system, no_stream, raw_output, attach=tuple(attach or ()))
        manner.check()
        decider = talk.decider_of(approve, wait=wait)
        caps = talk.caps_of(budget, max_steps, max_turns, model)
        schema = talk.schema_of(output_schema)
        text = talk.message_of(list(task or []))
        if not text:
            raise UsageError("no task: the command line has none, and stdin is empty")
        if detach:
            return _detached(given, agent, name, manner.said(text), chosen, caps, system)
        access = _access(given, agent, name, caps, system)
        conversation = access.open(None)
        return talk.one_shot(given, access, conversation, text, decider, report, schema, manner)


def _access(
    given: Globals, agent: str, name: str | None, caps: Caps | None, system: str | None
) -> talk.Access:
    """Connect, for a task of this agent. Raises NotFound."""
    from aosctl.cli.wiring import session_of
    from aosctl.domain.agents import find_agent

    session = session_of(given)
    try:
        found = find_agent(session.connection, session.require_tenant(), agent)
    except AosError:
        session.close()
        raise
    return talk.Access(given, session, found.name, kind="task", name=name, caps=caps, system=system)


def _detached(
    given: Globals,
    agent: str,
    name: str | None,
    said: str | Message,
    chosen: output.Output,
    caps: Caps | None,
    system: str | None,
) -> int:
    """Leave the task to a worker; print the name of its run."""
    from aosctl.cli.wiring import quick_session_of, remember_names
    from aosctl.db.new_runs import begin_task
    from aosctl.messages import instructed, user

    begun = instructed(user(said) if isinstance(said, str) else said, system)
    message = begun.sanitised().to_json()
    with closing(quick_session_of(given)) as session:
        tenant = session.require_tenant()
        made = begin_task(session.connection, tenant, agent, name, message, caps)
    remember_names(given, ("run", "runs"), [made], whole=False)
    if chosen.format == "name":
        output.write(f"run.aos/{made}\n")
        return 0
    output.write(f"run.aos/{made} created\n")
    hint = f"a worker takes it up; aosctl attach {made}, or aosctl worker where none runs"
    output.note(hint, quiet=given.quiet)
    return 0
