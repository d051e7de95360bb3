"""Where the values of arguments and flags come from, told from how their help writes them.

`completing` reads these: `agent` names agents, `names:…` a kind and then its names, `kind:…` a
kind, `slashed:persona` a kind's names as persona/NAME, `words:a,b` is one of a few, `list:a,b`
several of them with commas, `context` is of the config file. A `*` says that more follow. `file`
is for the shell itself.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from typer._click import Parameter
from typer.core import TyperArgument, TyperOption

from aosctl.cli.completion import SHELLS
from aosctl.domain.event_kinds import FAMILIES as EVENT_FAMILIES
from aosctl.domain.event_kinds import KINDS as EVENT_KINDS
from aosctl.domain.inventory import READABLE
from aosctl.domain.kinds.principal import ROLES
from aosctl.domain.kinds.skill_words import BUILTINS
from aosctl.domain.run_filters import KEYS

_NAMED = {
    "AGENT": "agent",
    "RUN": "run",
    "ID": "approval",
    "PRINCIPAL": "principal",
    "TENANT": "tenant",
    "MODEL": "model",
    "PERSONA": "persona",
    "SKILL": "skill",
    "COLLECTION": "collection",
    "SCHEDULE": "schedule",
    "CRON": "words:@hourly,@daily,@weekly,@monthly,@yearly",
    "MEMORY": "memory",
    "FILE": "file",
    "DIR": "file",
    "ROLE": f"words:{','.join(ROLES)}",
    "SHELL": f"words:{','.join(SHELLS)}",
}
_BY_HELP = {
    "Name of a context": "context",
    "Only these contexts": "context",
    "Name of a context, new or not": "context",
    "The tenant": "tenant",
    "What the service calls it": "",
    "Only these: approval, turn.failed, …": f"list:{','.join((*EVENT_FAMILIES, *EVENT_KINDS))}",
    "What it does: sql_query, rag_search, …": f"words:{','.join(BUILTINS)}",
    "Only such runs: state=limited, agent=…": f"words:{','.join(f'{key}=' for key in KEYS)}",
}
_LISTED = ("FORMAT", "SIGNAL", "VERB", "TYPE", "WORD", "KEY", "LEVEL", "PROVIDER", "WHAT")
"""What is one of the words that the help lists."""
_AROUND = re.compile(r" \([^)]*\)|\[[^]]*\]")
_BETWEEN = re.compile(r"[|;:]|, or |, | or ")


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
    if text in _BY_HELP:
        return _BY_HELP[text] and _BY_HELP[text] + repeated
    kinds = ",".join(sorted(kind.plural for kind in READABLE))
    if re.match(r"\[?KIND", metavar):
        return f"names:{kinds}*" if "NAME" in metavar else f"kind:{kinds}"
    if re.fullmatch(r"\[?[a-z]+(\|[a-z]+)+\]?", metavar):
        return f"words:{metavar.strip('[]').replace('|', ',')}"
    if slashed := re.match(r"([a-z]+)/NAME", metavar):
        return f"slashed:{slashed[1]}{repeated}"
    word = re.match(r"\[?([A-Z]+)", metavar)
    if word is None:
        return ""
    if word[1] == "RULE":
        return f"list:{','.join(_rules())}"
    if word[1] in _LISTED:
        return _listed(word[1], text, repeated)
    return _NAMED.get(word[1], "") + repeated


def _rules() -> list[str]:
    from aosctl.db.doctor.check import RULES

    return sorted(rule.id for rule in RULES)


def _listed(metavar: str, text: str, repeated: str) -> str:
    """Return the words that a help text lists; of a text that has only one, none is meant."""
    parts = [one.strip() for one in _BETWEEN.split(_AROUND.sub("", text))]
    listed = [one for one in parts if re.fullmatch(r"[a-zA-Z][\w-]*(=[A-Z]*)?…?", one)]
    if not listed or (len(listed) == 1 and metavar != "FORMAT"):
        return ""
    words = [re.sub(r"(?<==)[A-Z]+", "", one.rstrip("…")) for one in listed]
    return f"{'list' if repeated else 'words'}:{','.join(words)}"
