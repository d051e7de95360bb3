"""SQL identities: the roles under which SQL skills run, and their sandbox functions."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from uuid import UUID

import psycopg
from psycopg import sql

from aosctl.db.archive import Grant
from aosctl.db.catalog import SCHEMAS
from aosctl.db.errors import from_psycopg
from aosctl.db.membership import READER, acting_as

Connection = psycopg.Connection[tuple[object, ...]]

PRIVILEGES = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE", "USAGE", "EXECUTE"})
"""What a manifest or an administrator may have granted; anything else is not given again."""

_NOT_THEIRS = frozenset({*SCHEMAS, "information_schema"})
"""Schemas of which a backup tells no grants, nor those of PostgreSQL's own: pg_read_file() and its
kind would give SQL skills the server's files."""

_KINDS = {
    "schema": sql.SQL("schema"),
    "table": sql.SQL("table"),
    "sequence": sql.SQL("sequence"),
    "function": sql.SQL("function"),
}


@dataclass(frozen=True, slots=True)
class Identity:
    """A row of aos_auth.sql_identity, and whose it is: TENANT, or TENANT/SKILL."""

    owner: str
    tenant_id: UUID
    scope_id: UUID
    role: str
    digest: str


def identities(connection: Connection) -> list[Identity]:
    """List the SQL identities of all tenants; the caller may act as aos_backup."""
    with acting_as(connection, READER):
        rows = connection.execute(
            "select concat_ws('/', t.name, s.name), i.tenant_id, i.scope_id, i.db_role::text,"
            " i.function_digest"
            " from aos_auth.sql_identity i join aos_auth.tenant t using (tenant_id)"
            " left join aos_skills.skill s on s.tenant_id = i.tenant_id and s.skill_id = i.scope_id"
            " order by 1, i.scope_id"
        ).fetchall()
    return [
        Identity(str(r[0]), UUID(str(r[1])), UUID(str(r[2])), str(r[3]), str(r[4])) for r in rows
    ]


def outdated(connection: Connection) -> list[Identity]:
    """List those whose function is missing, changed, or not the one that this kernel makes.

    The caller may act as aos_backup and aos_kernel.
    """
    found = identities(connection)
    with acting_as(connection, "aos_kernel"):
        return [identity for identity in found if not _is_current(connection, identity)]


def _is_current(connection: Connection, identity: Identity) -> bool:
    row = connection.execute(
        "select md5(aos_auth.sandbox_body(%(role)s::name)) = %(digest)s and exists ("
        " select from pg_catalog.pg_proc p where p.proname = %(role)s and p.prosecdef"
        " and p.pronamespace = 'aos_sandbox'::regnamespace"
        " and p.proowner = to_regrole(%(role)s) and md5(p.prosrc) = %(digest)s"
        " and p.proconfig = array['search_path=pg_catalog, pg_temp'])",
        {"role": identity.role, "digest": identity.digest},
    ).fetchone()
    return bool(row and row[0])


def provision(connection: Connection, identity: Identity, role: str) -> Identity:
    """Make an identity's role and function, under the name `role` from now on.

    The caller may act as aos_kernel and aos_owner (aos_auth.provision_sql_role).
    """
    with acting_as(connection, "aos_owner"):  # whoever owns the function: the schema is ours
        connection.execute(
            sql.SQL("drop function if exists aos_sandbox.{}").format(sql.Identifier(identity.role))
        )
    with acting_as(connection, "aos_kernel"):
        connection.execute(
            "select set_config('aos.kernel_tenant', %s, true)", (str(identity.tenant_id),)
        )
        row = connection.execute(
            "with gone as (delete from aos_auth.sql_identity i where i.tenant_id = %(tenant)s"
            " and i.scope_id = %(scope)s returning i.created_at)"
            " select created_at, aos_auth.provision_sql_role(%(role)s::name) from gone",
            {"tenant": identity.tenant_id, "scope": identity.scope_id, "role": role},
        ).fetchone()
        if row is None:
            raise LookupError(f"no SQL identity {identity.scope_id}")
        connection.execute(
            "insert into aos_auth.sql_identity (tenant_id, scope_id, db_role, function_digest,"
            " created_at, function_xmin, function_ctid) select %s, %s, p.proname, %s, %s, p.xmin,"
            " p.ctid from pg_catalog.pg_proc p where p.proname = %s"
            " and p.pronamespace = 'aos_sandbox'::regnamespace",
            (identity.tenant_id, identity.scope_id, row[1], row[0], role),
        )
    return replace(identity, role=role, digest=str(row[1]))


