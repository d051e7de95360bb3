"""The rights that SQL skills declare: given again where a skill's role lacks them.

That is so after a role was made anew, or when a restored kernel came before the tables.
"""

from __future__ import annotations

import psycopg

from aosctl.db.errors import from_psycopg, to_json

Connection = psycopg.Connection[tuple[object, ...]]

_DECLARED = """
select r.tenant, r.tenant_id, r.name, r.spec -> 'sql' -> 'grants', r.status ->> 'sqlRole',
  r.uid
from aos_skills.skill_resource r
where r.spec -> 'sql' -> 'grants' <> '[]' and r.status ->> 'sqlRole' is not null
order by 1, 3
"""
# From the catalog alone: the login may have no rights on the tables, and need none.
_LACKING = """
select exists (
  select from jsonb_array_elements(%(grants)s::jsonb) x
  cross join lateral jsonb_array_elements_text(x -> 'tables') t(name)
  cross join lateral jsonb_array_elements_text(x -> 'privileges') p(name)
  left join pg_catalog.pg_namespace n on n.nspname = x ->> 'schema'
  left join pg_catalog.pg_class c on c.relnamespace = n.oid and t.name in (c.relname, '*')
    and c.relkind in ('r', 'p', 'v', 'm', 'f')
  where n.oid is null or (c.oid is null and t.name <> '*')
     or not has_schema_privilege(%(role)s, n.oid, 'usage')
     or not case when lower(p.name) = 'delete' or coalesce(x -> 'columns', '[]') = '[]'
                 then has_table_privilege(%(role)s, c.oid, p.name)
                 else has_any_column_privilege(%(role)s, c.oid, p.name) end)
"""


def give_declared(connection: Connection) -> tuple[list[str], list[str]]:
    """Give SQL skills' roles what these declare and lack (aos_skills.change_grants).

    Returns the skills whose rights were given, as TENANT/SKILL, and why others could not be. The
    caller's transaction is open; the login sees every tenant.
    """
    given, remarks = [], []
    for tenant, tenant_id, skill, grants, role, uid in connection.execute(_DECLARED).fetchall():
        values = {
            "grants": to_json(grants), "role": role, "tenant": tenant_id, "skill": uid,
        }  # fmt: skip
        try:
            with connection.transaction():
                row = connection.execute(_LACKING, values).fetchone()
                if row and row[0]:
                    connection.execute(
                        "select aos_skills.change_grants("
                        "%(tenant)s, %(skill)s, %(grants)s, %(grants)s)",
                        values,
                    )
                    given.append(f"{tenant}/{skill}")
        except psycopg.Error as error:
            remarks.append(
                f"skill {tenant}/{skill}: its rights were not given: {from_psycopg(error).message}"
            )
    return given, remarks
