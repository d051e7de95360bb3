"""Each grant taken away, and each object opened to everybody: a call or a statement ends otherwise.

Every grant on a schema, table, view and function of the live catalog, as its ACL has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from aosctl.db.doctor import grants
from aosctl.db.doctor.catalog_sql import GRANTS
from aosctl.db.doctor.rule import Setting
from kernels import KernelDatabase
from probes import Caller, Reach, outcomes


class Mutation(NamedTuple):
    """A right that is given or taken; `probe` is what `who` tries before and after."""

    name: str
    statement: str
    object: str
    who: str
    probe: str


# A statement that needs exactly one right, on no row at all.
_TRIES = {
    "select": "select count({column}) from {name}",
    "insert": "insert into {name} ({column}) select null where false",
    "update": "update {name} set {column} = default where false",
    "delete": "delete from {name} where false",
    "usage": "select to_regclass('{name}.nothing')::text",
    "create": "create table {name}.probe ()",
}
_CALLS = """
select p.oid::regprocedure::text, format('select %s(%s)::text', p.oid::regproc, coalesce((
  select string_agg(format('null::%s', t::regtype), ', ' order by n)
  from unnest(p.proargtypes::oid[]) with ordinality u (t, n)), '')),
  p.prorettype <> 'trigger'::regtype
from pg_proc p where p.pronamespace::regnamespace::text like 'aos\\_%%'"""


class Tries:
    """What to try for a right on an object."""

    def __init__(self, database: KernelDatabase) -> None:
        self._calls = {row[0]: row[1] for row in database.rows(_CALLS) if row[2]}
        self._columns: dict[str, list[str]] = dict(database.rows(
            "select c.oid::regclass::text, array_agg(quote_ident(a.attname)"
            " order by a.attname <> 'title', a.attnum) from pg_class c"
            " join pg_attribute a on a.attrelid = c.oid and a.attnum > 0"
            " and not a.attisdropped and a.attgenerated = ''"
            " where c.relkind in ('r', 'p', 'v') and c.relnamespace::regnamespace::text"
            " like 'aos\\_%%' group by 1"
        ))  # fmt: skip

    def of(self, kind: str, name: str, privilege: str) -> str:
        """Return a statement that needs the privilege; '' for a trigger's function."""
        if kind == "function":
            return self._calls.get(name, "")
        verb, _, column = privilege.partition(" (")
        column = column.rstrip(")") or (self._columns[name][0] if kind != "schema" else "")
        return _TRIES[verb].format(name=name, column=column)

    def objects(self) -> Iterator[tuple[str, str, str]]:
        """Yield kind, name and a privilege of everything that could be opened."""
        yield from (("function", name, "execute") for name in self._calls)
        for name in self._columns:
            yield "table", name, "select"


def mutations(database: KernelDatabase) -> Iterator[Mutation]:
    tries = Tries(database)
    database.superuser.execute("set search_path = pg_catalog")
    rights = database.rows(
        f"select object, grantee, privilege, grantor from ({GRANTS}) g order by 1, 2, 3"
    )
    database.superuser.execute("reset search_path")
    for target, grantee, privilege, grantor in rights:
        kind, _, name = target.partition(" ")
        what = name if kind in ("table", "partition") else target
        plain, _, option = privilege.partition(" with ")
        change = f"revoke {plain} on {what} from {grantee} cascade"
        probe = tries.of(kind, name, plain)
        if kind == "partition":
            continue  # aos_backup's, which the doctor lets be or not be
        acting = f"set role {grantor}; %s; reset role" if grantor == "aos_provisioner" else "%s"
        yield Mutation(f"revoke {privilege} on {target} from {grantee}", acting % change, target,
                       grantee, probe)  # fmt: skip
        if option:
            change = change.replace("revoke ", "revoke grant option for ", 1)
            yield Mutation(f"{grantee} may not pass on {plain} on {target}", acting % change,
                           target, grantee, "")  # fmt: skip
    for kind, name, privilege in tries.objects():
        what = name if kind == "table" else f"{kind} {name}"
        change = f"grant {privilege} on {what} to public"
        # Into the schema of the sandboxes nobody comes in the first place.
        probe = "" if name.startswith("aos_sandbox.") else tries.of(kind, name, privilege)
        yield Mutation(change, change, name, "aos_worker", probe)


def test_every_right_that_is_taken_or_given_is_noticed(
    subject: KernelDatabase, reach: Reach
) -> None:
    connection = subject.superuser
    untold, unfelt, felt, total = [], [], 0, 0
    for mutation in mutations(subject):
        total += 1
        caller = Caller("who", role=mutation.who, tenant=reach.here, kernel=reach.here)
        with connection.transaction(force_rollback=True):
            before = _try(reach, caller, mutation.probe)
            connection.execute(mutation.statement.encode())
            after = _try(reach, caller, mutation.probe)
            if before != after:
                felt += 1
            elif mutation.probe and _decides(mutation, before[0]):
                unfelt.append(mutation.name)
            connection.execute("set local search_path = pg_catalog")
            setting = Setting(connection)
            told = [found.object for rule in grants.RULES for found in rule.check(setting)]
            if not any(mutation.object in name for name in told):
                untold.append(mutation.name)
    assert (untold, unfelt) == ([], [])
    assert total > 500 and felt > 0.9 * total, f"{felt} of {total} are felt"


def _try(reach: Reach, caller: Caller, probe: str) -> list[str]:
    return outcomes(reach.connection, caller, [probe]) if probe else []


def _decides(mutation: Mutation, before: str) -> bool:
    """Tell whether it is this right alone that lets the prober through, or keeps it out.

    A view's functions are another right, which aos_backup lacks; the worker has its functions.
    """
    return (not before.startswith("42501")) == mutation.statement.startswith(("revoke", "set role"))
