"""What may stand at the cursor of a SQL statement, as pgcli offers it.

A pure function of the text, the cursor and what the catalog held when it was last read: no
terminal, no database, so that every prompt can use it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from aosctl.repl.sql_lexer import Token, tokens
from aosctl.repl.sql_scope import Source, sources_of, statement_at, with_queries
from aosctl.repl.sql_words import (
    AFTER,
    AFTER_VALUE,
    CALLABLE,
    COLUMNS_FOLLOW,
    FUNCTIONS_FOLLOW,
    INSERTED,
    KEYWORDS,
    RESERVED,
    SCHEMAS_FOLLOW,
    STARTS,
    TABLES_FOLLOW,
    TYPES,
    TYPES_FOLLOW,
)

MOST = 200
_SYSTEM = ("pg_catalog", "information_schema")
_PLAIN = re.compile(r"[a-z_][a-z0-9_$]*")


@dataclass(frozen=True, slots=True)
class Table:
    """A table or view of the catalog, with its columns in their order."""

    schema: str
    name: str
    columns: tuple[str, ...] = ()
    is_view: bool = False


@dataclass(frozen=True, slots=True)
class Catalog:
    """What the principal sees; `path` is its search_path, `functions` are (schema, name)."""

    tables: tuple[Table, ...] = ()
    functions: tuple[tuple[str, str], ...] = ()
    schemas: tuple[str, ...] = ()
    path: tuple[str, ...] = ("pg_catalog",)

    def find(self, schema: str | None, name: str) -> Table | None:
        """Return the table of a name, along the search path where no schema is given."""
        for each in (schema,) if schema is not None else self.path:
            for table in self.tables:
                if table.schema == each and table.name == name:
                    return table
        return None


class Offer(NamedTuple):
    """A candidate: it replaces the `length` characters before the cursor; `kind` is shown."""

    text: str
    length: int
    kind: str


class _Place(NamedTuple):
    """Where the cursor stands: what is typed of a word, its qualifiers, what came before."""

    typed: str
    quoted: bool
    qualifiers: tuple[str, ...]
    before: list[Token]
    length: int


def offers(text: str, cursor: int, catalog: Catalog) -> list[Offer]:
    """Return what may stand at the cursor, the likeliest first; nothing within text or comments."""
    statement, at = statement_at(text, cursor)
    place = _place(statement, at)
    if place is None:
        return []
    found: Iterable[_Found]
    if place.qualifiers:
        found = _qualified(place, statement, at, catalog)
    else:
        found = _candidates(place, statement, at, catalog)
    upper = _wants_capitals(place)
    seen: dict[str, Offer] = {}
    for offer in _matching(found, place.typed):
        shown = _written(offer, place, upper=upper)
        seen.setdefault(shown, Offer(shown, place.length, offer.kind))
        if len(seen) == MOST:
            break
    return list(seen.values())


def _place(statement: str, at: int) -> _Place | None:
    """Return where the cursor stands; None in a text, a comment or a number."""
    found = list(tokens(statement[:at]))
    if found and not found[-1].is_closed and found[-1].kind != "quoted":
        return None
    if found and found[-1].kind == "number":
        return None
    typed, quoted = "", False
    if found and found[-1].is_name:
        last = found.pop()
        if last.kind == "quoted" and last.is_closed:
            return None
        typed, quoted = last.text.removeprefix('"'), last.kind == "quoted"
    qualifiers: list[str] = []
    while len(found) >= 2 and found[-1].text == "." and found[-2].is_name:
        qualifiers.insert(0, found[-2].name)
        del found[-2:]
    before = [token for token in found if token.kind not in ("space", "comment")]
    return _Place(typed, quoted, tuple(qualifiers), before, len(typed) + quoted)


class _Found(NamedTuple):
    """A candidate; `schema` where its name alone would not find it."""

    name: str
    kind: str
    schema: str = ""


def _qualified(place: _Place, statement: str, at: int, catalog: Catalog) -> list[_Found]:
    """Return what stands after a dot: columns of an alias or table, or what a schema holds."""
    *outer, last = place.qualifiers
    if not outer:
        for source in sources_of(statement, at):
            if source.called == last and (columns := _columns(source, catalog)):
                return [_Found(name, "column") for name in columns]
    table = catalog.find(outer[-1] if outer else None, last)
    if table is not None:
        return [_Found(name, "column") for name in table.columns]
    return [
        *(_Found(t.name, _kind(t)) for t in catalog.tables if t.schema == last),
        *(_Found(name, "function") for schema, name in catalog.functions if schema == last),
    ]


def _candidates(place: _Place, statement: str, at: int, catalog: Catalog) -> Iterator[_Found]:
    word, previous = _governing(place.before)
    if not place.before:
        yield from (_Found(one, "keyword") for one in STARTS)
        return
    if word in COLUMNS_FOLLOW and _is_value(place.before[-1]):
        words = (*AFTER_VALUE, *(KEYWORDS if place.typed else ()))
        yield from (_Found(one, "keyword") for one in words)
        return
    yield from _named(place, statement, at, catalog, word)
    if word in TABLES_FOLLOW and previous in CALLABLE:
        yield from _functions(catalog, place.typed)
    if place.quoted:
        return
    yield from (_Found(one, "keyword") for one in AFTER.get(word, ()))
    if place.typed and word not in _NAMES_FOLLOW:
        yield from (_Found(one, "keyword") for one in KEYWORDS)
    if place.typed and word in COLUMNS_FOLLOW:
        yield from (_Found(one, "schema") for one in catalog.schemas)


def _is_value(token: Token) -> bool:
    """Tell whether an operand ends here, so that no other can follow."""
    is_word = token.kind == "word" and token.low not in _CLAUSES and token.low not in RESERVED
    return is_word or token.text == ")" or token.kind in ("number", "text", "quoted")


def _named(place: _Place, statement: str, at: int, catalog: Catalog, word: str) -> Iterator[_Found]:
    """Yield the names that a clause takes."""
    if word in TABLES_FOLLOW:
        yield from _tables(catalog, statement, at)
    elif word in FUNCTIONS_FOLLOW | SCHEMAS_FOLLOW:
        if word in FUNCTIONS_FOLLOW:
            yield from _functions(catalog, place.typed)
        yield from (_Found(one, "schema") for one in catalog.schemas)
    elif word in TYPES_FOLLOW:
        yield from (_Found(one, "type") for one in TYPES)
    elif word == INSERTED:
        yield from _scope_columns(statement, at, catalog)
    elif word in COLUMNS_FOLLOW:
        yield from _of_scope(place, statement, at, catalog)


def _governing(before: list[Token]) -> tuple[str, str]:
    """Return the keyword that says what stands at the cursor, and the one before it.

    After a name that a comma doesn't follow, a clause that takes tables is over.
    """
    depth = 0
    skipped: list[Token] = []
    for index in range(len(before) - 1, -1, -1):
        token = before[index]
        if token.text == ")":
            depth += 1
        elif token.text == "(":
            if depth == 0:
                return _of_parenthesis(before[:index], skipped)
            depth -= 1
        elif depth == 0 and token.low in _CLAUSES:
            return _after(token.low, skipped), _last_word(before[:index])
        if depth == 0:
            skipped.insert(0, token)
    return "", ""


_NAMES_FOLLOW = TABLES_FOLLOW | SCHEMAS_FOLLOW | TYPES_FOLLOW | FUNCTIONS_FOLLOW | {INSERTED}
_CLAUSES = _NAMES_FOLLOW | COLUMNS_FOLLOW | AFTER.keys()


def _after(clause: str, since: list[Token]) -> str:
    """Return the clause itself, or a name for what follows once a table is named in it."""
    if clause in TABLES_FOLLOW and since and since[-1].text not in (",", "(", "."):
        return f"{clause} …" if f"{clause} …" in AFTER else "from …"
    return clause


def _of_parenthesis(before: list[Token], since: list[Token]) -> tuple[str, str]:
    """Return what an open parenthesis asks for, which `insert into t (` and `f(` differ in."""
    words = [token.low for token in before[-6:]]
    if "into" in words and (not since or since[-1].text == ","):
        return INSERTED, "into"
    if words[-1:] == ["as"] or words[-1:] == ["exists"] or words[-1:] == ["from"]:
        return "(", ""
    return "select", _last_word(before)


def _last_word(before: list[Token]) -> str:
    return next((t.low for t in reversed(before) if t.kind == "word"), "")


def _of_scope(place: _Place, statement: str, at: int, catalog: Catalog) -> Iterator[_Found]:
    """Yield the columns of the tables in scope, the tables' own names, and functions."""
    scope = sources_of(statement, at)
    yield from _scope_columns(statement, at, catalog)
    yield from (_Found(source.called, "alias") for source in scope if source.called)
    if not scope and place.typed:
        near = [table for table in catalog.tables if _is_near(table, catalog)]
        yield from (_Found(name, "column") for table in near for name in table.columns)
    yield from _functions(catalog, place.typed)


