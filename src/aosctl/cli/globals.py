"""The flags every verb takes, before or after its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import typer


class Globals(NamedTuple):
    """What the global flags said; `verb` is the command as typed, such as `config view`."""

    dsn: str | None = None
    context: str | None = None
    tenant: str | None = None
    debug: bool = False
    no_color: bool = False
    quiet: bool = False
    verb: str = ""


def globals_of(ctx: typer.Context) -> Globals:
    """Return the global flags of the running command."""
    found = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
    return found._replace(verb=ctx.command_path.partition(" ")[2])