def renew_permissions(connection: Connection) -> None:
    """Write permissions again that don't hold what the gate has to know (renew_permissions).

    The caller may act as aos_backup and aos_kernel.
    """
    with acting_as(connection, READER):
        tenants = connection.execute("select tenant_id from aos_auth.tenant order by 1").fetchall()
    with acting_as(connection, "aos_kernel"):
        for tenant in tenants:
            connection.execute("select aos_skills.renew_permissions(%s)", tenant)


def repair(connection: Connection) -> list[str]:
    """Give skills that declare grants their identity, and drop those whose skill is gone.

    Returns the roles that were made or dropped (aos_auth.repair_sql_identities), also those whose
    sandbox function is all that is left. The caller may act as aos_backup and aos_kernel.
    """
    with acting_as(connection, READER):
        tenants = connection.execute("select tenant_id from aos_auth.tenant order by 1").fetchall()
    with acting_as(connection, "aos_kernel"):
        changed = [
            str(row[0])
            for tenant in tenants
            for row in connection.execute(
                "select r from aos_auth.repair_sql_identities(%s) r", tenant
            ).fetchall()
        ]
    known = [identity.role for identity in identities(connection)]
    with acting_as(connection, "aos_kernel"):
        stray = connection.execute(
            "select r.rolname, aos_auth.drop_sql_role(r.rolname) from pg_catalog.pg_roles r"
            " join pg_catalog.pg_proc p on p.proname = r.rolname"
            " and p.pronamespace = 'aos_sandbox'::regnamespace"
            " where r.rolname ~ '^aos_sql_[0-9a-f]{16}$' and r.rolname <> all (%s::name[])",
            (known,),
        ).fetchall()
    return [*changed, *(str(row[0]) for row in stray)]


def free_name(connection: Connection, role: str) -> str:
    """Return `role` where no other database uses a role of that name, else a new opaque name."""
    if not re.fullmatch(r"aos_sql_[0-9a-f]{16}", role):
        return _new_name()
    row = connection.execute(
        "select exists (select from pg_catalog.pg_roles r where r.rolname = %(role)s and ("
        " exists (select from pg_catalog.pg_shdepend d where d.refobjid = r.oid"
        "  and d.refclassid = 'pg_authid'::regclass and d.classid <> 'pg_auth_members'::regclass)"
        " or exists (select from pg_catalog.pg_auth_members m where m.roleid = r.oid"
        "  and m.member <> 'aos_provisioner'::regrole)"
        " or r.rolcanlogin or r.rolsuper))",
        {"role": role},
    ).fetchone()
    return _new_name() if row and row[0] else role


def _new_name() -> str:
    return f"aos_sql_{secrets.token_hex(8)}"


