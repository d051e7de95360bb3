"""A name without its kind: `describe my_pg_bot`, `logs my_pg_bot`. What there is of that name."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

from aosctl.cli.globals import Globals
from aosctl.errors import AosError, NotFound, UnknownKind

if TYPE_CHECKING:
    from typer._click import Context


def explained(error: AosError, ctx: Context) -> AosError:
    """Return an error about a kind, or a run, with what there is of the name that was typed."""
    verb = str(ctx.info_name)
    given: dict[str, Any] = ctx.params
    if isinstance(error, UnknownKind) and given.get("words"):
        words = given["words"]
        found = [] if "/" in words[0] else _kinds_of(ctx, words[0])
        if found:
            hint = ", or ".join(f"aosctl {verb} {kind}/{words[0]}" for kind in found)
            return UnknownKind(error.message.partition("; did you mean")[0], hint)
    elif verb == "logs":
        for name in given["targets"] or ():
            if f'"{name}"' in error.message and "agent" in _kinds_of(ctx, name):
                return NotFound(error.message, f"it is an agent: aosctl logs agent/{name}")
    return error


def _kinds_of(ctx: Context, name: str) -> list[str]:
    """Return the kinds that have this name; none where no database answers, or is started."""
    from aosctl.cli.wiring import quick_session_of, target_of
    from aosctl.domain import inventory

    given = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
    try:
        if target_of(given).dsn is None:
            from aosctl.db import embedded

            if embedded.status().server is None:
                return []
        with closing(quick_session_of(given)) as session:
            tenant = session.require_tenant()
            return [
                kind.singular
                for kind in inventory.READABLE
                if name in inventory.known_names(session.connection, kind, tenant)
            ]
    except AosError:
        return []
