"""What may stand at the cursor of the shell's prompt: the same as TAB knows outside of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from aosctl.cli.globals import Globals
from aosctl.cli.verbs import VERBS
from aosctl.repl.shell.completer import OWN
from aosctl.repl.shell.frame import Candidate

if TYPE_CHECKING:
    from aosctl.cli.completing import Typed
    from aosctl.cli.completion_scripts import Entry, Flag

_WITH_VALUE = frozenset({"--dsn", "--context", "-n", "--tenant", "--namespace"})


class Words:
    """Keeps the flags and arguments of the verbs that were asked for; each is imported once."""

    def __init__(self) -> None:
        self._known: dict[str, dict[tuple[str, ...], Entry]] = {}
        self._root: Entry | None = None

    def candidates(
        self, words: Sequence[str], current: str, given: Globals
    ) -> list[Candidate] | None:
        """Return what may stand after `words`, beginning with `current`; None for a path."""
        from aosctl.cli.completing import candidates, typed_of

        if words[:1] in (["help"], ["?"]):
            words = words[1:]
        if words[:1] == ["use"]:
            return _of_use(words[1:], current, given)
        entry = self._entry(words)
        flag = _open_flag(entry, words)
        flags = {spelling: one for one in entry.flags for spelling in one.spellings}
        name, is_value, value = current.partition("=")
        if is_value and name in flags:
            found = self.candidates([*words, name], value, given)
            return found and [Candidate(f"{name}={one.text}", one.about) for one in found]
        typed = typed_of(words, _with_values(entry), len(entry.words))
        typed = _held(typed, given)
        if flag is not None:
            if flag.is_file:
                return None
            return [Candidate(one) for one in candidates(f"={flag.source}", current, typed)]
        if current.startswith("-"):
            return [Candidate(s, f.help) for s, f in flags.items() if s.startswith(current)]
        if entry.commands:
            own = OWN.items() if not entry.words and not words else ()
            found = [Candidate(*one) for one in (*entry.commands, *own)]
            return sorted(one for one in found if one.text.startswith(current))
        if entry.sources == ("file",):
            return [] if typed.words else None
        return [Candidate(one) for one in candidates(" ".join(entry.sources), current, typed)]

    def _entry(self, words: Sequence[str]) -> Entry:
        """Return the command that the words begin with, as far down as they name one."""
        from aosctl.cli.completion_scripts import entries_of, root_entry

        self._root = self._root or root_entry()
        verb, _ = verb_of(words)
        if verb not in VERBS:
            return self._root
        if verb not in self._known:
            self._known[verb] = {entry.words: entry for entry in entries_of(verb)}
        found = self._known[verb][(verb,)]
        for word in words[list(words).index(verb) + 1 :]:
            found = self._known[verb].get((*found.words, word), found)
        return found


def verb_of(words: Sequence[str]) -> tuple[str, str]:
    """Return the verb of a line and the first word after it that is no flag, or nothing."""
    found: list[str] = []
    is_value = False
    for word in words:
        if is_value:
            is_value = False
        elif word.startswith("-"):
            is_value = word in _WITH_VALUE
        else:
            found.append(word)
    return (found[0] if found else ""), (found[1] if len(found) > 1 else "")


def _open_flag(entry: Entry, words: Sequence[str]) -> Flag | None:
    """Return the flag whose value stands at the cursor."""
    last = words[-1] if words else ""
    return next((f for f in entry.flags if f.takes_value and last in f.spellings), None)


def _with_values(entry: Entry) -> frozenset[str]:
    return frozenset(s for flag in entry.flags if flag.takes_value for s in flag.spellings)


def _held(typed: Typed, given: Globals) -> Typed:
    """Add the flags that hold for every line to those that are typed."""
    if typed.dsn or typed.context:
        return typed
    return typed._replace(dsn=given.dsn, context=given.context, tenant=typed.tenant or given.tenant)


def _of_use(words: Sequence[str], current: str, given: Globals) -> list[Candidate]:
    from aosctl.cli.completing import Typed, candidates

    source = {"tenant": "=tenant", "context": "=context"}.get(words[0] if words else "", "")
    if not words:
        source = "=words:context,tenant"
    typed = _held(Typed([]), given)
    return [Candidate(one) for one in candidates(source, current, typed)] if source else []
