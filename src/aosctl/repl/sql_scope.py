"""Which tables a statement reads where the cursor stands: names, aliases, sub-queries, WITH."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aosctl.repl.sql_lexer import Token, tokens
from aosctl.repl.sql_words import RESERVED

_OPENERS = frozenset({"from", "join", "into", "update", "using"})
_BETWEEN = frozenset({"only", "lateral", "as"})


class Source(NamedTuple):
    """Something to read from; `called` is its alias, or its own name.

    `columns` is None for what the catalog knows, else what could be read from a sub-query.
    """

    schema: str | None
    name: str
    called: str
    columns: tuple[str, ...] | None = None


def statement_at(text: str, cursor: int) -> tuple[str, int]:
    """Return the statement that the cursor stands in, and the cursor's place there."""
    start = 0
    for token in tokens(text):
        if token.text == ";" and token.kind == "mark":
            if token.start >= cursor:
                return text[start : token.start], cursor - start
            start = token.end
    return text[start:], cursor - start


def sources_of(statement: str, at: int) -> list[Source]:
    """Return what the query around the cursor reads from, the innermost query's first."""
    known = with_queries(statement, at)
    found: dict[str, Source] = {}
    for query in _levels(statement, at):
        for source in _read(query):
            if source.schema is None and source.name in known and source.columns is None:
                source = source._replace(columns=known[source.name])
            found.setdefault(source.called, source)
    return list(found.values())


def with_queries(statement: str, at: int) -> dict[str, tuple[str, ...]]:
    """Return the names that WITH gives before the cursor, with the columns that can be told."""
    words = _meaningful(statement)
    if not words or words[0].low != "with":
        return {}
    found: dict[str, tuple[str, ...]] = {}
    index = 2 if len(words) > 1 and words[1].low == "recursive" else 1
    while index < len(words) and words[index].is_name:
        name = words[index].name
        index += 1
        named: tuple[str, ...] = ()
        if index < len(words) and words[index].text == "(":
            end = _closing(words, index)
            named = tuple(token.name for token in words[index + 1 : end] if token.is_name)
            index = end + 1
        while index < len(words) and words[index].low in ("as", "not", "materialized"):
            index += 1
        if index >= len(words) or words[index].text != "(":
            break
        end = _closing(words, index)
        if words[index].start < at <= _edge(words, end, statement):
            break  # it does not see itself
        found[name] = named or selected(words[index + 1 : end])
        index = end + 1
        if index >= len(words) or words[index].text != ",":
            break
        index += 1
    return found


def selected(query: list[Token]) -> tuple[str, ...]:
    """Return the names of what a query selects, as far as they stand there."""
    if not query or query[0].low != "select":
        return ()
    names: list[str] = []
    last: Token | None = None
    depth = 0
    for token in query[1:]:
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        if depth == 0 and (token.low == "from" or token.text == ","):
            if last is not None and last.is_name:
                names.append(last.name)
            last = None
            if token.low == "from":
                return tuple(names)
        elif depth == 0:
            last = token
    if last is not None and last.is_name:
        names.append(last.name)
    return tuple(names)


def _meaningful(text: str) -> list[Token]:
    return [token for token in tokens(text) if token.kind not in ("space", "comment")]


def _levels(statement: str, at: int) -> Iterator[list[Token]]:
    """Yield the tokens of the query around the cursor, then of the one around that, and so on.

    What stands in parentheses that the cursor is not in belongs to its query as it is.
    """
    words = _meaningful(statement)
    around: list[int] = []
    for index, token in enumerate(words):
        if token.start >= at:
            break
        if token.text == "(":
            around.append(index)
        elif token.text == ")" and around:
            around.pop()
    for index in reversed(around):
        inside = words[index + 1 : _closing(words, index)]
        if inside and inside[0].low in ("select", "with", "values", "insert", "update", "delete"):
            yield inside
    yield words


def _read(query: list[Token]) -> Iterator[Source]:
    """Yield what one query reads from, at its own level."""
    index = depth = 0
    while index < len(query):
        token = query[index]
        depth += {"(": 1, ")": -1}.get(token.text, 0)
        index += 1
        if depth == 0 and token.low in _OPENERS:
            while True:
                source, index = _source(query, index, is_target=token.low == "into")
                if source is not None:
                    yield source
                if index >= len(query) or query[index].text != ",":
                    break
                index += 1


def _source(query: list[Token], index: int, *, is_target: bool) -> tuple[Source | None, int]:
    """Read one table, function or sub-query with its alias; return where it ends.

    A parenthesis after a target, `insert into t (`, makes no function of it.
    """
    while index < len(query) and query[index].low in _BETWEEN:
        index += 1
    if index >= len(query):
        return None, index
    if query[index].text == "(":
        end = _closing(query, index)
        columns = selected(query[index + 1 : end])
        alias, index = _alias(query, end + 1)
        return (Source(None, alias, alias, columns) if alias else None), index
    if not query[index].is_name or query[index].low in RESERVED:
        return None, index
    parts = [query[index].name]
    index += 1
    while index + 1 < len(query) and query[index].text == "." and query[index + 1].is_name:
        parts.append(query[index + 1].name)
        index += 2
    is_call = not is_target and index < len(query) and query[index].text == "("
    if is_call:
        index = _closing(query, index) + 1
    alias, index = _alias(query, index)
    schema = parts[-2] if len(parts) > 1 else None
    return Source(schema, parts[-1], alias or parts[-1], () if is_call else None), index


def _alias(query: list[Token], index: int) -> tuple[str, int]:
    if index < len(query) and query[index].low == "as":
        index += 1
    if index < len(query) and query[index].is_name and query[index].low not in RESERVED:
        name = query[index].name
        index += 1
        return name, index
    return "", index


def _closing(words: list[Token], opening: int) -> int:
    """Return the index of the parenthesis that closes another; the end where none does."""
    depth = 0
    for index in range(opening, len(words)):
        depth += {"(": 1, ")": -1}.get(words[index].text, 0)
        if depth == 0:
            return index
    return len(words)


def _edge(words: list[Token], index: int, statement: str) -> int:
    return words[index].start if index < len(words) else len(statement)
