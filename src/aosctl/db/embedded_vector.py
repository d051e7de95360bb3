"""The extension vector in an embedded database that was made before its server brought one."""

from __future__ import annotations

from collections.abc import Callable

from aosctl.db.connection import connect
from aosctl.db.embedded import DATABASE, SUPERUSER, ensure_running
from aosctl.db.errors import translated

_TEMPLATE = "template1"
_LACKS = (
    "select exists (select from pg_catalog.pg_available_extensions where name = 'vector'"
    " and installed_version is null) and pg_catalog.to_regnamespace('public') is not null"
)


def add_vector(
    database: str | None, verb: str, progress: Callable[[str], None] | None = None
) -> bool:
    """Create the extension where the server has it and the database does not, as in a new one.

    So it is in the template, with which later databases begin. Only a superuser may create it,
    which the embedded server lets its person be. True where the database lacked it. Raises
    DatabaseUnavailable.
    """
    server = ensure_running(progress=progress)
    _add(server.dsn(SUPERUSER, _TEMPLATE), verb)
    return _add(server.dsn(SUPERUSER, database or DATABASE), verb)


def _add(dsn: str, verb: str) -> bool:
    connection = connect(dsn, verb)
    try:
        with translated():
            row = connection.execute(_LACKS).fetchone()
            if row is None or not row[0]:
                return False
            connection.execute("create extension if not exists vector with schema public")
    finally:
        connection.close()
    return True
