"""Run the rules over a database and say what they found."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import psycopg

from aosctl.db.doctor import (
    client,
    functions,
    grants,
    guards,
    people,
    policies,
    roles,
    sandbox,
    server,
    tables,
)
from aosctl.db.doctor.rule import Connection, Files, Finding, Rule, Setting
from aosctl.db.errors import from_psycopg, translated
from aosctl.errors import UsageError

RULES: tuple[Rule, ...] = (
    *tables.RULES,
    *policies.RULES,
    *guards.RULES,
    *functions.RULES,
    *grants.RULES,
    *roles.RULES,
    *sandbox.RULES,
    *people.RULES,
    *server.RULES,
    *client.RULES,
)
_PLAIN = re.compile(r"[a-z_][a-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of a rule, its fix as whoever runs the doctor can paste it."""

    rule: Rule
    object: str
    detail: str
    fix: str
    needs_superuser: bool


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a check found; `unchecked` holds rules that the login may not run, and why."""

    checked: int
    found: tuple[Found, ...]
    unchecked: tuple[tuple[Rule, str], ...]

    def count(self, severity: str) -> int:
        return sum(found.rule.severity == severity for found in self.found)


def choose(only: Sequence[str], ignore: Sequence[str]) -> tuple[Rule, ...]:
    """Return the rules to run. Raises UsageError for a name that is none."""
    known = {rule.id for rule in RULES}
    for name in (*only, *ignore):
        if name not in known:
            raise UsageError(f'there is no rule "{name}"', "aosctl doctor --list")
    return tuple(r for r in RULES if (not only or r.id in only) and r.id not in ignore)


def check(connection: Connection, rules: Sequence[Rule], files: Files) -> Diagnosis:
    """Run rules in one read-only snapshot; the kernel is there. Changes nothing."""
    found, unchecked = list[Found](), list[tuple[Rule, str]]()
    with translated(), connection.transaction():
        connection.execute(
            "set transaction isolation level repeatable read, read only;"
            " set local search_path = pg_catalog; set local aos.tenant_id = ''"
        )
        setting = Setting(connection, files)
        for rule in rules:
            try:
                with connection.transaction():
                    found += [_found(setting, rule, one) for one in rule.check(setting)]
            except psycopg.errors.InsufficientPrivilege as error:
                unchecked.append((rule, from_psycopg(error).message))
    order = {"error": 0, "warning": 1}
    found.sort(key=lambda one: order[one.rule.severity])
    return Diagnosis(len(rules) - len(unchecked), tuple(found), tuple(unchecked))


def _found(setting: Setting, rule: Rule, one: Finding) -> Found:
    return Found(rule, one.object, one.detail, _pasted(setting, one), _is_above(setting, one))


def _is_above(setting: Setting, one: Finding) -> bool:
    """Tell whether the fix takes a superuser, and the login is none."""
    return not setting.is_superuser and one.role in setting.superusers


def _pasted(setting: Setting, one: Finding) -> str:
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
