"""psycopg's binding of libpq, `pq`, without the rest of psycopg.

`import psycopg.pq` runs the package's `__init__` first, which defines every type, cursor and
asynchronous class there is: more than 0.1 s, for verbs that read one table. `pq` itself imports the
some 250 classes of `psycopg.errors` and the protocols of `psycopg.pq.abc`, as much again, and uses
them where something fails and not at all. Here all these are postponed; `import psycopg`, now or
later, still means all of psycopg.
"""

from __future__ import annotations

from aosctl.postponed import forwarder, postpone


def _import() -> None:
    postpone("psycopg", parts={"errors", "pq", "_encodings"})
    # psycopg_binary's `__init__` only looks its version up in the metadata of what is installed.
    # It imports ssl for what that did for OpenSSL 1.0, and uses nothing of it. ctypes finds the
    # system's libpq, for those who have no binary one: `pq` looks at it while it imports one.
    postpone("psycopg_binary", parts={"pq"})
    for module in ("ssl", "ctypes", "ctypes.util"):
        postpone(module)
    # The names of a server's encodings in Python; `pq` decodes the texts of errors with them.
    encodings = "psycopg._encodings"
    postpone(encodings, pg2pyenc=forwarder(encodings, "pg2pyenc"))
    for module in ("psycopg.errors", "psycopg.pq.abc"):
        postpone(module)
    import psycopg.pq  # noqa: F401


_import()

from psycopg import errors, pq  # noqa: E402 - after the packages are postponed

__all__ = ["complaint", "errors", "pq"]


def complaint(result: pq.abc.PGresult, pgconn: pq.abc.PGconn) -> tuple[str | None, str, str | None]:
    """Return SQLSTATE, message and hint of a failure; no SQLSTATE when the connection went away.

    Whatever the server said then, it said while going away.
    """
    sqlstate, message, hint = (
        None if (field := result.error_field(name)) is None else field.decode(errors="replace")
        for name in (
            pq.DiagnosticField.SQLSTATE,
            pq.DiagnosticField.MESSAGE_PRIMARY,
            pq.DiagnosticField.MESSAGE_HINT,
        )
    )
    message = message or result.error_message.decode(errors="replace")
    return (sqlstate if pgconn.status == pq.ConnStatus.OK else None), message, hint
