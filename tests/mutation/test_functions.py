"""Each SECURITY DEFINER function unpinned, opened or handed over: the doctor names it."""

from __future__ import annotations

from collections.abc import Iterator

from aosctl.db.doctor import functions, sandbox
from aosctl.db.doctor.rule import Setting
from kernels import KernelDatabase


def mutations(database: KernelDatabase) -> Iterator[tuple[str, str]]:
    """Yield each such function of the live catalog with each way to break it."""
    rows = database.rows(
        "select p.oid::regprocedure::text from pg_proc p where p.prosecdef"
        " and p.pronamespace::regnamespace::text like 'aos\\_%%' order by 1"
    )
    for (name,) in rows:
        for change in ("reset search_path", "set search_path = pg_temp, pg_catalog",
                       "set search_path = pg_catalog", "security invoker",
                       "owner to aos_superuser"):  # fmt: skip
            yield name, f"alter function {name} {change}"


def test_every_broken_definer_function_is_named(subject: KernelDatabase) -> None:
    connection = subject.superuser
    rules = (*functions.RULES, *sandbox.RULES)
    untold, total = [], 0
    for name, statement in mutations(subject):
        total += 1
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
            connection.execute("set local search_path = pg_catalog")
            setting = Setting(connection)
            # Those of functions come first: what a broken one is needed for can't be asked.
            if not any(found.object == name for rule in rules for found in rule.check(setting)):
                untold.append(statement)
    assert untold == []
    assert total > 200
