"""Who may do what with the kernel's objects: exactly what an install grants."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import NamedTuple

from aosctl.db.doctor.catalog_sql import GRANTS
from aosctl.db.doctor.rule import Finding, Rule, Setting, query_rule

_WITH_OPTION = " with grant option"


class Right(NamedTuple):
    """One privilege: `kind` is schema, table, partition or function."""

    kind: str
    object: str
    grantee: str
    privilege: str

    def grant(self) -> str:
        privilege, _, option = self.privilege.partition(" with ")
        what = self.object if self.kind in ("table", "partition") else f"{self.kind} {self.object}"
        end = _WITH_OPTION if option else ""
        return f"grant {privilege} on {what} to {self.grantee}{end}"

    def revoke(self) -> str:
        what = self.object if self.kind in ("table", "partition") else f"{self.kind} {self.object}"
        privilege = self.privilege.removesuffix(_WITH_OPTION)
        return f"revoke {privilege} on {what} from {self.grantee} cascade"


def _rights(section: Mapping[str, str]) -> set[Right]:
    found = set()
    for key, privileges in section.items():
        target, _, grantee = key.rpartition(" to ")
        kind, _, name = target.partition(" ")
        found |= {Right(kind, name, grantee, one) for one in privileges.split(", ")}
    return found


def _missing(setting: Setting) -> Iterable[Finding]:
    absent = _rights(setting.wanted["grants"]) - _rights(setting.live["grants"])
    there = {key.rpartition(" to ")[0] for key in setting.live["grants"]}
    owners = setting.live["owners"]
    for right in sorted(absent):
        if right.kind == "function" and right.object not in owners:
            continue  # the function is missing: another rule
        if right.kind == "table" and f"table {right.object}" not in there:
            continue
        role = "aos_owner" if right.kind != "function" else owners[right.object]
        role = "aos_view" if _is_view(setting, right.object) else role
        name = f"{right.kind} {right.object}"
        yield Finding(name, f"{right.grantee} lacks {right.privilege}", right.grant(), role)


def missing_on_code(setting: Setting) -> list[str]:
    """Return the GRANTs that functions and views which are there lack."""
    absent = _rights(setting.wanted["grants"]) - _rights(setting.live["grants"])
    there = setting.live["owners"].keys() | setting.live["views"].keys()
    return [right.grant() for right in sorted(absent) if right.object in there]


def _is_view(setting: Setting, name: str) -> bool:
    return name in setting.wanted["views"] or name in setting.live["views"]


@lru_cache(maxsize=1)
def _extra(setting: Setting) -> list[Right]:
    """List the rights that no install gives; aos_backup may read partitions, or not."""
    wanted = _rights(setting.wanted["grants"])
    return [
        right
        for right in sorted(_rights(setting.live["grants"]) - wanted)
        if (right.kind != "partition" or right[2:] != ("aos_backup", "select"))
        # without its grant option it is a right that is missing, not one too many
        and right._replace(privilege=right.privilege + _WITH_OPTION) not in wanted
    ]


def _grantors(setting: Setting) -> dict[tuple[str, str], str]:
    """Return who granted each right: by the object and grantee, and the privilege."""
    query = f"select object || ' to ' || grantee, privilege, min(grantor) from ({GRANTS}) g"
    return {(row[0], row[1]): row[2] for row in setting.rows(query + " group by 1, 2")}


def _found(setting: Setting, matches: str) -> Iterable[Finding]:
    surplus = [right for right in _extra(setting) if _rule_of(right) == matches]
    grantors = _grantors(setting) if surplus else {}
    for right in surplus:
        who = "PUBLIC" if right.grantee == "public" else right.grantee
        detail = f"{who} has {right.privilege}, which no install grants"
        grantor = grantors[f"{right.kind} {right.object} to {right.grantee}", right.privilege]
        # What a SQL identity granted on its own function it can't reach to take back.
        role = "superuser" if right.object.startswith("aos_sandbox.") else grantor
        yield Finding(f"{right.kind} {right.object}", detail, right.revoke(), role)


def _rule_of(right: Right) -> str:
    """Return the one rule that reports a right."""
    if right.grantee == "public":
        return "public-execute" if right.kind == "function" else "public-grant"
    if right.grantee == "aos_worker" and right.kind != "schema":
        return "worker-grant"
    if right.kind == "schema" and right.object == "aos_sandbox":
        return "sandbox-grant"
    return "grant-extra"


def _rule(id_: str, title: str) -> Rule:
    return Rule(id_, "error", title, lambda setting: _found(setting, id_))


DEFAULTS = query_rule(
    "default-privileges", "error", "What the kernel's roles create starts closed to PUBLIC",
    """select 'role ' || r, 'functions that it creates are open to PUBLIC',
    format('alter default privileges for role %s revoke execute on functions from public', r), r
    from unnest(array['aos_kernel', 'aos_owner', 'aos_provisioner']) r
    where not exists (
      select from pg_default_acl d where pg_get_userbyid(d.defaclrole) = r
      and d.defaclnamespace = 0 and d.defaclobjtype = 'f'
      and not exists (select from aclexplode(d.defaclacl) a where a.grantee = 0)) order by 1""",
)  # fmt: skip
RULES = (
    _rule("public-execute", "PUBLIC may execute no function of the kernel"),
    _rule("public-grant", "PUBLIC has no right on the kernel's schemas, tables and views"),
    _rule("worker-grant", "aos_worker has its functions and no table"),
    _rule("sandbox-grant", "Nobody but the kernel uses the schema of the sandbox functions"),
    _rule("grant-extra", "Nobody has a right that no install grants"),
    Rule("grant-missing", "error", "Everybody has what an install grants", _missing),
    DEFAULTS,
)
