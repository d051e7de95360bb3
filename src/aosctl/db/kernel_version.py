"""Which kernel a database has, and what is said where it has none, or another."""

from __future__ import annotations

import psycopg

from aosctl.db.errors import from_psycopg, translated
from aosctl.db.kernel import KERNEL_BUILD, KERNEL_VERSION
from aosctl.errors import Denied, KernelMismatch

Connection = psycopg.Connection[tuple[object, ...]]


def not_installed(connection: Connection) -> KernelMismatch:
    """Return the error for a database without a kernel."""
    return KernelMismatch(
        f'the kernel is not installed in database "{connection.info.dbname}"', "aosctl db install"
    )


def require_build(connection: Connection) -> None:
    """Raise KernelMismatch for a kernel of our version that other schema files made."""
    with translated():
        row = connection.execute(
            "select to_jsonb(k) ? 'build' and coalesce(to_jsonb(k) ->> 'build' = %s, true)"
            " from aos_meta.kernel_version k where version = %s",
            (KERNEL_BUILD, KERNEL_VERSION),
        ).fetchone()
    if row is not None and not row[0]:
        raise KernelMismatch(
            f'database "{connection.info.dbname}" holds another build of kernel {KERNEL_VERSION}'
            " than this aosctl's",
            "aosctl db upgrade",
        )


def read_kernel_version(connection: Connection) -> str | None:
    """Return the version of the kernel in this database; None when there is none."""
    try:
        row = connection.execute(
            "select version from aos_meta.kernel_version order by installed_at desc limit 1"
        ).fetchone()
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return None
    except psycopg.errors.InsufficientPrivilege as error:
        raise no_part(connection) from error
    except psycopg.Error as error:
        raise from_psycopg(error) from error
    return str(row[0]) if row else None


def no_part(connection: Connection) -> Denied:
    """Return the error for a login that may not even see that there is a kernel."""
    return Denied(
        f'login "{connection.info.user}" has no part in the kernel',
        "an administrator grants it: grant aos_viewer to … (or aos_developer)",
    )
