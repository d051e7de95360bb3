"""Who can run the fix of a finding, and how it has to be written for them."""

from __future__ import annotations

import re

from aosctl.db.doctor.rule import Finding, Setting

SUPERUSER = "a superuser"
ADMINISTRATOR = "a member of aos_admin"
_KERNEL_OWNER = "aos_owner"
_NAMED = 3
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")
_ABLE = """
select r.rolname from pg_roles r, pg_roles o where o.rolname = %s and r.rolcanlogin
and not r.rolsuper and ({member} or pg_has_role(r.oid, o.oid, 'member with admin option'))
order by 1"""
_MEMBER = {
    True: "pg_has_role(r.oid, o.oid, 'set')",
    False: "r.rolcreaterole or pg_has_role(r.oid, o.oid, 'member')",
}
"""By whether the server is 16 or later: until then CREATEROLE granted any role to itself."""


def needs_superuser(setting: Setting, one: Finding) -> bool:
    """Tell whether the fix takes a superuser, and the login is none."""
    return not setting.is_superuser and one.role in setting.superusers


def whom_to_ask(setting: Setting, one: Finding) -> str:
    """Name who can run the fix; empty when whoever runs the doctor can."""
    if setting.is_superuser or (one.is_command and not one.fix.startswith("aosctl ")):
        return ""
    if one.role in setting.superusers:
        return SUPERUSER
    role = _KERNEL_OWNER if one.is_command else one.role
    if role == "":
        return "" if "aos_admin" in setting.own_roles else ADMINISTRATOR
    if role in setting.own_roles:
        return ""
    able = _able(setting, role)
    if setting.connection.info.user in able:
        return ""
    return " or ".join([*able[:_NAMED], SUPERUSER])


def pasted(setting: Setting, one: Finding) -> str:
    """Return the fix with what lets the login run it: the role that it acts as, for that long."""
    if one.is_command:
        return one.fix
    if one.role in ("", *setting.superusers) or one.role == setting.connection.info.user:
        return f"{one.fix};"
    role = one.role if _PLAIN.fullmatch(one.role) else '"' + one.role.replace('"', '""') + '"'
    acting = f"set role {role}; {one.fix}; reset role;"
    if setting.is_superuser or one.role in setting.own_roles:
        return acting
    return f"grant {role} to current_user; {acting} revoke {role} from current_user;"


def _able(setting: Setting, role: str) -> list[str]:
    """Name the logins that may act as a role, or give it to themselves; no superusers."""
    query = _ABLE.format(member=_MEMBER[setting.version >= 160000])
    found = setting.connection.execute(query.encode(), (role,)).fetchall()
    return [str(name) for (name,) in found]
