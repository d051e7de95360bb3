"""Run a whole file of SQL, such as the business schema of an example."""

from __future__ import annotations

from pathlib import Path

from aosctl.db.connection import Connection
from aosctl.db.errors import translated


def run_file(connection: Connection, path: Path) -> None:
    """Run the statements of a file in one transaction, as the person."""
    with translated():
        connection.execute(path.read_bytes())
