"""Databases for tests of agents: made on the chosen server, each dropped when its test is over.

A test's effects are real commits, in a database that nobody else uses: what a transaction of its
own, rolled back, would keep from others is kept from them here too, and besides, nothing waits for
the locks of a test, its deferred constraints and triggers fire, and programs that a skill starts
may connect. The databases of one run bear its number; while the run lives, it holds an advisory
lock of that number, so that who finds databases of a run that was killed can tell, and drops them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

import psycopg
from psycopg import conninfo, sql

from aosctl.db.connection import Connection, connect, person_conninfo
from aosctl.db.errors import from_psycopg, translated
from aosctl.errors import AosError

if TYPE_CHECKING:
    from aosctl.config import Target

PREFIX = "aosctl_test_"
_NAMED = rf"^{PREFIX}([0-9a-f]{{8}})_[0-9]+$"
_INSTALLING = 7106156
"""The advisory lock of who installs a kernel: databases of one server share the kernel's roles."""
_LOCK_SPACE = 7106157


class TestDatabases:
    """The databases of one run of tests."""

    __test__ = False  # nothing that pytest collects

    def __init__(self, target: Target, admin: Connection, owner: str) -> None:
        self._target = target
        self._admin = admin
        self._owner = owner
        self.number = int.from_bytes(os.urandom(4), "big")
        self._made: list[str] = []
        self._count = 0
        _lock(admin, self.number)

    def target_of(self, name: str) -> Target:
        """Return the target that leads to one of the databases."""
        target = self._target._replace(tenant=None)
        if target.kind == "embedded":
            return target._replace(database=name)
        worker = target.worker_dsn
        return target._replace(
            dsn=conninfo.make_conninfo(target.dsn or "", dbname=name),
            worker_dsn=worker and conninfo.make_conninfo(worker, dbname=name),
        )

    def new(self, template: str | None = None) -> str:
        """Make a database, empty or a copy of one of ours that nobody is connected to."""
        self._count += 1
        name = f"{PREFIX}{self.number:08x}_{self._count}"
        statement = sql.SQL("create database {} template {} owner {}").format(
            sql.Identifier(name),
            sql.Identifier(template or "template1"),
            sql.Identifier(self._owner),
        )
        self._made.append(name)
        try:
            self._admin.execute(statement)
        except psycopg.errors.InsufficientPrivilege as error:
            self._made.pop()
            raise AosError(
                f'login "{self._admin.info.user}" may not create databases, and each test has one'
                " of its own",
                f"a superuser: alter role {self._admin.info.user} createdb; or choose the embedded"
                " server",
            ) from error
        except psycopg.Error as error:
            raise from_psycopg(error) from error
        return name

    @contextmanager
    def installing(self) -> Iterator[None]:
        """Keep other runs of tests from installing a kernel on this server at the same time."""
        with translated():
            self._admin.execute("select pg_advisory_lock(%s)", (_INSTALLING,))
        try:
            yield
        finally:
            with translated():
                self._admin.execute("select pg_advisory_unlock(%s)", (_INSTALLING,))

    def drop(self, name: str) -> None:
        """Drop one of the databases, and the roles that it alone has used."""
        with translated():
            drop(self._admin, name)
        self._made.remove(name)

    def keep(self, name: str) -> str:
        """Leave a database to the person, who is to drop it; return its new name."""
        kept = name.replace(PREFIX, "aosctl_kept_")
        with translated():
            self._admin.execute(
                sql.SQL("alter database {} rename to {}").format(
                    sql.Identifier(name), sql.Identifier(kept)
                )
            )
        self._made.remove(name)
        return kept

    def close(self) -> None:
        """Drop what is left; `left` tells afterwards what could not be dropped."""
        for name in list(reversed(self._made)):
            with suppress(AosError, psycopg.Error):
                self.drop(name)
        self._admin.close()

    @property
    def left(self) -> Sequence[str]:
        """The databases that were made and not dropped."""
        return tuple(self._made)


