"""What SQL skills run as, and what was granted to it."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.catalog_sql import IDENTITIES, SCHEMAS
from aosctl.db.doctor.rule import UPGRADE, Finding, Rule, Setting, Unchecked, query_rule

_SIGNATURE = "(text,boolean,integer,integer,text)"


def _functions(setting: Setting) -> Iterable[Finding]:
    named = {f"aos_sandbox.{role}{_SIGNATURE}": role for role in setting.identities}
    for name, wanted, found in setting.differences("functions"):
        if not name.startswith("aos_sandbox."):
            continue
        if wanted is None:
            yield Finding(name, "no sandbox of a SQL identity", f"drop function {name}",
                          "superuser")  # fmt: skip
        elif found is None:
            yield Finding(name, f"{named[name]} has no sandbox function", UPGRADE, is_command=True)
        else:
            yield Finding(name, "the sandbox function was changed", UPGRADE, is_command=True)


_UNSELECTED = "aos_auth.is_admin() and aos_auth.selected_tenant() is null"
"""Who sees every tenant: others can't tell whose an identity is."""
_LONE = """select r.tenant || '/' || r.name from aos_skills.skill_resource r
where r.spec -> 'sql' -> 'grants' <> '[]' and r.status ->> 'sqlRole' is null
union all select t.name from aos_auth.tenant_resource t
where t.status ->> 'sqlRole' is null order by 1"""
_STRAY = f"""select i.rolname from ({IDENTITIES}) i where i.rolname not in (
  select t.status ->> 'sqlRole' from aos_auth.tenant_resource t
  where t.status ->> 'sqlRole' is not null
  union all select r.status ->> 'sqlRole' from aos_skills.skill_resource r
  where r.status ->> 'sqlRole' is not null) order by 1"""


def _see_all(setting: Setting) -> None:
    if setting.rows(f"select {_UNSELECTED}") != [("True",)]:
        raise Unchecked("only a member of aos_admin with no tenant selected sees all identities")


def _missing(setting: Setting) -> Iterable[Finding]:
    _see_all(setting)
    for (owner,) in setting.rows(_LONE):
        yield Finding(owner, "its SQL has no role to run as", UPGRADE, is_command=True)


def _stray(setting: Setting) -> Iterable[Finding]:
    _see_all(setting)
    for (role,) in setting.rows(_STRAY):
        yield Finding(role, "no skill runs as it, and none declares its grants", UPGRADE,
                      is_command=True)  # fmt: skip


CREATES = query_rule(
    "identity-creates", "error", "SQL identities may create, truncate and guard nothing",
    f"""select * from (
    select i.rolname as role, format('it has %s on %s %s', a.privilege_type, o.kind, o.name),
      format('revoke %s on %s %s from %I', lower(a.privilege_type), o.kind, o.name, i.rolname),
      pg_get_userbyid(a.grantor)
    from ({IDENTITIES}) i, lateral (
      select 'database' as kind, quote_ident(datname) as name, datacl as acl from pg_database
      where datname = current_database()
      union all select 'schema', quote_ident(nspname), nspacl from pg_namespace
      union all select 'table', c.oid::regclass::text, c.relacl from pg_class c
      where c.relkind in ('r', 'p', 'v', 'm', 'f')) o, aclexplode(o.acl) a
    where a.grantee = i.oid and a.privilege_type in
      ('CREATE', 'TEMPORARY', 'TRIGGER', 'TRUNCATE', 'REFERENCES', 'MAINTAIN')) found
    order by 1, 2""",
)  # fmt: skip
OWNS = query_rule(
    "identity-owns", "error", "SQL identities own their sandbox function and nothing else",
    f"""select i.rolname, format('it owns %s %s', o.type, o.identity),
    format('alter %s %s owner to %I', o.type, o.identity, current_user), 'superuser'
    from ({IDENTITIES}) i join pg_shdepend d on d.refobjid = i.oid and d.deptype = 'o'
      and d.dbid in (0, (select oid from pg_database where datname = current_database())),
    lateral pg_identify_object(d.classid, d.objid, d.objsubid) o
    where not (d.classid = 'pg_proc'::regclass and o.schema = 'aos_sandbox') order by 1, 2""",
)  # fmt: skip
_GRANTED = f"""
from pg_class c join pg_namespace n on n.oid = c.relnamespace
where n.nspname not in ({SCHEMAS}, 'pg_catalog', 'information_schema')
and exists (select from ({IDENTITIES}) i where exists (
  select from aclexplode(c.relacl) a where a.grantee = i.oid) or exists (
  select from pg_attribute t, aclexplode(t.attacl) a where t.attrelid = c.oid
  and a.grantee = i.oid))"""
