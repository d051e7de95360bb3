"""`aosctl memory`: what agents remember, to be read, set, searched and forgotten."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output
from aosctl.cli.flags import ChangedText
from aosctl.cli.globals import globals_of
from aosctl.cli.memory_reading import (
    Agent,
    Principal,
    Run,
    Type,
    check_type,
    forget_names,
    get,
    of,
    remember_keys,
    search,
    show,
    shown,
)
from aosctl.cli.piped import piped_text
from aosctl.domain.names import quoted
from aosctl.errors import InvalidInput, NotFound, UsageError

if TYPE_CHECKING:
    from uuid import UUID

    from aosctl.db.connection import Session

app = typer.Typer(
    help="""Read, set, search and forget what agents remember.

An agent remembers for all its runs, of one person (--principal), or for one run (--run).
What it remembers of a person, that person and the tenant's admins see and change; the rest
everybody in the tenant sees, and developers change.

Examples:
  aosctl memory get --agent my_pg_bot
  aosctl memory set favourite_db orders --agent my_pg_bot --type preference
  aosctl memory search "which database" --principal alice
  aosctl memory rm favourite_db --agent my_pg_bot""",
    rich_markup_mode=None,
)
app.command("get")(get)
app.command("search")(search)


@app.command("set")
def set_(
    ctx: typer.Context,
    key: Annotated[str, typer.Argument(metavar="MEMORY", help="A short name")],
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help="JSON, or text as it is; - is stdin")
    ],
    agent: Agent = None,
    principal: Principal = None,
    run: Run = None,
    kind: Type = None,
    importance: Annotated[
        float | None, typer.Option("--importance", metavar="N", help="0 to 1; 0.5 when absent")
    ] = None,
    expires: Annotated[
        str | None,
        typer.Option("--expires", metavar="TIME", help="Forget it after 30d, 12h, or on a date"),
    ] = None,
    pin: Annotated[
        bool, typer.Option("--pin", help="Have it in the agent's prompt, always")
    ] = False,
    output_format: ChangedText = None,
) -> None:
    """Have an agent remember something; what stands under the key is replaced as a whole.

    What the agent itself remembers counts up to an importance of 0.9. What is pinned stands in
    the prompt of every run that it is for, does not expire, and the agent can't replace it.
    Without --agent the tenant's only one is meant.

    Examples:
      aosctl memory set tone "brief, no emoji" --agent my_pg_bot --pin
      aosctl memory set budget '{"eur": 500}' --principal alice --expires 30d
      aosctl memory set open_question - --run my_pg_bot-x7k2p < question.txt
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    check_type(kind)
    said = piped_text() if value == "-" else value
    options: dict[str, Any] = {
        "type": kind, "importance": importance, "expires": expires, "pinned": pin or None,
    }  # fmt: skip
    from aosctl.cli.wiring import session_of
    from aosctl.db import memories

    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        tenant = session.require_tenant()
        whose = of(session, tenant, agent, principal, run, None)
        named = agent or (None if run else _only_agent(session, tenant))
        owner = {"principal": principal, "run": str(whose.run) if whose.run else None}
        written = {name: one for name, one in (options | owner).items() if one is not None}
        done = memories.set_memory(session.connection, tenant, named, key, _json(said), written)
        rows = memories.memories(session.connection, tenant, whose._replace(agent=named), key)
        rows = [row for row in rows if str(row.memory_id) == done["memory_id"]]
    remember_keys(given, [key], whole=False)
    if chosen.is_table:
        output.write(f"{shown(key)} {done['status']}\n")
    else:
        show(given, rows, chosen, session.tenant, headers=True, single=True)


@app.command("rm")
def rm(
    ctx: typer.Context,
    keys: Annotated[list[str] | None, typer.Argument(metavar="MEMORY…", show_default=False)] = None,
    agent: Agent = None,
    principal: Principal = None,
    run: Run = None,
    kind: Type = None,
    everything: Annotated[
        bool, typer.Option("--all", help="All that is remembered there, not single keys")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Forget without a question")] = False,
    output_format: ChangedText = None,
) -> None:
    """Forget: the rows are deleted, and no index keeps their words.

    Said is what was forgotten; the audit trail tells who forgot how many of whom, and neither
    keys nor values. --principal without --agent means what every agent remembers of that person.
    Transcripts are something else: `spec.retention` of the tenant takes their content.

    Examples:
      aosctl memory rm favourite_db --agent my_pg_bot
      aosctl memory rm --principal alice --all --yes
      aosctl memory rm --run my_pg_bot-x7k2p --all
      aosctl memory rm --agent my_pg_bot --type episode --all
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    check_type(kind)
    if not everything and not keys:
        raise UsageError(
            "name the keys to forget, or say --all", "aosctl memory get lists what there is"
        )
    from aosctl.cli.confirm import confirm
    from aosctl.cli.wiring import session_of
    from aosctl.db import memories

    given = globals_of(ctx)
    with closing(session_of(given)) as session:
        tenant = session.require_tenant()
        whose = of(session, tenant, agent, principal, run, kind)
        named = agent or (None if run or principal else _only_agent(session, tenant))
        if everything:
            word = principal or run or named or ""
            confirm(f"everything is forgotten that {_said(named, principal, run)}", word, yes=yes)
        of_whom = {"principal": principal, "run": str(whose.run) if whose.run else None}
        of_whom |= {"type": kind}
        gone = memories.remove_memories(
            session.connection, tenant, named, keys,
            {name: one for name, one in of_whom.items() if one is not None},
        )  # fmt: skip
    forget_names(given, [key for _, key in gone])
    missing = sorted(set(keys or ()) - {key for _, key in gone})
    if chosen.is_table or chosen.format == "name":
        word = "" if chosen.format == "name" else " removed"
        output.write("".join(f"{shown(key)}{word}\n" for _, key in gone))
    elif chosen.format == "json":
        output.write_json([{"agent": agent, "key": key} for agent, key in gone])
    else:
        output.write_yaml([{"agent": agent, "key": key} for agent, key in gone])
    if everything and not gone:
        output.note("nothing was remembered there", quiet=given.quiet)
    if missing:
        raise NotFound(
            f"memory {quoted(missing[0])} not found", "aosctl memory get lists what there is"
        )


def _said(agent: str | None, principal: str | None, run: str | None) -> str:
    if run:
        return f"run {run} remembers"
    who = f"agent {agent}" if agent else "every agent"
    return f"{who} remembers of {principal}" if principal else f"{who} remembers for all its runs"


def _json(text: str) -> Any:
    """Read JSON, or take a text as it is."""
    import json

    from aosctl.messages import sanitise_json

    try:
        return sanitise_json(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError):
        return sanitise_json(text)


def _refuse(constant: str) -> Any:
    raise ValueError(constant)


def _only_agent(session: Session, tenant: UUID) -> str:
    """Return the tenant's agent where there is one alone. Raises AosError."""
    from aosctl.db.memories import agents

    names = agents(session.connection, tenant)
    if len(names) == 1:
        return names[0]
    if names:
        listed = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise InvalidInput(f"there are several agents: {listed}", f"--agent {names[0]}")
    raise NotFound("there are no agents", "aosctl apply -f FILE")
