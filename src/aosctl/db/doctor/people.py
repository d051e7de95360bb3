"""Who may do what: the logins that act as principals, and what roles may use."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.roles import KERNELS
from aosctl.db.doctor.rule import Finding, Rule, Setting, Unchecked

_PASSING = f"""
select x.name || ' of ' || n.name, format('its login %I %s', x.db_role, w.what),
    format('update aos_auth.principal set db_role = null where tenant_id = %L and name = %L',
           x.tenant_id, x.name), ''
    from aos_auth.principal x join aos_auth.tenant n on n.tenant_id = x.tenant_id
    join pg_roles r on r.rolname = x.db_role
    join lateral (select case
      when r.rolsuper then 'is a superuser: no policy binds it'
      when r.rolbypassrls then 'has BYPASSRLS: no policy binds it'
      when r.rolname = 'aos_worker' then 'drives the turns of all tenants'
      when r.rolname like 'aos\\_sql\\_%' then 'is what SQL skills run as'
      when exists (select from pg_roles o where o.rolname in {KERNELS}
                   and pg_has_role(r.oid, o.oid, 'usage')) then 'has the rights of the kernel'
      when x.principal_type = 'agent' then 'is a person''s, and the principal is an agent'
      end as what) w on w.what is not null
    order by 1"""


def _principals(setting: Setting) -> Iterable[Finding]:
    if "aos_admin" not in setting.own_roles:
        raise Unchecked("only a member of aos_admin sees the principals of all tenants")
    rows = setting.rows(_PASSING)
    return [Finding(obj, detail, fix, role) for obj, detail, fix, role in rows]


_OUTDATED = """select format('%s of role %s in %s', o.skill_name, o.role_name, o.tenant),
  format('update aos_skills.role_skill set marks = 0 where role_name = %L and skill_name = %L'
         ' and tenant_id = %L', o.role_name, o.skill_name, t.tenant_id)
  from aos_skills.outdated_permissions() o
  join aos_core.audit_tenants() t on t.name = o.tenant and t.deleted_at is null order by 1"""


def _outdated(setting: Setting) -> Iterable[Finding]:
    if "aos_admin" not in setting.own_roles:
        raise Unchecked("only a member of aos_admin sees the permissions of all tenants")
    for permission, fix in setting.rows(_OUTDATED):
        yield Finding(permission, "the gate does not judge by the skill as it is", fix)


RULES = (
    Rule(
        "principal-powers", "warning", "No principal's login passes the policies by other ways",
        _principals,
    ),
    Rule("permission-outdated", "error", "The gate judges by the skills as they are", _outdated),
)  # fmt: skip
