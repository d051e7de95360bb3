"""The global flags as options that every command carries, so that one parser reads them all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from typer._click import Context, Parameter
from typer.core import TyperOption

from aosctl import request
from aosctl.cli.global_flags import SWITCHES, TEXTS
from aosctl.cli.globals import Globals


def global_options(taken: Iterable[Parameter] = (), *, hidden: bool = True) -> list[Parameter]:
    """Return the global options, less the spellings that the command uses for itself."""
    used = {spelling for parameter in taken for spelling in parameter.opts}
    options: list[Parameter] = []
    for field, spellings, metavar, text in TEXTS:
        if left := [s for s in spellings if s not in used]:
            options.append(_option(field, left, text, hidden, metavar=metavar))
    for field, spellings, text in SWITCHES:
        if left := [s for s in spellings if s not in used]:
            options.append(_option(field, left, text, hidden, is_flag=True, default=False))
    return options


def _read(field: str, value: object) -> object:
    """Return what was typed as the flag means it. Raises UsageError."""
    if field not in ("timeout", "verbosity", "principal"):
        return value
    from aosctl.cli import request_flags

    if field == "principal":
        return request_flags.read_principal(str(value))
    read = request_flags.read_timeout if field == "timeout" else request_flags.read_verbosity
    return read(str(value))


def _option(field: str, spellings: list[str], text: str, hidden: bool, **extra: Any) -> TyperOption:
    def store(ctx: Context, _parameter: Parameter, value: object) -> object:
        if value is not None and value is not False:
            found = ctx.obj if isinstance(ctx.obj, Globals) else Globals()
            changed: dict[str, Any] = {field: _read(field, value)}
            ctx.obj = found._replace(**changed)
            request.use(ctx.obj.request)
        return value

    return TyperOption(
        # The first declaration is the parameter's own name, out of the way of a verb's.
        param_decls=[f"global_{field}", *spellings],
        callback=store,
        expose_value=False,
        help=text,
        hidden=hidden,
        **extra,
    )
