"""A name without its kind: `describe my_pg_bot`. What there is of that name."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from aosctl.cli.globals import Globals
from aosctl.errors import AosError, UnknownKind

if TYPE_CHECKING:
    from typer._click import Context


def explained(error: UnknownKind, ctx: Context) -> UnknownKind:
    """Return an error about a kind with what there is of the name that was typed."""
    words: list[str] = ctx.params.get("words") or []
    if not words or "/" in words[0]:
        return error
    found = [f"aosctl {ctx.info_name} {kind}/{words[0]}" for kind in _kinds_of(ctx, words[0])]
    if not found:
        return error
    return UnknownKind(error.message.partition("; did you mean")[0], ", or ".join(found))


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