def grants_of(connection: Connection, role: str) -> tuple[Grant, ...]:
    """Return what a role was granted in this database, outside of the kernel's schemas."""
    rows = connection.execute(
        """
        with me as (select to_regrole(%(role)s)::oid as oid)
        select 'schema', n.nspname, null, null, a.privilege_type
        from me, pg_catalog.pg_namespace n cross join lateral aclexplode(n.nspacl) a
        where a.grantee = me.oid and n.nspname <> all (%(schemas)s)
        union all
        select case c.relkind when 'S' then 'sequence' else 'table' end, n.nspname, c.relname, null,
               a.privilege_type
        from me, pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        cross join lateral aclexplode(c.relacl) a
        where a.grantee = me.oid and n.nspname <> all (%(schemas)s)
        union all
        select 'table', n.nspname, c.relname, t.attname, a.privilege_type
        from me, pg_catalog.pg_attribute t join pg_catalog.pg_class c on c.oid = t.attrelid
        join pg_catalog.pg_namespace n on n.oid = c.relnamespace
        cross join lateral aclexplode(t.attacl) a
        where a.grantee = me.oid and n.nspname <> all (%(schemas)s)
        union all
        select 'function', n.nspname,
               p.proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', null,
               a.privilege_type
        from me, pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
        cross join lateral aclexplode(p.proacl) a
        where a.grantee = me.oid and n.nspname <> all (%(schemas)s)
        order by 1, 2, 3, 4, 5
        """,
        {"role": role, "schemas": [*SCHEMAS, "pg_catalog", "information_schema"]},
    ).fetchall()
    return tuple(
        Grant(str(r[0]), str(r[1]), _optional(r[2]), _optional(r[3]), str(r[4])) for r in rows
    )


def give_again(connection: Connection, role: str, grants: Sequence[Grant]) -> list[str]:
    """Grant each right, with the login's own power to grant; return why some could not be."""
    remarks, missing = list[str](), list[Grant]()
    for grant in grants:
        if (
            grant.privilege not in PRIVILEGES
            or grant.kind not in _KINDS
            or grant.schema in _NOT_THEIRS
            or grant.schema.startswith("pg_")
        ):
            remarks.append(f"{describe(grant)}: not given to {role}: no right of SQL skills")
            continue
        try:
            with connection.transaction():
                statement = _statement(connection, grant, role)
                if statement is None:
                    missing.append(grant)
                else:
                    connection.execute(statement)
        except psycopg.Error as error:
            reason = from_psycopg(error).message
            remarks.append(f"{describe(grant)}: not given to {role}: {reason}")
    if missing:
        schemas = ", ".join(dict.fromkeys(grant.schema for grant in missing))
        remarks.append(
            f"{len(missing)} rights of {role} wait for what is not in this database yet"
            f" (schema {schemas}): restore it, then aosctl db upgrade"
        )
    return remarks


def describe(grant: Grant) -> str:
    """Return a right in SQL's words, such as `SELECT (item) on table shop.orders`."""
    column = f" ({grant.column})" if grant.column else ""
    name = ".".join(part for part in (grant.schema, grant.object) if part)
    return f"{grant.privilege}{column} on {grant.kind} {name}"


def _statement(connection: Connection, grant: Grant, role: str) -> sql.Composed | None:
    """Return the GRANT, or None when its object is not in this database."""
    target: sql.Composable = sql.Identifier(grant.schema)
    if grant.kind == "function":
        found = _lookup(connection, "select to_regprocedure(%s::text)::text", _function(grant))
        if found is None:
            return None
        target = sql.SQL(found)
    elif grant.kind in ("table", "sequence"):
        name = (grant.schema, grant.object or "")
        found = _lookup(
            connection, "select to_regclass(format('%%I.%%I', %s::text, %s::text))::text", *name
        )
        if found is None:
            return None
        target = sql.Identifier(*name)
    elif (
        _lookup(connection, "select to_regnamespace(quote_ident(%s::text))::text", grant.schema)
        is None
    ):
        return None
    column = sql.SQL(" ({})").format(sql.Identifier(grant.column)) if grant.column else sql.SQL("")
    return sql.SQL("grant {}{} on {} {} to {}").format(
        sql.SQL(grant.privilege), column, _KINDS[grant.kind], target, sql.Identifier(role)
    )  # fmt: skip


def _function(grant: Grant) -> str:
    name, _, arguments = (grant.object or "").partition("(")
    quoted = ".".join('"' + part.replace('"', '""') + '"' for part in (grant.schema, name))
    return f"{quoted}({arguments}"


def _lookup(connection: Connection, query: str, *names: str) -> str | None:
    row = connection.execute(query.encode(), names).fetchone()
    return str(row[0]) if row and row[0] else None


def _optional(value: object) -> str | None:
    return None if value is None else str(value)
