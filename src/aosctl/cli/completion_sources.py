"""Where the values of arguments and flags come from, told from how their help writes them.

`completing` reads these: `agent` names agents, `names:…` a kind and then its names, `kind:…` a
kind, `words:a,b` is one of a few, `context` is of the config file. A `*` says that more follow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from typer._click import Parameter
from typer.core import TyperArgument, TyperOption

from aosctl.cli.completion import SHELLS
from aosctl.domain.inventory import READABLE
from aosctl.domain.kinds.principal import ROLES

_NAMED = {
    "AGENT": "agent",
    "RUN": "run",
    "ID": "approval",
    "PRINCIPAL": "principal",
    "TENANT": "tenant",
    "ROLE": f"words:{','.join(ROLES)}",
    "SHELL": f"words:{','.join(SHELLS)}",
}
_BY_HELP = {
    "Name of a context": "context",
    "Only these contexts": "context",
    "The tenant": "tenant",
}
_LISTED = ("FORMAT", "SIGNAL", "VERB", "TYPE")
"""What is one of the words that the help lists."""


def argument_sources(params: Sequence[Parameter]) -> tuple[str, ...]:
    """Return where the arguments of a command come from; what is not known ends the list."""
    found: list[str] = []
    for param in params:
        if isinstance(param, TyperArgument) and not param.hidden:
            source = _source(param.metavar or "", param.help or "")
            if not source:
                break
            found.append(source)
    return tuple(found)


def value_source(param: TyperOption) -> str:
    """Return where the value of a flag comes from; nothing where that is not known."""
    if "--context" in param.opts:
        return "context"
    return _source(param.metavar or "", param.help or "").removesuffix("*")


def _source(metavar: str, text: str) -> str:
    repeated = "*" if "…" in metavar else ""
    kinds = ",".join(sorted(kind.plural for kind in READABLE))
    if re.match(r"\[?KIND", metavar):
        return f"names:{kinds}*" if "NAME" in metavar else f"kind:{kinds}"
    if re.fullmatch(r"[a-z]+(\|[a-z]+)+", metavar):
        return f"words:{metavar.replace('|', ',')}"
    word = re.match(r"\[?([A-Z]+)", metavar)
    if word is None:
        return ""
    if word[1] in _LISTED:
        listed = [
            one for one in re.split(r", or |, | or ", text) if re.fullmatch(r"[\w-]+=?…?", one)
        ]
        return f"words:{','.join(one.rstrip('…') for one in listed)}" if listed else ""
    return (_BY_HELP.get(text) or _NAMED.get(word[1], "")) + repeated
