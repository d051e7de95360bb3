"""What psql's users type by reflex: what stands here in the place of a command that is not here."""

from __future__ import annotations

from aosctl.errors import UsageError
from aosctl.terminal import clean

_EDITOR = "Ctrl-G opens what is typed in your editor"
_FILE = "aosctl shell -c '\\sql STATEMENT' > FILE writes an answer to a file"
_TYPED = "Ctrl-C clears what is typed, Up and Ctrl-R bring back what was typed before"
_ELSEWHERE = "at the shell's prompt: use context NAME, or use tenant NAME"
_SELF = "aosctl db psql opens psql itself"
_INSTEAD = {
    "!": "at the shell's prompt: !COMMAND",
    "c": _ELSEWHERE,
    "connect": _ELSEWHERE,
    "conninfo": "at the shell's prompt: whoami",
    "e": _EDITOR,
    "edit": _EDITOR,
    "ef": _EDITOR,
    "ev": _EDITOR,
    "h": "https://www.postgresql.org/docs/current/sql-commands.html",
    "help": "\\? lists what there is",
    "o": _FILE,
    "out": _FILE,
    "w": _FILE,
    "write": _FILE,
    "p": _TYPED,
    "print": _TYPED,
    "s": _TYPED,
    "watch": "at the shell's prompt: get KIND -w, ps -w, top and events -w follow what changes",
    "z": "\\d NAME shows a table's policies; auth can-i, at the shell's prompt, what you may",
    "dp": "\\d NAME shows a table's policies; auth can-i, at the shell's prompt, what you may",
}
_PSQLS = """
a bind cd copy copyright crosstabview dA dAc dAf dAo dAp da db dC dc dconfig dD dd ddp dE de
deS des det deu dew dF dFd dFp dFt dG dL dl dO do dP dPi dPt dRp dRs drds drg dS dT dX dx dy
echo elif else encoding endif errverbose f g gdesc getenv gexec gset H html if include ir
include_relative lo_export lo_import lo_list lo_unlink parse password prompt pset qecho
set setenv sf sv T t unset warn
"""


def not_here(command: str) -> UsageError:
    r"""Return what to say of a command, `\word`, that there is not: what to type instead."""
    word = command.removeprefix("\\").removesuffix("+")
    if instead := _INSTEAD.get(word):
        return UsageError(f"psql's \\{word} is not here", instead)
    if word in _PSQLS.split():
        return UsageError(f"psql's \\{word} is not here", f"\\? lists what is; {_SELF}")
    return UsageError(f"no such command: {clean(command)}", "\\? lists what there is")
