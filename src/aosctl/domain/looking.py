"""What a person types to look through an agent's eyes."""

from __future__ import annotations

from aosctl.db import look_queries
from aosctl.db.look_queries import CATALOG as CATALOG
from aosctl.errors import UsageError

_KINDS = {"\\d": "{r,p,f,v,m}", "\\dt": "{r,p,f}", "\\dv": "{v,m}"}


def query_of(typed: str) -> str | None:
    r"""Return the statement that was typed, or that a `\` command stands for; None for help."""
    word, _, rest = typed.strip().partition(" ")
    rest = rest.strip()
    if not word.startswith("\\"):
        if not typed.strip():
            raise UsageError("which statement? /sql select …", "\\? lists what else there is")
        return typed
    word = word.removesuffix("+")
    name = rest.rstrip(";").strip()
    if word == "\\sql":
        return query_of(rest)
    if word == "\\?":
        return None
    if word == "\\dn":
        return look_queries.SCHEMAS
    if word == "\\d" and name:
        return look_queries.columns(name)
    if word in _KINDS:
        return look_queries.relations(_KINDS[word], name)
    raise UsageError(f"no such command: {word}", "\\? lists what there is")
