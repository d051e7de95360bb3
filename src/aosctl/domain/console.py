"""A person's own SQL: the connection it runs on, kept while it lasts, and what it may name."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Literal

from aosctl.db import sql_catalog, sql_session
from aosctl.db.sql_catalog import Catalog
from aosctl.db.sql_session import TIMEOUT_SECONDS, Answer, Complaint, SqlRefused, State
from aosctl.errors import AosError, DatabaseUnavailable, NotFound

if TYPE_CHECKING:
    from aosctl.db.connection import Session

__all__ = ["TIMEOUT_SECONDS", "Answer", "Catalog", "Complaint", "Console", "SqlRefused", "State"]

_KINDS = {"t": ["r", "p", "f"], "v": ["v", "m"], "": ["r", "p", "f", "v", "m"]}


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

    def relations(self, kind: Literal["", "t", "v"], name: str | None) -> Answer:
        """List tables, views or both: of the name or the schema, or all beside PostgreSQL's."""
        connection = self._connected().connection
        schema, word = _split(name)
        with sql_session.pinned(connection):
            if name is not None and schema is None:
                given = {"kinds": _KINDS[kind], "schema": word, "name": None}
                found = sql_session.look(connection, sql_catalog.LIST, given)
                if found.rows:
                    return found
            given = {"kinds": _KINDS[kind], "schema": schema, "name": word}
            return sql_session.look(connection, sql_catalog.LIST, given)

    def schemas(self, name: str | None) -> Answer:
        """List the schemas that are not PostgreSQL's own."""
        connection = self._connected().connection
        with sql_session.pinned(connection):
            return sql_session.look(connection, sql_catalog.SCHEMAS, {"name": name})

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
