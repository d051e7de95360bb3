"""The worker's login: which it is, and what is no worker's."""

from __future__ import annotations

from psycopg import conninfo

from aosctl.config import Target
from aosctl.db.connection import Connection, Session, connect
from aosctl.db.errors import translated
from aosctl.errors import Denied

WORKER = "aos_worker"


def worker_conninfo(session: Session) -> str:
    """Return the conninfo of the worker: the context's own, else the person's as aos_worker."""
    return worker_dsn(session.target, session.conninfo)


def worker_dsn(target: Target, person: str) -> str:
    """Return the conninfo of a target's worker; `person` is that of its person."""
    if target.kind == "embedded":
        from aosctl.db.embedded import DATABASE, ensure_running

        return ensure_running().dsn(WORKER, target.database or DATABASE)
    if target.worker_dsn:
        return target.worker_dsn
    params = conninfo.conninfo_to_dict(person)
    params.pop("password", None)
    return conninfo.make_conninfo("", **{**params, "user": WORKER})


_UNFIT_FOR_WORK = """
select o.rolname, o.rolsuper, r.oid = o.oid
from pg_roles r
join pg_roles o on pg_has_role(r.oid, o.oid, 'MEMBER')
where r.rolname = session_user and (o.rolsuper or exists (
  select from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.refobjid = o.oid
    and d.deptype = 'o'))
order by 3 desc, 2 desc, 1
limit 1
"""


def connect_worker(dsn: str, verb: str) -> Connection:
    """Connect as the worker.

    Raises Denied for a login that is superuser or owns anything, or belongs to a role that does.
    """
    connection = connect(dsn, verb, is_worker=True)
    try:
        with translated():
            row = connection.execute(_UNFIT_FOR_WORK).fetchone()
        if row is not None:
            raise _unfit(connection.info.user, *row)
    except BaseException:
        connection.close()
        raise
    return connection


def _unfit(login: str, role: object, is_superuser: object, is_login: object) -> Denied:
    what = "is a superuser" if is_superuser else "owns objects"
    who = "that login" if is_login else f'it belongs to "{role}", which'
    return Denied(
        f'the worker may not connect as "{login}": {who} {what}',
        f"use {WORKER}, or a login of its own without rights: aosctl config set-context",
    )
