"""What a shell asks on TAB: `aosctl __complete SOURCES VALUES DEPTH CURRENT WORDS…`.

The scripts of `completions/` know verbs and flags; names they have from here, a candidate a line.
Nothing is connected, imported or said that TAB would have to wait for.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
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
    source = sources[1:] if sources.startswith("=") else _source(sources.split(), len(typed.words))
    found = dict.fromkeys(one for one in _candidates(source, current, typed))
    return [one for one in found if one.startswith(current) and one.isprintable()]


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


def _source(sources: Sequence[str], place: int) -> str:
    """Return what stands at a place: the last source counts for all after it if it has a `*`."""
    if place < len(sources):
        return sources[place].removesuffix("*")
    return sources[-1][:-1] if sources and sources[-1].endswith("*") else ""


def _candidates(source: str, current: str, typed: Typed) -> Iterator[str]:
    name, _, choices = source.partition(":")
    if name == "context":
        yield from _contexts()
    elif name == "words":
        yield from choices.split(",")
    elif name == "names" and typed.words and "/" not in typed.words[0]:
        yield from _names(typed, typed.words[0])
    elif "/" in current:
        kind = current.partition("/")[0]
        yield from (f"{kind}/{one}" for one in _names(typed, kind))
    elif name in ("names", "kind"):
        yield from choices.split(",")
    elif name:
        yield from _names(typed, name)


def _names(typed: Typed, kind: str) -> Iterator[str]:
    from aosctl.name_cache import recall

    target = _target(typed)
    if target is None:
        return
    word = kind.lower().removesuffix(".aos")
    for words, names in recall(target, os.environ).items():
        if word in words:
            yield from names


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
