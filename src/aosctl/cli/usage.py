"""kubectl's words for a command line that can't be read."""

from __future__ import annotations

import re
from collections.abc import Iterable

from typer._click.exceptions import (
    BadOptionUsage,
    BadParameter,
    ClickException,
    MissingParameter,
    NoSuchOption,
)
from typer._click.exceptions import UsageError as ClickUsageError

_NEAR = 2
ELSEWHERE = {
    "ask": "chat AGENT -p PROMPT, run AGENT TASK",
    "cancel": "kill RUN",
    "cat": "get KIND NAME -o yaml",
    "cluster-info": "whoami, version, doctor",
    "exec": "chat AGENT, run AGENT TASK",
    "history": "logs RUN, rollout history persona/NAME",
    "images": "get models",
    "info": "whoami, version, doctor",
    "init": "quickstart, db install",
    "inspect": "get KIND NAME -o yaml, describe KIND NAME",
    "install": "quickstart, db install",
    "list": "get KIND, ps",
    "login": "config set-context NAME",
    "ls": "get KIND, ps",
    "models": "get models",
    "new": "create KIND",
    "pause": "kill -s STOP RUN",
    "psql": "db psql, shell",
    "remove": "delete KIND NAME",
    "restart": "resume RUN, fork RUN",
    "rm": "delete KIND NAME",
    "rmi": "delete model NAME",
    "set": "patch KIND NAME, config set-context NAME",
    "show": "describe KIND NAME, get KIND NAME -o yaml",
    "sql": "shell, db psql",
    "start": "run AGENT TASK, db start",
    "stats": "top, cost",
    "status": "ps, db status, doctor",
    "stop": "kill RUN, kill -s STOP RUN, db stop",
    "tail": "logs -f RUN, attach RUN",
    "undo": "rollout undo persona/NAME",
    "unpause": "resume RUN",
    "update": "apply -f FILE, edit KIND NAME",
    "upgrade": "db upgrade",
    "use": "config use-context NAME",
    "use-context": "config use-context NAME",
    "watch": "get KIND -w, top",
}
"""What docker, psql and others call it, and what it is here."""
_OTHERWISE = {
    "--follow": ("--watch",),
    "--watch": ("--follow",),
    "--last": ("--tail",),
    "--limit": ("--last", "--tail"),
    "--lines": ("--tail", "--last"),
    "--format": ("--output",),
    "--quiet": ("--output name",),
}
"""Flags of docker, journalctl and others, and what says the same here, where a command has it."""
_EVERYWHERE = ("-A", "--all-tenants", "--all-namespaces")
_EXTRA_ARGUMENTS = re.compile(r"Got unexpected extra arguments?(?:\(s\))? \((.*)\)", re.DOTALL)
_ABSENT = {
    "-k": "kustomize is not built in: kustomize build DIR | aosctl apply -f -",
    "--kustomize": "kustomize is not built in: kustomize build DIR | aosctl apply -f -",
    "--server-side": "a manifest's spec is whole, and the server merges nothing: leave it out",
    "--field-manager": "a manifest's spec is whole: its fields have no managers",
    "--force-conflicts": "fields have no managers, so nothing conflicts but a generation",
    "--grace-period": "what is deleted is gone at once; a run is ended by aosctl kill -s TERM|KILL",
    "--chunk-size": "a list is read as one snapshot, in one piece",
}
"""Flags of kubectl that have no meaning here, and why."""


def unknown_command(typed: str, path: str, known: Iterable[str]) -> str:
    """Return kubectl's text for a verb that does not exist, with the verbs it may have meant."""
    known = list(known)
    near = [name for name in known if _is_near(typed.lower(), name)]
    near += [n for n in known if n not in near and typed and n.startswith(typed.lower())]
    if path == "aosctl" and typed.lower() in ELSEWHERE:
        near = ELSEWHERE[typed.lower()].split(", ")
    text = f'unknown command "{typed}" for "{path}"'
    if near:
        return text + "\n\nDid you mean this?\n" + "\n".join(f"\t{name}" for name in near)
    return f"{text}\nSee '{path} --help' for usage."


def _is_near(typed: str, name: str) -> bool:
    """Tell whether a word may be a slip of the fingers: not when half of it is something else."""
    distance = _distance(typed, name)
    swapped = sorted(typed) == sorted(name)
    return distance <= _NEAR and (swapped or 2 * distance <= len(typed))


def explain(error: ClickException) -> str:
    """Return what is wrong with the command line and where its usage stands."""
    text = _describe(error)
    if isinstance(error, ClickUsageError) and error.ctx is not None:
        text += f"\nSee '{error.ctx.command_path} --help' for usage."
    return text


def _describe(error: ClickException) -> str:
    if isinstance(error, NoSuchOption):
        return _unknown_flag(error)
    if isinstance(error, BadOptionUsage):
        if "does not take a value" in error.message:
            return f"flag takes no value: {error.option_name}"
        return f"flag needs an argument: {_shorthand(error.option_name)}"
    if isinstance(error, MissingParameter) and error.param is not None:
        if error.param.param_type_name == "argument":
            return f"missing argument: {error.param.make_metavar(ctx=error.ctx)}"  # type: ignore[arg-type]
        return f"required flag not set: {error.param.opts[-1]}"
    if isinstance(error, BadParameter) and error.param is not None:
        name = error.param.human_readable_name
        name = error.param.opts[-1] if error.param.param_type_name == "option" else name
        return f"invalid value for {name}: {error.message.rstrip('.')}"
    text = error.format_message().rstrip(".")
    extra = _EXTRA_ARGUMENTS.fullmatch(text)
    return f"unexpected argument: {extra[1]}" if extra else text[:1].lower() + text[1:]


def _unknown_flag(error: NoSuchOption) -> str:
    name = error.option_name
    if name in _ABSENT:
        return f"{name} is not supported: {_ABSENT[name]}"
    context = error.ctx
    if name in _EVERYWHERE and context is not None:
        verb = context.command_path
        return f"{name} is not supported: {verb} works in one tenant, which -n chooses"
    if name.startswith("--"):
        text = f"unknown flag: {name}"
        params = context.command.params if context is not None else ()
        known = {spelling for param in params for spelling in param.opts}
        same = [flag for flag in _OTHERWISE.get(name, ()) if flag.partition(" ")[0] in known]
        if same:
            return f"{text}, did you mean {same[0]}?"
        near = min(
            sorted(error.possibilities or ()), key=lambda one: _distance(name, one), default=None
        )
        return f"{text}, did you mean {near}?" if near else text
    return f"unknown shorthand flag: {_shorthand(name)}"


def _shorthand(name: str) -> str:
    return name if name.startswith("--") else f"'{name.lstrip('-')}' in {name}"


def _distance(left: str, right: str) -> int:
    """Return the Levenshtein distance of two words."""
    row = list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        previous, row[0] = row[0], i
        for j, b in enumerate(right, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, previous + (a != b))
            previous, row[j] = row[j], cost
    return row[-1]
