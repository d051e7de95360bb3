"""Behaviour as text: who gets what from which statement, each undone as soon as it is known.

A probe is a statement under a caller's rights and settings; its outcome is a value, a number of
rows, or the SQLSTATE of the refusal, and what a trigger left behind. Outcomes of a healthy kernel
against those of a broken one tell whether anybody would notice the break.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from kernels import Connection, KernelDatabase

TOOLS = """
create schema probe;
grant usage on schema probe to public;
-- The outcome of one statement, whatever it changed undone; p_see is what is looked at after it.
create function probe.outcome(p_statement text, p_see text) returns text language plpgsql as $$
declare
  v_value text;
  v_rows bigint;
  v_seen text := '';
begin
  if p_statement ~* '^select' then
    execute p_statement into v_value;
  else
    execute p_statement;
    get diagnostics v_rows = row_count;
    v_value := v_rows || ' rows';
  end if;
  if p_see <> '' then
    execute p_see into v_seen;
  end if;
  raise exception using errcode = 'PR0BE', message = coalesce(v_value, 'null') || ' ' || v_seen;
exception
  when sqlstate 'PR0BE' then return sqlerrm;
  when others then
    return sqlstate || case sqlstate when '42501' then ' ' || sqlerrm else '' end;
end $$;
"""


class Caller(NamedTuple):
    """Whose rights a statement has: a login's (None: a superuser's), a role's; its settings."""

    name: str
    login: str | None = None
    role: str | None = None
    tenant: UUID | None = None
    kernel: UUID | None = None

    @property
    def enter(self) -> bytes:
        """Statements that make a superuser's session this caller's, until `LEAVE`."""
        settings = f"set aos.tenant_id = '{self.tenant or ''}';"
        settings += f"set aos.kernel_tenant = '{self.kernel or ''}';"
        login = f"set session authorization {self.login};" if self.login else ""
        role = f"set role {self.role};" if self.role else ""
        return f"{settings}{login}{role}set search_path = pg_catalog".encode()


LEAVE = b"reset role; reset session authorization"


def outcomes(
    connection: Connection, caller: Caller, statements: Sequence[str], see: str = ""
) -> list[str]:
    """Return the outcome of each statement as the caller; the connection is a superuser's."""
    connection.execute(caller.enter)
    found = connection.execute(
        "select probe.outcome(s, %s) from unnest(%s::text[]) with ordinality u (s, n) order by n",
        (see, list(statements)),
    ).fetchall()
    connection.execute(LEAVE)
    return [str(row[0]) for row in found]


class Table(NamedTuple):
    """A tenant's table: its columns that can be written, and a row of each of two tenants."""

    name: str
    columns: tuple[str, ...]
    here: str
    there: str


def tables(database: KernelDatabase, here: UUID, there: UUID) -> list[Table]:
    """List the tables with row-level security that are no partitions."""
    named = database.rows(
        "select c.oid::regclass::text, array_agg(quote_ident(a.attname) order by a.attnum)"
        " filter (where a.attgenerated = '') from pg_class c join pg_attribute a"
        " on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped"
        " where c.relrowsecurity and not c.relispartition"
        " and c.relnamespace::regnamespace::text like 'aos\\_%%' group by 1 order by 1"
    )
    found = []
    for name, columns in named:
        rows = [
            json.dumps(database.value(
                f"select to_jsonb(t) from {name} t where tenant_id = %s limit 1", tenant
            ))
            for tenant in (here, there)
        ]  # fmt: skip
        assert "null" not in rows, f"{name} has no row of both tenants"
        found.append(Table(name, tuple(columns), *rows))
    return found


class Reach:
    """What every caller reaches of a table's rows, of its own tenant and of the other."""

    def __init__(
        self, database: KernelDatabase, callers: Iterable[Caller], here: UUID, there: UUID
    ) -> None:
        self.connection = database.superuser
        self.callers = tuple(callers)
        self.here, self.there = here, there
        self.tables = {table.name: table for table in tables(database, here, there)}
        self._statements = {
            (table.name, caller.name): self._of(database, table, caller)
            for table in self.tables.values()
            for caller in self.callers
        }

    def _of(self, database: KernelDatabase, table: Table, caller: Caller) -> list[str]:
        """Return what the caller's rights let it try: each verb, and moving a row.

        A statement that names no old column is not bound by the policies for SELECT.
        """
        name, verbs = table.name, ("select", "insert", "update", "delete")
        rows = database.rows(
            "select v, array_agg(quote_ident(a.attname)"
            " order by a.attnotnull and not a.atthasdef, a.attnum) from unnest(%s::text[]) v,"
            " pg_attribute a where a.attrelid = %s::regclass and a.attnum > 0"
            " and not a.attisdropped and a.attgenerated = '' and case v"
            " when 'delete' then has_table_privilege(%s, a.attrelid, v)"
            " else has_column_privilege(%s, a.attrelid, a.attnum, v) end group by 1",
            list(verbs), name, *[caller.role or caller.login] * 2,
        )  # fmt: skip
        may: dict[str, list[str]] = {verb: [] for verb in verbs} | dict(rows)
        change = next((c for c in may["update"] if c != "tenant_id"), "tenant_id")
        found = []
        if "tenant_id" in may["update"]:
            found.append(f"update {name} set tenant_id = '{self.there}'")
        if may["update"]:
            found.append(f"update {name} set {change} = default")
        if may["delete"]:
            found.append(f"delete from {name}")
        for tenant, row in ((self.here, table.here), (self.there, table.there)):
            into, literal = ", ".join(may["insert"]), row.replace("'", "''")
            where = f"where tenant_id = '{tenant}'"
            if "tenant_id" in may["select"]:
                found.append(f"select count(tenant_id) from {name} {where}")
            if may["insert"]:
                found.append(
                    f"insert into {name} ({into}) select {into} from"
                    f" jsonb_populate_record(null::{name}, '{literal}')"
                )
            if may["update"]:
                found.append(f"update {name} set {change} = {change} {where}")
            if may["delete"]:
                found.append(f"delete from {name} {where}")
        if name == "aos_auth.tenant" and may["insert"]:
            found.append(f"with n as (insert into {name} (name) values ('new') returning name)"
                         " select count(*) from n")  # fmt: skip
        return found

    def of(self, table: str) -> dict[str, list[str]]:
        """Return each caller's outcomes on a table."""
        return {caller.name: self._try(table, caller) for caller in self.callers}

    def differs(self, table: str, healthy: dict[str, list[str]]) -> bool:
        """Tell whether any caller reaches something else than `of` a healthy kernel."""
        return any(self._try(table, c) != healthy[c.name] for c in self.callers)

    def statements(self, table: str, caller: str) -> list[str]:
        return self._statements[table, caller]

    def _try(self, table: str, caller: Caller) -> list[str]:
        statements = self._statements[table, caller.name]
        return outcomes(self.connection, caller, statements) if statements else []
