"""Kind Schedule: a task that an agent is given again and again, by a cron expression."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from aosctl.domain.kinds.base import Column, Entry, Kind, Resource

if TYPE_CHECKING:
    from aosctl.domain.structures import Field, Object

SHOWN = 5
"""How many of the coming slots `describe` shows."""
_NOW = "%Y-%m-%d %H:%M %Z"


def _suspended(row: Resource) -> str:
    """Return True or False as kubectl does, or that it has stopped by itself."""
    return "Stopped" if "stopped" in row.status else str(bool(row.spec.get("suspend")))


def _last(row: Resource) -> datetime | None:
    text = row.status.get("lastScheduleTime")
    return datetime.fromisoformat(text) if text else None


def coming(row: Resource, count: int) -> list[str]:
    """Return the next slots, each on the clock of its time zone; none while it rests."""
    from aosctl.domain.cron import upcoming

    if row.spec.get("suspend") or "stopped" in row.status:
        return []
    zone = row.spec.get("timeZone", "UTC")
    found = upcoming(row.spec.get("schedule", ""), zone, datetime.now(UTC), count)
    return [slot.strftime(_NOW) for slot in found]


def _next(row: Resource) -> str | None:
    return next(iter(coming(row, 1)), None)


def _slot(one: Mapping[str, Any]) -> Entry:
    """Return a past slot as a line: when, what became of it, its run and how that stands."""
    words = [one["outcome"] if not one.get("manual") else "run by hand", one.get("run")]
    state = f"({one['state']})" if "state" in one else None
    reason = f"({one['reason']})" if "reason" in one else None
    return one["time"], " ".join(filter(None, [*words, state, reason]))


class Schedule(Kind):
    name = "Schedule"
    plural = "schedules"
    short_names = ("sched", "cj", "cronjob", "cronjobs")
    db_schema = "aos_agent"
    own_verbs = ("schedule",)
    doc = (
        "A task that an agent is given at the times of a cron expression, in a time zone. Each slot"
        " makes one run, named after the schedule, however many workers there are; `aosctl worker`"
        " fires it. Its runs belong to whoever applied it last; it stops when they may not run"
        " agents any more. See schedules.md."
    )
    example = """\
apiVersion: aos/v1
kind: Schedule
metadata:
  name: morning_report
  tenant: tech_corp
spec:
  agent: my_pg_bot
  schedule: "0 8 * * 1-5"
  timeZone: Europe/Berlin
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 3600
  input: Which orders came in since yesterday, and what was unusual?
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("SCHEDULE", lambda row: row.spec.get("schedule")),
        Column("TIMEZONE", lambda row: row.spec.get("timeZone")),
        Column("SUSPEND", _suspended),
        Column("ACTIVE", lambda row: len(row.status.get("active", ()))),
        Column("LAST SCHEDULE", _last),
        Column("AGE", lambda row: row.created_at),
        Column("NEXT", _next, wide=True),
        Column("AGENT", lambda row: row.spec.get("agent"), wide=True),
        Column("POLICY", lambda row: row.spec.get("concurrencyPolicy"), wide=True),
        Column("MISSED", lambda row: row.status.get("missed"), wide=True),
        Column("APPLIED-BY", lambda row: row.status.get("appliedBy"), wide=True),
    )

    @property
    def fields(self) -> tuple[Field, ...]:  # type: ignore[override]
        """The fields; their own module, as a verb that lists schedules needs none of them."""
        from aosctl.domain.kinds.schedule_spec import FIELDS

        return FIELDS

    @property
    def spec_type(self) -> Object:
        """The type of the spec, with words of its own for what others call the fields."""
        from aosctl.domain.kinds.schedule_spec import SPEC

        return SPEC

    def note(self, rows: Sequence[Resource]) -> str | None:
        """Say so where slots come and no worker looks."""
        late = [row.name for row in rows if row.status.get("overdue")]
        if not late:
            return None
        which = late[0] if len(late) == 1 else f"{len(late)} of these"
        return f"no worker has looked at {which} in time; aosctl worker fires schedules"

    def describe(self, resource: Resource) -> list[Entry]:
        """Return what `describe` prints, with the next slots and what became of the last ones."""
        status = {key: value for key, value in resource.status.items() if key != "history"}
        past = resource.status.get("history", ())
        return [
            *super().describe(resource._replace(status=status)),
            ("Next", coming(resource, SHOWN)),
            ("Last", [_slot(one) for one in past] or None),
        ]
