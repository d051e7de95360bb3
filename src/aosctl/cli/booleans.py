"""kubectl's `--watch=false`: a switch that is written with its value."""

from __future__ import annotations

from collections.abc import Sequence

from typer._click import Parameter
from typer.core import TyperOption

from aosctl.errors import UsageError

_VALUES = {
    **dict.fromkeys(("1", "t", "T", "true", "True", "TRUE"), True),
    **dict.fromkeys(("0", "f", "F", "false", "False", "FALSE"), False),
}
"""As Go's strconv.ParseBool reads them."""


def without_values(params: Sequence[Parameter], args: Sequence[str]) -> list[str]:
    """Return the arguments with each `--switch=VALUE` as the parser knows it.

    Of a switch that is set to what it is anyway nothing is left. Raises UsageError for a value
    that is neither true nor false.
    """
    if not any(arg.startswith("--") and "=" in arg for arg in args):
        return list(args)
    switches = {
        name: one
        for one in params
        if isinstance(one, TyperOption) and one.is_flag
        for name in one.opts
    }
    end = args.index("--") if "--" in args else len(args)
    kept: list[str] = []
    for arg in args[:end]:
        name, equals, text = arg.partition("=")
        if not equals or name not in switches:
            kept.append(arg)
            continue
        if text not in _VALUES:
            raise UsageError(f'invalid argument "{text}" for "{name}" flag: true or false')
        kept += _spelled(switches[name], name, value=_VALUES[text])
    return [*kept, *args[end:]]


def _spelled(switch: TyperOption, name: str, *, value: bool) -> list[str]:
    if value:
        return [name]
    return switch.secondary_opts[-1:]