OPEN_TABLE = query_rule(
    "business-table-open", "warning", "Tables granted to SQL skills have row-level security",
    f"""select c.oid::regclass, 'SQL skills may use it, and every row of it: it has no row-level'
    || ' security', format('alter table %s enable row level security', c.oid::regclass)
    || case when t.attname is null then '' else format('; create policy tenant on %s using ('
       'tenant_id = (select aos_auth.tenant_of(current_user)))', c.oid::regclass) end,
    pg_get_userbyid(c.relowner)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    left join pg_attribute t on t.attrelid = c.oid and t.attname = 'tenant_id'
    where c.oid in (select c.oid {_GRANTED}) and c.relkind in ('r', 'p')
    and not c.relrowsecurity order by 1""",
)  # fmt: skip
OPEN_VIEW = query_rule(
    "business-view-open", "warning", "Views granted to SQL skills read with the skill's own rights",
    f"""select c.oid::regclass, case
      when current_setting('server_version_num')::int < 150000
      then 'SQL skills see through it: it is no security barrier'
      else format('SQL skills read it with the rights of %I, past the policies that bind them',
                  pg_get_userbyid(c.relowner)) end,
    format('alter view %s set (%s = true)', c.oid::regclass, case
      when current_setting('server_version_num')::int < 150000 then 'security_barrier'
      else 'security_invoker' end), pg_get_userbyid(c.relowner)
    {_GRANTED} and c.relkind = 'v'
    and not coalesce(c.reloptions::text ~ case
      when current_setting('server_version_num')::int < 150000 then 'security_barrier=(true|on|1)'
      else 'security_invoker=(true|on|1)' end, false) order by 1""",
)  # fmt: skip
UNBOUND = query_rule(
    "business-rows-open", "warning", "SQL skills are granted nothing that can't have policies",
    f"""select g.name, format('SQL skills may use it, and every row of it: a %s can have no'
      ' row-level security', g.kind),
    format('revoke all on %s from %s', g.name, string_agg(g.role, ', ' order by g.role)), g.grantor
    from (select distinct c.oid::regclass as name, quote_ident(i.rolname) as role,
        case c.relkind when 'm' then 'materialized view' else 'foreign table' end as kind,
        pg_get_userbyid(a.grantor) as grantor
      from pg_class c join pg_namespace n on n.oid = c.relnamespace
        and n.nspname not in ({SCHEMAS}, 'pg_catalog', 'information_schema'),
      lateral (select x.* from aclexplode(c.relacl) x union all
        select x.* from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
      join ({IDENTITIES}) i on i.oid = a.grantee
      where c.relkind in ('m', 'f')) g
    group by g.name, g.kind, g.grantor order by 1, 4""",
)  # fmt: skip
RULES = (
    Rule("sandbox-function", "error", "Every SQL identity has the kernel's sandbox function",
         _functions),
    Rule("identity-missing", "error",
         "Every skill that declares grants has a SQL identity of its own", _missing),
    Rule("identity-stray", "error", "Every SQL identity is a tenant's, or a skill's with grants",
         _stray),
    CREATES,
    OWNS,
    OPEN_TABLE,
    OPEN_VIEW,
    UNBOUND,
)  # fmt: skip
