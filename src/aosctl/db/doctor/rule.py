"""What a rule is, what it finds, and what it may look at."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Literal

import psycopg

from aosctl.db.doctor import snapshot
from aosctl.db.doctor.snapshot import Snapshot

Connection = psycopg.Connection[tuple[object, ...]]
Severity = Literal["error", "warning"]
UPGRADE = "aosctl db upgrade"


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong with one object, and what sets it right.

    `fix` is SQL without its last semicolon, or a command of the shell when `is_command`. Whoever
    runs SQL needs the rights of `role`: "superuser" for a superuser, "" for an administrator
    (aos_admin).
    """

    object: str
    detail: str
    fix: str
    role: str = ""
    is_command: bool = False


class Unchecked(Exception):
    """A rule can't be evaluated by this login; its text says why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One thing that must hold; `check` yields what breaks it."""

    id: str
    severity: Severity
    title: str
    check: Callable[[Setting], Iterable[Finding]]


@dataclass(frozen=True, slots=True)
class Files:
    """The client's own files: its config, and the folders of the embedded server, if it uses it."""

    config: Path | None = None
    data: Path | None = None
    sockets: Path | None = None


@dataclass(frozen=True, eq=False)
class Setting:
    """What the rules look at: a database in a read-only transaction, and the client's files."""

    connection: Connection
    files: Files = field(default_factory=Files)

    def rows(self, query: str) -> list[tuple[str, ...]]:
        """Return the rows of a query as text."""
        found = self.connection.execute(query.encode()).fetchall()
        return [tuple("" if value is None else str(value) for value in row) for row in found]

    @property
    def version(self) -> int:
        """The server's version: 180004 is 18.4."""
        return self.connection.info.server_version

    @cached_property
    def is_superuser(self) -> bool:
        query = "select rolsuper from pg_roles where rolname = current_user"
        return self.rows(query) == [("True",)]

    @cached_property
    def superusers(self) -> frozenset[str]:
        rows = self.rows("select rolname from pg_roles where rolsuper")
        return frozenset({"superuser", *(row[0] for row in rows)})

    @cached_property
    def own_roles(self) -> frozenset[str]:
        """The roles that the login may act as."""
        how = "set" if self.version >= 160000 else "member"
        query = f"select rolname from pg_roles where pg_has_role(current_user, oid, '{how}')"
        return frozenset(row[0] for row in self.rows(query))

    @cached_property
    def is_extension(self) -> bool:
        return bool(self.rows("select 1 from pg_extension where extname = 'pgagentos'"))

    @cached_property
    def identities(self) -> tuple[str, ...]:
        return snapshot.identities(self.connection)

    @cached_property
    def live(self) -> Snapshot:
        return snapshot.Live(self.connection)

    @cached_property
    def wanted(self) -> Snapshot:
        return snapshot.expected(self.version // 10000, self.identities)

    def differences(self, section: str) -> list[snapshot.Difference]:
        """List what differs from what this aosctl installs."""
        return snapshot.differences(self.wanted, self.live, section)


def query_rule(id_: str, severity: Severity, title: str, query: str) -> Rule:
    """Return a rule whose query finds object, detail, fix and the role that the fix needs."""

    def check(setting: Setting) -> Iterable[Finding]:
        return [Finding(obj, detail, fix, role) for obj, detail, fix, role in setting.rows(query)]

    return Rule(id_, severity, title, check)