def open_databases(target: Target, progress: Callable[[str], None] | None = None) -> TestDatabases:
    """Connect to the server that the target is on; what killed runs have left there goes first."""
    dsn = admin_dsn(target, progress)
    admin = connect(dsn, "test", tried=target.tried)
    try:
        with translated():
            sweep(admin)
        owner = admin.info.user
        if target.kind == "embedded":
            from aosctl.db.embedded import INSTALLER

            owner = INSTALLER
        return TestDatabases(target, admin, owner)
    except BaseException:
        admin.close()
        raise


def admin_dsn(target: Target, progress: Callable[[str], None] | None = None) -> str:
    """Return the address of who makes databases: the person; on the embedded server its superuser.

    Tests never run as that one.
    """
    if target.kind != "embedded":
        return person_conninfo(target, progress)
    from aosctl.db.embedded import SUPERUSER, ensure_running

    return ensure_running(progress=progress).dsn(SUPERUSER, "postgres")


def sweep(admin: Connection) -> list[str]:
    """Drop the databases of runs that are over, and return their names."""
    rows = admin.execute(
        "select datname, substring(datname from %s) from pg_catalog.pg_database"
        " where datname ~ %s and pg_has_role(current_user, datdba, 'usage') order by oid desc",
        (_NAMED, _NAMED),
    ).fetchall()
    gone: list[str] = []
    for name, number in [(str(row[0]), int(str(row[1]), 16)) for row in rows]:
        if _lock(admin, number):
            drop(admin, name)
            admin.execute("select pg_advisory_unlock(%s, %s)", (_LOCK_SPACE, _signed(number)))
            gone.append(name)
    return gone


def sweep_run(admin: Connection, number: int) -> None:
    """Wait for the end of a run, and drop its databases."""
    admin.execute("select pg_advisory_lock(%s, %s)", (_LOCK_SPACE, _signed(number)))
    names = admin.execute(
        "select datname from pg_catalog.pg_database where datname like %s order by oid desc",
        (f"{PREFIX}{number:08x}\\_%",),
    ).fetchall()
    for row in names:
        drop(admin, str(row[0]))


def drop(admin: Connection, name: str) -> None:
    """Drop a database and the roles of SQL skills that no other database uses."""
    rows = admin.execute(
        "select distinct r.rolname from pg_catalog.pg_shdepend d"
        " join pg_catalog.pg_roles r on r.oid = d.refobjid"
        " join pg_catalog.pg_database b on b.oid = d.dbid"
        " where d.refclassid = 'pg_authid'::regclass and b.datname = %s"
        " and r.rolname ~ '^aos_sql_[0-9a-f]{16}$'",
        (name,),
    ).fetchall()
    statement = sql.SQL("drop database if exists {}").format(sql.Identifier(name))
    try:
        admin.execute(statement)  # which waits for sessions that are about to end
    except psycopg.errors.ObjectInUse:
        admin.execute(statement + sql.SQL(" with (force)"))
    for row in rows:
        _drop_role(admin, str(row[0]))


def _drop_role(admin: Connection, role: str) -> None:
    """Drop a role that has nothing any more; one that a copy of the database uses stays."""
    from aosctl.db.membership import join, member_of
    from aosctl.errors import Denied

    used = admin.execute(
        "select exists (select from pg_catalog.pg_shdepend d join pg_catalog.pg_roles r"
        " on r.oid = d.refobjid where d.refclassid = 'pg_authid'::regclass and r.rolname = %s"
        " and d.dbid <> 0)",
        (role,),
    ).fetchone()
    if used and used[0]:
        return
    with (
        suppress(psycopg.Error, Denied),
        admin.transaction(),
        member_of(admin, "aos_provisioner"),
    ):
        join(admin, role)
        admin.execute(sql.SQL("drop role {}").format(sql.Identifier(role)))


def _lock(admin: Connection, number: int) -> bool:
    row = admin.execute(
        "select pg_try_advisory_lock(%s, %s)", (_LOCK_SPACE, _signed(number))
    ).fetchone()
    return bool(row and row[0])


def _signed(number: int) -> int:
    return number - 2**32 if number >= 2**31 else number
