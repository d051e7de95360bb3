"""Schedules: that somebody fires them."""

from __future__ import annotations

from collections.abc import Iterable

from aosctl.db.doctor.rule import Finding, Rule, Setting, Unchecked

_OVERDUE = """select format('%s of %s', s.name, s.tenant), s.status ->> 'nextScheduleTime'
    from aos_agent.schedule_resource s where s.status ? 'overdue' order by 1"""


def _overdue(setting: Setting) -> Iterable[Finding]:
    if "aos_admin" not in setting.own_roles:
        raise Unchecked("only a member of aos_admin sees the schedules of all tenants")
    for schedule, slot in setting.rows(_OVERDUE):
        since = f"its slot of {slot} has come" if slot else "its slots are still to be worked out"
        detail = f"{since}, and no worker has looked; keep one running (aosctl worker)"
        yield Finding(schedule, detail, "aosctl worker --once", is_command=True)


RULES = (Rule("schedules-fired", "warning", "Workers fire the schedules in time", _overdue),)
