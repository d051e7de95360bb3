"""What a shell asks on TAB: `aosctl __complete SOURCES VALUES DEPTH CURRENT WORDS…`.

The scripts of `completions/` know verbs and flags; names they have from here, a candidate a line.
Nothing is connected, imported or said that TAB would have to wait for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aosctl.config import Target

_FLAGS = {
    "--dsn": "dsn",
    "--context": "context",
    "-n": "tenant",
    "--tenant": "tenant",
    "--namespace": "tenant",
}
_CONTEXT = re.compile(r"[A-Za-z0-9_.@+-]+")


class Typed(NamedTuple):
    """What stands before the cursor: the words that are no flags, and the global flags."""

    words: list[str]
    dsn: str | None = None
    context: str | None = None
    tenant: str | None = None


def answer(arguments: Sequence[str]) -> int:
    """Print the candidates for the word at the cursor; nothing for what is not understood."""
    if len(arguments) < 4:
        return 0
    sources, values, depth, current, *words = arguments
    typed = typed_of(words, frozenset(values.split()), int(depth) if depth.isdigit() else 0)
    if sys.stdout is not None:
        sys.stdout.write("".join(f"{one}\n" for one in candidates(sources, current, typed)))
    return 0


def candidates(sources: str, current: str, typed: Typed) -> list[str]:
    """Return what may stand at the cursor; `sources` as `completion_sources` has them, or `=` one.

    Each of them begins with `current`.
    """
    source, several = sources[1:], False
    if not sources.startswith("="):
        source, several = _source(sources.split(), len(typed.words))
    found = dict.fromkeys(_candidates(source, current, typed))
    given = typed.words if several else ()
    return [
        one for one in found if one.startswith(current) and one.isprintable() and one not in given
    ]


def typed_of(words: Sequence[str], values: frozenset[str], depth: int) -> Typed:
    """Take flags and their values away; the first `depth` words are the command itself."""
    left: list[str] = []
    given: dict[str, str] = {}
    flag = ""
    for word in words:
        if word == "=" and flag:  # bash takes --flag=value apart
            continue
        if flag:
            given[_FLAGS.get(flag, "")] = word
            flag = ""
        elif word in values:
            flag = word
        elif word.startswith("-"):
            name, is_given, value = word.partition("=")
            if is_given:
                given[_FLAGS.get(name, "")] = value
        else:
            left.append(word)
    given.pop("", None)
    return Typed(left[depth:], **given)


def _source(sources: Sequence[str], place: int) -> tuple[str, bool]:
    """Return what stands at a place, and whether more of it may follow.

    The last source counts for all after it if it has a `*`.
    """
    source = sources[min(place, len(sources) - 1)] if sources else ""
    if source.endswith("*"):
        return source[:-1], True
    return (source, False) if place < len(sources) else ("", False)


def _candidates(source: str, current: str, typed: Typed) -> Iterator[str]:
    name, _, choices = source.partition(":")
    if name == "context":
        yield from _contexts()
    elif name == "words":
        yield from choices.split(",")
    elif name == "list":
        yield from _listed(choices, current)
    elif name == "names" and typed.words and "/" not in typed.words[0]:
        yield from _names(typed, typed.words[0])
    elif "/" in current:
        kind = current.partition("/")[0]
        yield from (f"{kind}/{one}" for one in _names(typed, kind))
    elif name == "names":
        yield from _listed(choices, current)
    elif name == "kind":
        yield from choices.split(",")
    elif name == "slashed":
        yield from (f"{choices}/{one}" for one in _names(typed, choices))
    elif name:
        yield from _names(typed, name)


def _listed(choices: str, current: str) -> Iterator[str]:
    """Yield the choices for the last word of a list with commas."""
    before, comma, _ = current.rpartition(",")
    given = before.split(",")
    yield from (f"{before}{comma}{one}" for one in choices.split(",") if one not in given)


def _names(typed: Typed, kind: str) -> Iterator[str]:
    from aosctl.name_cache import recall

    target = _target(typed)
    if target is None:
        return
    found = recall(target, os.environ)
    if not found and target.tenant:  # the only tenant that was seen needs not be named
        unnamed = recall(target._replace(tenant=None), os.environ)
        found = unnamed if _of(unnamed, "tenant") == [target.tenant] else {}
    yield from _of(found, kind)


def _of(found: Mapping[tuple[str, ...], list[str]], kind: str) -> list[str]:
    word = kind.lower().removesuffix(".aos")
    return [name for words, names in found.items() if word in words for name in names]


def _target(typed: Typed) -> Target | None:
    from aosctl.config import resolve_target
    from aosctl.errors import AosError

    try:
        return resolve_target(typed, os.environ)
    except AosError:
        return None


def _contexts() -> Iterator[str]:
    from aosctl.config import load
    from aosctl.errors import AosError

    try:
        names = [context.name for context in load(os.environ).contexts]
    except AosError:
        return
    yield from (name for name in names if _CONTEXT.fullmatch(name))
