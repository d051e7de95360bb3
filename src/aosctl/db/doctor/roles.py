"""The kernel's roles: their powers, and who belongs to whom."""

from __future__ import annotations

from aosctl.db.doctor.catalog_sql import IDENTITIES
from aosctl.db.doctor.rule import query_rule

# What a role of the cluster may have: its powers in words, and how to take each.
_POWERS = """
lateral (values
  (r.rolsuper, 'superuser'), (r.rolbypassrls, 'bypassrls'), (r.rolcreatedb, 'createdb'),
  (r.rolreplication, 'replication'),
  (r.rolcreaterole and r.rolname <> 'aos_provisioner', 'createrole'),
  (r.rolcanlogin and r.rolname <> 'aos_worker', 'login')) p (has, power)"""
# From 16 on, whoever creates a role may grant it, without having its rights: neither inherits nor
# sets. Such a membership gives nothing.
_EFFECTIVE = """coalesce((to_jsonb(m) ->> 'inherit_option')::boolean
  or (to_jsonb(m) ->> 'set_option')::boolean, true)"""
_TAKE_BACK = """format('revoke %I from %I%s', o.rolname, r.rolname,
  case when current_setting('server_version_num')::int >= 160000
  then format(' granted by %I', pg_get_userbyid(m.grantor)) else '' end)"""
_MEMBERS = """from pg_auth_members m join pg_roles o on o.oid = m.roleid
  join pg_roles r on r.oid = m.member"""
KERNELS = "('aos_owner', 'aos_kernel', 'aos_lookup', 'aos_view', 'aos_provisioner', 'aos_backup')"
_GROUPS = "('aos_admin', 'aos_developer', 'aos_auditor', 'aos_viewer')"
_KNOWN = """(values ('aos_developer', 'aos_viewer'), ('aos_auditor', 'aos_viewer'),
  ('aos_admin', 'aos_developer'), ('aos_admin', 'aos_auditor')) k (member, role)"""


def _powers(condition: str) -> str:
    return f"""select r.rolname, 'it has ' || upper(p.power),
      format('alter role %I no%s', r.rolname, p.power), 'superuser'
      from pg_roles r, {_POWERS} where p.has and {condition} order by 1, 2"""


POWERS = query_rule(
    "role-powers", "error", "The kernel's roles and groups have no power over the cluster",
    _powers(f"(r.rolname in {KERNELS} or r.rolname in {_GROUPS})"),
)  # fmt: skip
MEMBER = query_rule(
    "role-member", "error", "Nobody is a member of the roles that own the kernel",
    f"""select r.rolname, format('it is a member of %I and has its rights', o.rolname),
    {_TAKE_BACK}, 'superuser' {_MEMBERS}
    where {_EFFECTIVE} and o.rolname in {KERNELS} order by 1, 2""",
)  # fmt: skip
MEMBERSHIP = query_rule(
    "role-membership", "error", "The kernel's roles and groups belong to no others",
    f"""select r.rolname, format('it is a member of %I and has its rights', o.rolname),
    {_TAKE_BACK}, 'superuser' {_MEMBERS}
    where {_EFFECTIVE} and (r.rolname in {KERNELS} or r.rolname in {_GROUPS})
    and o.rolname not in {KERNELS}
    and not exists (select from {_KNOWN} where k.member = r.rolname and k.role = o.rolname)
    order by 1, 2""",
)  # fmt: skip
INCLUDED = query_rule(
    "role-included", "error", "aos_admin includes aos_developer and aos_auditor, these aos_viewer",
    f"""select k.member, format('it does not include %I', k.role),
    format('grant %I to %I', k.role, k.member), 'superuser'
    from {_KNOWN} where not exists (
      select {_MEMBERS} where r.rolname = k.member and o.rolname = k.role) order by 1, 2""",
)  # fmt: skip
WORKER_POWERS = query_rule(
    "worker-powers",
    "error",
    "aos_worker is a login without powers",
    _powers("r.rolname = 'aos_worker'"),
)
WORKER_MEMBER = query_rule(
    "worker-membership", "error", "aos_worker is a member of nothing",
    f"""select r.rolname, format('it is a member of %I', o.rolname), {_TAKE_BACK}, 'superuser'
    {_MEMBERS} where {_EFFECTIVE} and r.rolname = 'aos_worker' order by 2""",
)  # fmt: skip
WORKER_OWNS = query_rule(
    "worker-owns", "error", "aos_worker owns nothing",
    """select o.identity, 'it belongs to aos_worker: what runs at COMMIT acts as its owner',
    format('alter %s %s owner to aos_owner', o.type, o.identity), 'superuser'
    from pg_shdepend d, lateral pg_identify_object(d.classid, d.objid, d.objsubid) o
    where d.refobjid = 'aos_worker'::regrole and d.deptype = 'o'
    and d.dbid in (0, (select oid from pg_database where datname = current_database()))
    order by 1""",
)  # fmt: skip
WORKER_TABLES = query_rule(
    "worker-table", "error", "aos_worker has no right on any table of the database",
    """select c.oid::regclass, 'aos_worker has ' || lower(a.privilege_type),
    format('revoke %s on %s from aos_worker', lower(a.privilege_type), c.oid::regclass),
    pg_get_userbyid(a.grantor)
    from pg_class c join pg_namespace n on n.oid = c.relnamespace, aclexplode(c.relacl) a
    where n.nspname !~ '^(aos_|pg_|information_schema)' and a.grantee = 'aos_worker'::regrole
    order by 1, 2""",
)  # fmt: skip
IDENTITY_POWERS = query_rule(
    "identity-powers", "error", "SQL identities are no logins and have no powers",
    _powers(f"r.oid in (select i.oid from ({IDENTITIES}) i)"),
)  # fmt: skip
IDENTITY_MEMBER = query_rule(
    "identity-membership", "error", "SQL identities are members of nothing and have no members",
    f"""select case when r.rolname like 'aos\\_sql\\_%' then r.rolname else o.rolname end,
    format('%I is a member of %I', r.rolname, o.rolname), {_TAKE_BACK}, 'superuser'
    {_MEMBERS} where {_EFFECTIVE}
    and (m.member in (select i.oid from ({IDENTITIES}) i)
         or m.roleid in (select i.oid from ({IDENTITIES}) i)) order by 1, 2""",
)  # fmt: skip
RULES = (
    POWERS, MEMBER, MEMBERSHIP, INCLUDED, WORKER_POWERS, WORKER_MEMBER, WORKER_OWNS, WORKER_TABLES,
    IDENTITY_POWERS, IDENTITY_MEMBER,
)  # fmt: skip
