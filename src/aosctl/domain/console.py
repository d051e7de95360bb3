"""A person's own SQL: the connection it runs on, kept while it lasts, and what it may name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Literal, LiteralString

from aosctl.db import sql_catalog, sql_session
from aosctl.db.sql_catalog import Catalog
from aosctl.db.sql_session import TIMEOUT_SECONDS, Answer, Complaint, SqlRefused, State
from aosctl.errors import AosError, DatabaseUnavailable, NotFound

if TYPE_CHECKING:
    from aosctl.db.connection import Session

__all__ = [
    "TIMEOUT_SECONDS",
    "Answer",
    "Catalog",
    "Complaint",
    "Console",
    "Shown",
    "SqlRefused",
    "State",
]

Shown = Literal["", "t", "v", "m", "i", "s"]
"""The letter after `\\d`: tables and views, tables, views, stored ones, indexes, sequences."""
_KINDS: dict[Shown, list[str]] = {
    "t": ["r", "p", "f"],
    "v": ["v", "m"],
    "m": ["m"],
    "i": ["i", "I"],
    "s": ["S"],
    "": ["r", "p", "f", "v", "m"],
}


class Console:
    """Statements of one person, in their tenant, one after the other; for one thread.

    It connects when there is something to run, and again when the connection is gone: `lost`
    is told, because settings and a transaction went with it.
    """

    def __init__(
        self,
        open_session: Callable[[], Session],
        notice: Callable[[Complaint], None],
        lost: Callable[[], None],
    ) -> None:
        self._open = open_session
        self._notice = notice
        self._lost = lost
        self._session: Session | None = None

    @property
    def state(self) -> State:
        """Tell whether a transaction is open, or has failed."""
        if self._session is None or self._session.connection.closed:
            return "idle"
        return sql_session.state(self._session.connection)

    def run(self, statement: str) -> Answer:
        """Run one statement. Raises SqlRefused, DatabaseUnavailable, KeyboardInterrupt."""
        return sql_session.run(self._connected().connection, statement)

    def catalog(self) -> Catalog:
        """Read what the login may name, on a connection of its own; for any thread."""
        with closing(self._open()) as session:
            session.connection.execute("reset search_path")
            path = sql_catalog.path(session.connection)
            session.connection.execute("set search_path = pg_catalog, pg_temp")
            return sql_catalog.read(session.connection, path)

    def relations(self, kind: Shown, name: str | None) -> Answer:
        """List what there is of a kind: of the name or the schema, or all beside PostgreSQL's.

        A name may be a pattern, with `*` for any characters and `?` for one, as everywhere here.
        """
        kinds = _KINDS[kind]
        schema, word = _split(name)
        if schema is None and word is not None and "*" not in word:
            found = self._look(sql_catalog.LIST, kinds=kinds, schema=_like(word), name=None)
            if found.rows:
                return found
        return self._look(sql_catalog.LIST, kinds=kinds, schema=_like(schema), name=_like(word))

    def functions(self, name: str | None) -> Answer:
        """List the functions that the login may call, beside PostgreSQL's own."""
        schema, word = _split(name)
        return self._look(sql_catalog.FUNCTIONS, schema=_like(schema), name=_like(word))

    def schemas(self, name: str | None) -> Answer:
        """List the schemas that are not PostgreSQL's own."""
        return self._look(sql_catalog.SCHEMAS, name=_like(_split(name)[1]))

    def databases(self, name: str | None) -> Answer:
        """List the databases of the server."""
        return self._look(sql_catalog.DATABASES, name=_like(_split(name)[1]))

    def roles(self, name: str | None) -> Answer:
        """List the roles of the server that are not PostgreSQL's own."""
        return self._look(sql_catalog.ROLES, name=_like(_split(name)[1]))

    def describe(self, name: str) -> tuple[str, Answer, list[str], list[str]]:
        """Return a relation's title, columns, indexes and policies. Raises NotFound."""
        connection = self._connected().connection
        schema, word = _split(name)
        with sql_session.pinned(connection) as path:
            found = sql_session.look(
                connection, sql_catalog.FIND, {"name": word, "schema": schema, "path": path}
            )
            if not found.rows:
                raise NotFound(f'no table or view "{name}"', "\\d lists what there is")
            oid, of, called, kind = found.rows[0]
            columns, indexes, policies = (
                sql_session.look(connection, query, {"oid": oid})
                for query in (sql_catalog.COLUMNS, sql_catalog.INDEXES, sql_catalog.POLICIES)
            )
        what = "View" if kind in ("v", "m") else "Table"
        return f'{what} "{of}.{called}"', columns, _first(indexes), _first(policies)

    def roll_back(self) -> bool:
        """End an open transaction without effect; tell whether there was one."""
        if self.state == "idle" or self._session is None:
            return False
        try:
            sql_session.run(self._session.connection, "rollback")
        except AosError:
            self._session.close()
        return True

    def close(self) -> None:
        """Close the connection; an open transaction leaves nothing. It may be used again."""
        if self._session is not None:
            self._session.close()
            self._session = None

    def _look(self, query: LiteralString, **given: object) -> Answer:
        connection = self._connected().connection
        with sql_session.pinned(connection):
            return sql_session.look(connection, query, given)

    def _connected(self) -> Session:
        if self._session is not None and self._session.connection.closed:
            self._session = None
            self._lost()
        if self._session is None:
            session = self._open()
            try:
                sql_session.prepare(session.connection, self._notice)
            except DatabaseUnavailable:
                session.close()
                raise
            self._session = session
        return self._session


def _first(answer: Answer) -> list[str]:
    return [row[0] or "" for row in answer.rows]


def _split(name: str | None) -> tuple[str | None, str | None]:
    """Return schema and name of `schema.name`, in small letters unless they are quoted."""
    if name is None:
        return None, None
    import re

    parts = re.findall(r'"((?:[^"]|"")*)"|([^".\s]+)', name.strip().rstrip(";"))
    words = [quoted.replace('""', '"') if quoted else plain.lower() for quoted, plain in parts]
    schema, name = (words[-2] if len(words) > 1 else None), (words[-1] if words else None)
    return schema, (None if name == "*" else name)


def _like(name: str | None) -> str | None:
    """Return a name, in which `*` and `?` may stand, as a pattern of LIKE."""
    if name is None:
        return None
    escaped = name.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped.replace("*", "%").replace("?", "_")
