"""Run the rules over a database and say what they found."""

from __future__ import annotations

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
    schedules,
    server,
    tables,
    versions,
)
from aosctl.db.doctor.rule import Connection, Files, Finding, Rule, Setting, Unchecked
from aosctl.db.doctor.whom import needs_superuser, pasted, whom_to_ask
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
    *schedules.RULES,
    *versions.RULES,
    *server.RULES,
    *client.RULES,
)


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of a rule, and its fix as it can be pasted.

    `ask` names who can run the fix; it is empty when whoever runs the doctor can.
    """

    rule: Rule
    object: str
    detail: str
    fix: str
    needs_superuser: bool
    ask: str


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """What a check found; `unchecked` holds rules that the login can't evaluate, and why."""

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
            except Unchecked as error:
                unchecked.append((rule, str(error)))
    order = {"error": 0, "warning": 1}
    found.sort(key=lambda one: order[one.rule.severity])
    return Diagnosis(len(rules) - len(unchecked), tuple(found), tuple(unchecked))


def _found(setting: Setting, rule: Rule, one: Finding) -> Found:
    return Found(
        rule, one.object, one.detail, pasted(setting, one), needs_superuser(setting, one),
        whom_to_ask(setting, one),
    )  # fmt: skip
