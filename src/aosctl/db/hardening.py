"""Hardening: take from PUBLIC what SQL skills could leave residue with. A superuser's choice."""

from __future__ import annotations

from collections.abc import Sequence

import psycopg

from aosctl.db.errors import translated
from aosctl.resources import resource_dir

Connection = psycopg.Connection[tuple[object, ...]]


def script() -> str:
    """Return hardening.sql, for `db harden --dump-sql`."""
    return (resource_dir("schema") / "hardening.sql").read_text(encoding="utf-8")


def harden(
    connection: Connection, app_roles: Sequence[str] = (), *, undo: bool = False, dry: bool = False
) -> list[str]:
    """Run hardening.sql in one transaction and return what it changed, a line each.

    `app_roles` keep what PUBLIC loses. A dry run rolls back. Raises Denied for a login that is no
    superuser, NotFound without a kernel or for an unknown role.
    """
    told: list[str] = []

    def tell(notice: psycopg.errors.Diagnostic) -> None:
        told.append(notice.message_primary or "")

    connection.add_notice_handler(tell)
    try:
        with translated(), connection.transaction(force_rollback=dry):
            connection.execute("set local client_min_messages = notice")
            connection.execute(
                "select set_config('aos.hardening', %s, true),"
                " set_config('aos.app_roles', %s, true)",
                ("undo" if undo else "apply", ",".join(app_roles)),
            )
            connection.execute(script().encode())
    finally:
        connection.remove_notice_handler(tell)
    return told


def is_hardened(connection: Connection) -> bool:
    """Tell whether PUBLIC has lost set_config in this database, which stands for the rest."""
    with translated():
        row = connection.execute(
            "select not exists (select from pg_catalog.pg_proc p,"
            " aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee = 0"
            " and p.proname = 'set_config' and p.pronamespace = 'pg_catalog'::regnamespace)"
        ).fetchone()
    return bool(row and row[0])
