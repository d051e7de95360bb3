"""`aosctl memory get` and `search`, and how entries are printed."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aosctl.cli import output
from aosctl.cli.flags import NoHeaders, OutputText
from aosctl.cli.globals import globals_of
from aosctl.domain.names import printable, quoted
from aosctl.errors import NotFound, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from aosctl.cli.globals import Globals
    from aosctl.db.memories import MemoryRow, Of
    from aosctl.db.rows import AnySession

TYPES = ("fact", "preference", "episode", "instruction")
_VALUE_WIDTH = 60
_WORDS = ("memory", "memories")

Agent = Annotated[str | None, typer.Option("--agent", metavar="AGENT", help="Of this agent")]
Principal = Annotated[
    str | None,
    typer.Option("--principal", metavar="PRINCIPAL", help="What is remembered of this person"),
]
Run = Annotated[
    str | None, typer.Option("--run", metavar="RUN", help="What is remembered in this run alone")
]
Type = Annotated[
    str | None,
    typer.Option("--type", metavar="TYPE", help="fact, preference, episode, instruction"),
]


def get(
    ctx: typer.Context,
    key: Annotated[str | None, typer.Argument(metavar="[MEMORY]", show_default=False)] = None,
    agent: Agent = None,
    principal: Principal = None,
    run: Run = None,
    kind: Type = None,
    output_format: OutputText = None,
    no_headers: NoHeaders = False,
) -> None:
    """List what is remembered, all that you may see or what stands under a key.

    Several entries have one key where agents remember it of several people or runs. -o wide shows
    who wrote what, and which of it came after words of strangers had been read.

    Examples:
      aosctl memory get
      aosctl memory get favourite_db --agent my_pg_bot -o jsonpath={.spec.value}
      aosctl memory get --principal alice -o yaml
    """
    chosen = output.parse_output(output_format)
    check_type(kind)
    from aosctl.cli.wiring import quick_session_of
    from aosctl.db import memories

    given = globals_of(ctx)
    with closing(quick_session_of(given)) as session:
        tenant = session.require_tenant()
        whose = of(session, tenant, agent, principal, run, kind)
        rows = memories.memories(session.connection, tenant, whose, key)
    if key is not None and not rows:
        raise NotFound(f"memory {quoted(key)} not found", "aosctl memory get lists what there is")
    is_all = key is None and whose == memories.Of()
    remember_keys(given, [row.key for row in rows], whole=is_all)
    show(given, rows, chosen, session.tenant, headers=not no_headers, single=key is not None)


def search(
    ctx: typer.Context,
    query: Annotated[list[str], typer.Argument(metavar="QUERY…", help="In plain words")],
    agent: Agent = None,
    principal: Principal = None,
    run: Run = None,
    kind: Type = None,
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", help="At most so many", min=1, max=1000)
    ] = 20,
    output_format: OutputText = None,
    no_headers: NoHeaders = False,
) -> None:
    """Search what is remembered for a question in plain words, the best matches first.

    Entries rank as they do for agents: by how well they match, their importance and their age.

    Examples:
      aosctl memory search which database holds the orders
      aosctl memory search refunds --agent my_pg_bot --type instruction
    """
    chosen = output.parse_output(output_format)
    check_type(kind)
    from aosctl.cli.wiring import quick_session_of
    from aosctl.db import memories

    given = globals_of(ctx)
    with closing(quick_session_of(given)) as session:
        tenant = session.require_tenant()
        whose = of(session, tenant, agent, principal, run, kind)
        rows = memories.search(session.connection, tenant, " ".join(query), whose, limit)
    remember_keys(given, [row.key for row in rows], whole=False)
    show(given, rows, chosen, session.tenant, headers=not no_headers)


def of(
    session: AnySession,
    tenant: UUID,
    agent: str | None,
    principal: str | None,
    run: str | None,
    kind: str | None,
) -> Of:
    """Return whose memory the flags mean. Raises AosError."""
    from aosctl.db.memories import Of
    from aosctl.db.runs import find_run

    run_id = find_run(session.connection, tenant, run).run_id if run else None
    return Of(agent, principal, run_id, kind)


def check_type(kind: str | None) -> None:
    """Raise UsageError for a type of memory that there is none of."""
    if kind is not None and kind not in TYPES:
        raise UsageError(f'there is no type "{kind}"', f"--type is {', '.join(TYPES)}")


def show(
    given: Globals,
    rows: Sequence[MemoryRow],
    chosen: output.Output,
    tenant: str | None,
    *,
    headers: bool,
    single: bool = False,
) -> None:
    """Print entries as -o says."""
    if chosen.format == "name":
        output.write("".join(f"{shown(row.key)}\n" for row in rows))
    elif not chosen.is_table:
        single = single and len(rows) == 1
        resources = [as_resource(row) for row in rows]
        output.write_objects(resources, chosen, single=single, show_headers=headers)
    elif rows:
        _write(rows, headers=headers, wide=chosen.format == "wide")
    else:
        from aosctl.cli.resource_table import note_none

        note_none(tenant, quiet=given.quiet)


def _write(rows: Sequence[MemoryRow], *, headers: bool, wide: bool) -> None:
    from aosctl.cli import table
    from aosctl.repl.words import shorten

    names = ["KEY", "AGENT", "OF", "TYPE", "IMPORTANCE", "VALUE", "EXPIRES", "AGE"]
    names += ["PINNED", "WRITTEN-BY", "UNTRUSTED"] if wide else []
    lines = []
    for row in rows:
        line: list[object] = [
            row.key,
            row.agent,
            row.principal or (f"run/{row.run}" if row.run else None),
            row.type,
            f"{row.importance:g}",
            shorten(value_text(row.value), _VALUE_WIDTH),
            table.time_left(row.expires_at) if row.expires_at else None,
            table.age(row.updated_at),
        ]
        line += [str(row.is_pinned).lower(), row.written_by, row.taint] if wide else []
        lines.append(line)
    table.write_table(names, lines, show_headers=headers)


def shown(key: str) -> str:
    """Return `memory.aos/KEY` on one line, safe for a terminal."""
    return f"memory.aos/{printable(key)}"


def value_text(value: Any) -> str:
    """Return a value as a person reads it: a text as it is, anything else as JSON."""
    import json

    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def as_resource(row: MemoryRow) -> dict[str, object]:
    """Return an entry in the form of a manifest."""
    optional = {
        "principal": row.principal,
        "run": row.run,
        "expiresAt": row.expires_at,
        "untrusted": row.taint,
    }
    return {
        "apiVersion": "aos/v1",
        "kind": "Memory",
        "metadata": {"name": row.key, "uid": row.memory_id, "creationTimestamp": row.created_at},
        "spec": {
            "agent": row.agent,
            "scope": row.scope,
            "type": row.type,
            "importance": row.importance,
            "pinned": row.is_pinned,
            "value": row.value,
            "writtenBy": row.written_by,
            "updatedAt": row.updated_at,
            **{name: value for name, value in optional.items() if value is not None},
        },
    }


def remember_keys(given: Globals, keys: Iterable[str], *, whole: bool) -> None:
    """Keep keys for completion."""
    from aosctl.cli.wiring import remember_names

    remember_names(given, _WORDS, keys, whole=whole)


def forget_names(given: Globals, keys: Iterable[str]) -> None:
    """Have completion offer forgotten keys no more."""
    import os

    from aosctl.cli.wiring import remember_names, target_of
    from aosctl.name_cache import recall

    gone = set(keys)
    kept = recall(target_of(given), os.environ).get(_WORDS, [])
    remember_names(given, _WORDS, [key for key in kept if key not in gone])
