"""Triggers that guard the tables, and the partitions of the event log."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.catalog_sql import OURS
from aosctl.db.doctor.rule import UPGRADE, Finding, Rule, Setting, query_rule


def _triggers(setting: Setting) -> Iterable[Finding]:
    for key, wanted, found in setting.differences("triggers"):
        drop = "drop trigger " + key
        if wanted is None:
            yield Finding(key, "no trigger of the kernel", drop, "aos_owner")
        elif found is None:
            yield Finding(key, "the trigger is missing", wanted, "aos_owner")
        else:
            yield Finding(key, "the trigger was changed", f"{drop}; {wanted}", "aos_owner")


DISABLED = query_rule(
    "trigger-disabled", "error", "Every trigger of the kernel's tables is enabled",
    f"""select t.tgname || ' on ' || c.oid::regclass,
    'the trigger does not fire' || case t.tgenabled when 'D' then '' else ' in usual sessions' end,
    format('alter table %s enable trigger %I', c.oid::regclass, t.tgname),
    case when t.tgisinternal then 'superuser' else 'aos_owner' end
    from pg_trigger t join pg_class c on c.oid = t.tgrelid
    join pg_namespace n on n.oid = c.relnamespace
    where {OURS} and t.tgenabled not in ('O', 'A') order by 1""",
)  # fmt: skip
_PARTITIONS = """
pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = 'aos_core.event_log'::regclass"""
UNGUARDED = query_rule(
    "partition-unguarded", "error", "Every partition of the event log refuses TRUNCATE",
    f"""select c.oid::regclass, 'TRUNCATE empties the partition: its guard is missing',
    format('create trigger append_only_truncate before truncate on %s for each statement '
           'execute function aos_core.refuse_change()', c.oid::regclass), 'aos_owner'
    from {_PARTITIONS} and not exists (
      select from pg_trigger t where t.tgrelid = c.oid and t.tgtype & 34 = 34
      and t.tgfoid = 'aos_core.refuse_change()'::regprocedure) order by 1""",
)  # fmt: skip
_MONTHS = f"""
select to_char(m, 'YYYY_MM') from generate_series(date_trunc('month', now() at time zone 'UTC'),
  date_trunc('month', now() at time zone 'UTC') + interval '2 months', interval '1 month') m
where not exists (select from {_PARTITIONS} and c.relname = 'event_log_' || to_char(m, 'YYYY_MM'))
order by 1"""


def _months(setting: Setting) -> Iterable[Finding]:
    """Where the kernel is an extension, its versions bring the partitions."""
    for (month,) in setting.rows(_MONTHS):
        name, what = f"aos_core.event_log_{month}", "the month's partition is not made yet"
        if setting.is_extension:
            yield Finding(name, what, UPGRADE, is_command=True)
        else:
            yield Finding(name, what, "select aos_core.ensure_partitions()")


RULES = (
    Rule("trigger-changed", "error", "The triggers are those of the kernel", _triggers),
    DISABLED,
    UNGUARDED,
    Rule(
        "partition-ahead", "warning", "The event log has a partition for the next months", _months
    ),
)
