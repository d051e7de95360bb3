"""Logins that act as principals, beside what else they may do."""

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


RULES = (
    Rule(
        "principal-powers", "warning", "No principal's login passes the policies by other ways",
        _principals,
    ),
)  # fmt: skip
