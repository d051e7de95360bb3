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
_LACKING = "select exists (select from aos_skills.lacking_grants(%(role)s, %(grants)s))"


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
