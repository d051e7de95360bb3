"""Find psql, and hand it a database."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from aosctl.errors import AosError


def find_psql() -> Path:
    """Return psql from PATH, else the one that comes with the embedded database's programs.

    Raises AosError where there is neither.
    """
    found = shutil.which("psql")
    if found is not None:
        return Path(found)
    from aosctl.db.pgbin import MAJOR, bundled
    from aosctl.errors import DatabaseUnavailable

    try:
        program = bundled(MAJOR).program("psql")
    except DatabaseUnavailable:
        program = None
    if program is None or not program.exists():
        raise AosError(
            "psql is not on PATH, and no copy of it came with aosctl",
            "install PostgreSQL's client programs; any other client takes aosctl db url",
        )
    return program


def command_line(dsn: str, arguments: Sequence[str]) -> tuple[list[str], str | None]:
    """Return psql's arguments for a database, and the password apart: others can read arguments."""
    from psycopg import conninfo

    params = conninfo.conninfo_to_dict(dsn)
    password = params.pop("password", None)
    info = conninfo.make_conninfo("", **params)
    return [*(["-d", info] if info else []), *arguments], str(password) if password else None
