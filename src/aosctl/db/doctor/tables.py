"""Row-level security, owners and the shape of the kernel's tables and views."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.catalog_sql import OURS
from aosctl.db.doctor.rule import UPGRADE, Finding, Rule, Setting, query_rule

_TENANT_TABLES = f"""
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where {OURS} and c.relkind in ('r', 'p') and (c.relispartition or exists (
  select from pg_attribute a where a.attrelid = c.oid and a.attname = 'tenant_id'
  and not a.attisdropped))"""

RLS_OFF = query_rule(
    "rls-off", "error", "Every table with a tenant has row-level security",
    f"""select c.oid::regclass, 'row-level security is not enabled: every tenant''s rows are open',
    format('alter table %s enable row level security', c.oid::regclass), 'aos_owner'
    {_TENANT_TABLES} and not c.relrowsecurity order by 1""",
)  # fmt: skip
RLS_NOT_FORCED = query_rule(
    "rls-not-forced", "error", "Row-level security binds the owner of the tables too",
    f"""select c.oid::regclass, 'row-level security is not forced: its owner sees every tenant',
    format('alter table %s force row level security', c.oid::regclass), 'aos_owner'
    {_TENANT_TABLES} and not c.relforcerowsecurity order by 1""",
)  # fmt: skip
OWNER = query_rule(
    "owner-of-relation", "error", "aos_owner owns every table and schema, aos_view every view",
    f"""select * from (
    select c.oid::regclass::text as object,
      format('it belongs to %I, not to %s', pg_get_userbyid(c.relowner), w.owner),
      format('alter %s %s owner to %s', w.kind, c.oid::regclass, w.owner), 'superuser'
    from pg_class c join pg_namespace n on n.oid = c.relnamespace,
      lateral (select case c.relkind when 'v' then 'view' when 'm' then 'materialized view'
                 else 'table' end as kind,
               case when c.relkind in ('v', 'm') then 'aos_view' else 'aos_owner' end as owner) w
    where {OURS} and c.relkind in ('r', 'p', 'v', 'm') and pg_get_userbyid(c.relowner) <> w.owner
    union all
    select 'schema ' || n.nspname, format('it belongs to %I, not to aos_owner',
      pg_get_userbyid(n.nspowner)), format('alter schema %I owner to aos_owner', n.nspname),
      'superuser'
    from pg_namespace n where {OURS} and pg_get_userbyid(n.nspowner) <> 'aos_owner') found
    order by 1""",
)  # fmt: skip
ANEW = (
    "aosctl db backup kernel.aosbackup && aosctl db uninstall --yes && aosctl db install"
    " && aosctl db restore kernel.aosbackup"
)


def _views(setting: Setting) -> Iterable[Finding]:
    for name, wanted, found in setting.differences("views"):
        if wanted is None:
            yield Finding(name, "no view of the kernel", f"drop view {name}", "aos_view")
        else:
            what = "is missing" if found is None else "its query or its options were changed"
            yield Finding(name, what, UPGRADE, is_command=True)


def _columns(setting: Setting) -> Iterable[Finding]:
    tables = {key.rpartition(".")[0] for key in setting.live["columns"]}
    for name, wanted, found in setting.differences("columns"):
        table, _, column = name.rpartition(".")
        if wanted is None:
            continue  # one more harms nobody: the table's policies protect its rows
        changes = _column_changes(column, wanted, found)
        if table in tables and changes:
            what = "the column is missing" if found is None else f"it is {found}, not {wanted}"
            yield Finding(name, what, f"alter table {table} {', '.join(changes)}", "aos_owner")
        else:
            yield Finding(name, f"it is {found or 'missing'}, not {wanted}", ANEW, is_command=True)


def _column_changes(column: str, wanted: str, found: str | None) -> list[str]:
    """Return the actions that make a column as it should be; none where its type is another."""
    if found is None:
        return [f"add column {column} {wanted}"]
    type_, null, default = _column_parts(wanted)
    old_type, old_null, old_default = _column_parts(found)
    if type_ != old_type:
        return []
    changes = []
    if null != old_null:
        changes.append(f"alter column {column} {'drop' if null else 'set'} not null")
    if default != old_default:
        set_default = f"set default {default}" if default else "drop default"
        changes.append(f"alter column {column} {set_default}")
    return changes


def _column_parts(definition: str) -> tuple[str, bool, str]:
    """Return type, whether it may be null, and default."""
    rest, _, default = definition.partition(" default ")
    type_ = rest.removesuffix(" not null")
    return type_, type_ == rest, default


def _constraints(setting: Setting) -> Iterable[Finding]:
    for key, wanted, found in setting.differences("constraints"):
        name, _, table = key.rpartition(" on ")
        drop = f"drop constraint {name}"
        if wanted is None:
            yield Finding(key, "no constraint of the kernel", f"alter table {table} {drop}",
                          "aos_owner")  # fmt: skip
            continue
        change = f"add constraint {name} {wanted}"
        if found is not None:
            change = f"{drop}, {change}"
        what = "the constraint is missing" if found is None else "the constraint was changed"
        yield Finding(key, what, f"alter table {table} {change}", "aos_owner")


def _indexes(setting: Setting) -> Iterable[Finding]:
    for name, wanted, found in setting.differences("indexes"):
        if wanted is None:
            continue  # an index of one's own is nobody's harm
        drop = f"drop index {name}; " if found is not None else ""
        what = "the index is missing" if found is None else "the index was changed"
        yield Finding(name, what, drop + wanted, "aos_owner")


RULES = (
    RLS_OFF,
    RLS_NOT_FORCED,
    OWNER,
    Rule("view-changed", "error", "The views are those that this aosctl installs", _views),
    Rule("column-changed", "error", "The tables have the kernel's columns", _columns),
    Rule("constraint-changed", "error", "The constraints are the kernel's", _constraints),
    Rule("index-changed", "error", "The kernel's indexes are there", _indexes),
)
