"""What `db status` tells about a database and the kernel in it."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from aosctl.db.catalog import SCHEMAS, extension_version
from aosctl.db.errors import translated
from aosctl.db.install import is_there

Connection = psycopg.Connection[tuple[object, ...]]


@dataclass(frozen=True, slots=True)
class TenantSize:
    """A tenant that the login may see, and how much there is of it."""

    name: str
    agents: int
    runs: int


@dataclass(frozen=True, slots=True)
class KernelStatus:
    """The kernel of a database; `extension` is None for a plain install."""

    version: str
    extension: str | None
    tenants: tuple[TenantSize, ...]
    first_partition: str | None
    last_partition: str | None
    default_bytes: int
    """The size of the event log's default partition; 0 as long as every event had its month."""
    size_bytes: int


@dataclass(frozen=True, slots=True)
class DatabaseStatus:
    """A database that answers; `kernel` is None where there is none."""

    database: str
    login: str
    server: str
    size_bytes: int
    kernel: KernelStatus | None


def read_status(connection: Connection) -> DatabaseStatus:
    """Read what is there; change nothing. Raises Denied for a login with no part in the kernel."""
    with translated():
        size = _number(connection, "select pg_database_size(current_database())")
        kernel = _kernel(connection) if is_there(connection) else None
    return DatabaseStatus(
        connection.info.dbname,
        connection.info.user,
        (connection.info.parameter_status("server_version") or "").partition(" ")[0],
        size,
        kernel,
    )


def _kernel(connection: Connection) -> KernelStatus:
    from aosctl.db.kernel_version import read_kernel_version

    version = read_kernel_version(connection)
    months = connection.execute(
        "select min(c.relname), max(c.relname) from pg_catalog.pg_inherits i"
        " join pg_catalog.pg_class c on c.oid = i.inhrelid"
        " where i.inhparent = 'aos_core.event_log'::regclass"
        " and c.relname ~ '^event_log_[0-9]{4}_[0-9]{2}$'"
    ).fetchone()
    return KernelStatus(
        version=version or "unknown",
        extension=extension_version(connection),
        tenants=_tenants(connection),
        first_partition=_month(months[0] if months else None),
        last_partition=_month(months[1] if months else None),
        default_bytes=_number(
            connection,
            "select coalesce(pg_relation_size(to_regclass('aos_core.event_log_default')), 0)",
        ),
        size_bytes=_number(
            connection,
            "select coalesce(sum(pg_total_relation_size(c.oid)), 0) from pg_catalog.pg_class c"
            " where c.relnamespace::regnamespace::text = any (%s) and c.relkind = 'r'",
            list(SCHEMAS),
        ),
    )


def _tenants(connection: Connection) -> tuple[TenantSize, ...]:
    rows = connection.execute(
        "select m.name, coalesce((r.status ->> 'agents')::int, 0),"
        " coalesce((r.status ->> 'runs')::int, 0) from aos_auth.my_tenants() m"
        " left join aos_auth.tenant_resource r on r.uid = m.tenant_id order by 1"
    ).fetchall()
    return tuple(TenantSize(str(r[0]), int(str(r[1])), int(str(r[2]))) for r in rows)


def _number(connection: Connection, query: str, *args: object) -> int:
    row = connection.execute(query.encode(), args or None).fetchone()
    return int(str(row[0])) if row and row[0] is not None else 0


def _month(name: object) -> str | None:
    return str(name).removeprefix("event_log_").replace("_", "-") if name else None
