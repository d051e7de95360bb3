"""Connections, and the person's session: which kernel answers, and which tenant is chosen."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import psycopg
from psycopg import conninfo

from aosctl import __version__, request
from aosctl.config import Target
from aosctl.db.errors import from_psycopg, translated
from aosctl.db.kernel import COMPATIBLE, KERNEL_VERSION
from aosctl.db.kernel_version import not_installed, read_kernel_version, require_build
from aosctl.db.tenants import select_tenant
from aosctl.errors import (
    AosError,
    DatabaseUnavailable,
    Denied,
    KernelMismatch,
    NotFound,
    UsageError,
)

CONNECT_SECONDS = 10
PIN = b"set search_path = pg_catalog, pg_temp"
Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class Session:
    """A person's connection in autocommit mode; `tenant_id` is selected when one was resolved."""

    connection: Connection
    target: Target
    conninfo: str
    kernel: str
    tenant_id: UUID | None
    tenant: str | None

    def require_tenant(self) -> UUID:
        """Return the tenant's id. Raises UsageError, listing the tenants to choose among."""
        if self.tenant_id is None:
            raise no_tenant(self.connection)
        return self.tenant_id

    def close(self) -> None:
        self.connection.close()


def connect(
    dsn: str,
    verb: str,
    *,
    autocommit: bool = True,
    tried: tuple[str, ...] = (),
    is_worker: bool = False,
    asked: request.Request | None = None,
) -> Connection:
    """Connect to a database. Raises DatabaseUnavailable in one line, with what was tried.

    The session's search_path is pg_catalog: where others may create functions, in public on 14,
    one of theirs that fits a call of ours better than PostgreSQL's own would run as this login.
    --request-timeout bounds each statement, --as the rights; neither what a worker does for agents.
    `asked` is what the flags say where that is not what holds now: in a thread beside a verb.
    """
    asked = asked or request.current()
    params = parse(dsn, tried)
    params.setdefault("connect_timeout", CONNECT_SECONDS)
    if asked.timeout:
        params["connect_timeout"] = max(math.ceil(asked.timeout), 1)
    params["application_name"] = f"aosctl/{__version__} {verb}"
    try:
        begun = time.monotonic()
        connection = psycopg.connect(
            conninfo.make_conninfo("", **params), autocommit=True, prepare_threshold=None
        )
        if asked.verbosity:
            _tell(connection, begun)
        connection.execute(PIN)
        if not is_worker:
            _bind(connection, asked)
        connection.autocommit = autocommit
        return connection
    except psycopg.OperationalError as error:
        raise unreachable(error, tried) from error
    except psycopg.Error as error:
        raise from_psycopg(error) from error


def _tell(connection: Connection, begun: float) -> None:
    from aosctl.db import tracing

    info = connection.info
    version = info.parameter_status("server_version") or ""
    where = f"{info.dbname} on {info.host}:{info.port}"
    tracing.connected(where, info.user, version.partition(" ")[0], begun)
    if tracing.shows(request.STATEMENTS):
        from aosctl.db.traced_cursor import trace

        trace(connection)


def _bind(connection: Connection, asked: request.Request) -> None:
    """Let the session wait no longer, and have no more rights, than was asked for."""
    if asked.timeout:
        connection.execute(
            "select pg_catalog.set_config('statement_timeout', %s, false)",
            (str(asked.milliseconds),),
        )
    if asked.principal is not None:
        _act_as(connection, asked.principal)


def _act_as(connection: Connection, principal: str) -> None:
    """Act in somebody's place as long as the session lasts. Raises UsageError behind a pooler.

    Such a thing hands the server's session to the next client with what was set in it, and runs
    the next statement in another one, with all of the login's rights. It has a key of its own.
    """
    (is_set,) = connection.execute(
        "select case when pg_catalog.pg_backend_pid() = %s"
        " then pg_catalog.set_config('aos.acting_as', %s, false) end is not null",
        (connection.info.backend_pid, principal),
    ).fetchone() or (False,)
    if not is_set:
        connection.close()
        raise UsageError(
            "--as needs a session of its own, and a pooler stands before the server",
            "--dsn with the address of the server itself",
        )