def _scope_columns(statement: str, at: int, catalog: Catalog) -> Iterator[_Found]:
    for source in sources_of(statement, at):
        yield from (_Found(name, "column") for name in _columns(source, catalog))


def _columns(source: Source, catalog: Catalog) -> tuple[str, ...]:
    if source.columns is not None:
        return source.columns
    table = catalog.find(source.schema, source.name)
    return table.columns if table is not None else ()


def _tables(catalog: Catalog, statement: str, at: int) -> Iterator[_Found]:
    yield from (_Found(name, "with") for name in with_queries(statement, at))
    near = [table for table in catalog.tables if _is_near(table, catalog)]
    yield from (_Found(table.name, _kind(table)) for table in near if table.schema != "pg_catalog")
    yield from (_Found(name, "schema") for name in catalog.schemas)
    yield from (
        _Found(table.name, _kind(table), table.schema)
        for table in catalog.tables
        if not _is_near(table, catalog) and table.schema not in _SYSTEM
    )
    yield from (_Found(table.name, _kind(table)) for table in near if table.schema == "pg_catalog")


def _functions(catalog: Catalog, typed: str) -> Iterator[_Found]:
    """Yield functions: those of the path, PostgreSQL's own only once something is typed."""
    path = set(catalog.path)
    for own in (False, True):
        if own and not typed:
            return
        for schema, name in catalog.functions:
            if schema in path and (schema == "pg_catalog") == own:
                yield _Found(name, "function")


