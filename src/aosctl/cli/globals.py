"""The flags every verb takes, before or after its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from aosctl.request import Request

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
    no_input: bool = False
    verbosity: int = 0
    timeout: float = 0.0
    principal: str | None = None

    @property
    def request(self) -> Request:
        """Return what of it whoever opens a connection has to know."""
        return Request(self.verbosity, self.timeout, self.principal, self.no_input)

    @property
    def flags(self) -> list[str]:
        """Return the flags that another process of ours is given, but for what it connects to."""
        switches = (
            ("-q", self.quiet),
            ("--debug", self.debug),
            ("--no-color", self.no_color),
            ("--no-input", self.no_input),
            (f"-v={self.verbosity}", self.verbosity),
            (f"--request-timeout={round(self.timeout * 1000)}ms", self.timeout),
            (f"--as={self.principal}", self.principal),
        )
        return [flag for flag, is_given in switches if is_given]


def globals_of(ctx: typer.Context) -> Globals:
    """Return the global flags of the running command."""
    found = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
    return found._replace(verb=ctx.command_path.partition(" ")[2])