def parse(dsn: str, tried: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return the settings in a libpq URI or conninfo string. Raises UsageError."""
    try:
        return conninfo.conninfo_to_dict(dsn)
    except psycopg.ProgrammingError as error:
        # libpq quotes the string, and a password in it, after the first quotation mark.
        reason = str(error).partition('"')[0].strip().rstrip(":")
        where = f" ({tried[-1]})" if tried else ""
        raise UsageError(
            f"the address of the database can't be read: {reason}{where}",
            "write postgresql://user@host:port/database; special characters as %XX",
        ) from None


def unreachable(error: psycopg.Error, tried: tuple[str, ...]) -> DatabaseUnavailable:
    """Return the one line for a database that doesn't answer."""
    from aosctl.errors import redact_dsn

    lines = [line.strip() for line in redact_dsn(str(error)).splitlines() if line.strip()]
    reason = lines[0] if lines else "no answer"
    where = f" (settings tried: {', '.join(tried)})" if tried else ""
    return DatabaseUnavailable(
        f"can't connect to the database: {reason}{where}",
        "aosctl db status, or choose another with --dsn or --context",
    )


def person_conninfo(target: Target, progress: Callable[[str], None] | None = None) -> str:
    """Return the conninfo of the person's connection; starts the embedded server if need be."""
    if target.kind != "embedded":
        return target.dsn or ""
    from aosctl.db.embedded import DATABASE, ensure_running

    return ensure_running(progress=progress).dsn(dbname=target.database or DATABASE)


def open_session(
    target: Target,
    verb: str,
    *,
    select_tenant: bool = True,
    progress: Callable[[str], None] | None = None,
    asked: request.Request | None = None,
) -> Session:
    """Connect as the person, check the kernel's version and select the tenant.

    An embedded database without a kernel gets one. Without `select_tenant`, or when the login has
    several tenants and none was named, no tenant is selected. Raises DatabaseUnavailable,
    KernelMismatch, NotFound for a tenant that the login has no part in.
    """
    info = person_conninfo(target, progress)
    connection = connect(info, verb, tried=target.tried, asked=asked)
    try:
        version = _kernel_version(connection, target, progress)
        tenant_id, tenant = (None, None)
        if select_tenant:
            tenant_id, tenant = _select_tenant(connection, target.tenant)
        if request.current().verbosity:
            from aosctl.db import tracing

            tracing.chosen(target, tenant)
    except AosError:
        connection.close()
        raise
    return Session(connection, target, info, version, tenant_id, tenant)


def _kernel_version(
    connection: Connection, target: Target, progress: Callable[[str], None] | None
) -> str:
    version = read_kernel_version(connection)
    if version is None and target.kind == "embedded":
        from aosctl.db.install import install

        if progress:
            progress("installing the kernel")
        install(connection)
        version = KERNEL_VERSION
    if version is None:
        raise not_installed(connection)
    if version not in COMPATIBLE:
        raise KernelMismatch(
            f'database "{connection.info.dbname}" holds kernel {version}, '
            f"aosctl {__version__} works with {KERNEL_VERSION}",
            "aosctl db upgrade",
        )
    require_build(connection)
    return version


def _select_tenant(connection: Connection, name: str | None) -> tuple[UUID | None, str | None]:
    with translated():
        rows = connection.execute("select tenant_id, name from aos_auth.my_tenants()").fetchall()
        if name is None:
            if len(rows) != 1:
                return None, None
            chosen = rows[0]
        else:
            found = [row for row in rows if row[1] == name]
            if not found:
                _require_place(rows)
                known = ", ".join(str(row[1]) for row in rows) or "none"
                raise NotFound(f'tenant "{name}" not found', f"your tenants: {known}")
            chosen = found[0]
        select_tenant(connection, chosen[0])
    tenant_id = chosen[0]
    assert isinstance(tenant_id, UUID)  # noqa: S101 - the function returns uuid
    return tenant_id, str(chosen[1])


def no_tenant(connection: Connection) -> AosError:
    """Return the error for a verb that needs one tenant while several, or none, are there."""
    with translated():
        rows = connection.execute("select name from aos_auth.my_tenants()").fetchall()
    _require_place(rows)
    if not rows:
        return NotFound("no tenant exists yet, or none that you may see", "aosctl quickstart")
    names = ", ".join(str(row[0]) for row in rows)
    return UsageError(
        f"which tenant? choose one with -n: {names}",
        "or once for all: aosctl config set-context --current --tenant TENANT",
    )


def _require_place(tenants: Sequence[object]) -> None:
    """Raise Denied where --as leaves no tenant at all."""
    principal = request.current().principal
    if principal is not None and not tenants:
        raise Denied(
            f'you may not act as "{principal}", or nobody of that name is in a tenant of yours',
            "--as takes the role admin in the tenant; the same without it",
        )