def _is_near(table: Table, catalog: Catalog) -> bool:
    return table.schema in catalog.path


def _kind(table: Table) -> str:
    return "view" if table.is_view else "table"


def _matching(found: Iterable[_Found], typed: str) -> Iterator[_Found]:
    """Yield what begins with the typed letters, then what has them after a `_`, then inside."""
    word = typed.lower()
    inside: list[_Found] = []
    within: list[_Found] = []
    for one in found:
        name = one.name.lower()
        if name.startswith(word):
            yield one
        elif len(word) > 1 and f"_{word}" in name:
            inside.append(one)
        elif len(word) > 2 and word in name and one.kind != "keyword":
            within.append(one)
    yield from inside
    yield from within


def _written(found: _Found, place: _Place, *, upper: bool) -> str:
    """Return a candidate as it is typed: keywords in the case of the others, odd names quoted."""
    if found.kind in ("keyword", "type"):
        return found.name.upper() if upper and found.kind == "keyword" else found.name
    name = _identifier(found.name, place)
    return f"{_identifier(found.schema, place)}.{name}" if found.schema else name


def _identifier(name: str, place: _Place) -> str:
    if place.quoted or not _PLAIN.fullmatch(name) or name in RESERVED:
        return '"' + name.replace('"', '""') + '"'
    return name.upper() if place.typed.isupper() and len(place.typed) > 1 else name


def _wants_capitals(place: _Place) -> bool:
    """Tell whether keywords are typed in capitals: this word, else the last keyword before it."""
    if place.typed:
        return place.typed.isupper()
    last = [t.text for t in place.before if t.kind == "word" and t.low in _CLAUSES]
    return bool(last) and last[-1].isupper()
