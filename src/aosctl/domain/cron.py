"""Cron expressions in a time zone: what is wrong with one, and the slots that it names.

The slots are those of Debian's cron, as `cronsim` computes them: a time that a change to summer
time skips comes right after it, one that is there twice comes once; an expression whose minute or
hour begins with `*` follows the clock on the wall through both.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from aosctl.domain.names import nearest, quoted

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
MOST_MISSED = 1_000
"""How many slots that nobody saw are told one by one: the last of them."""
_MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
_DAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]
_LONGEST = 200
_ZONE = r"[A-Za-z_]+(?:/[A-Za-z0-9_+-]+)*|[ECMP]ST[5-8][ECMP]DT"
_NO_ZONES = ("posix", "right", "Factory", "localtime", "posixrules", "Local")


class _Field(NamedTuple):
    """One of the five: what it is called, what it may be, the names that stand for numbers."""

    name: str
    least: int
    most: int
    words: Sequence[str] = ()

    @property
    def range(self) -> str:
        return f"{self.least}-{self.most}" + (f" or {self.words[0]}-…" if self.words else "")


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("day of week", 0, 7, _DAYS),
)


class Due(NamedTuple):
    """What has come between two moments: the last slot, those before it, and the one after now."""

    slot: datetime | None
    missed: tuple[datetime, ...]
    next: datetime | None


def due(expression: str, zone: str, after: datetime, now: datetime) -> Due:
    """Return what has come after one moment until another.

    Looks back a day, a week and so on, until it has all that is told: so a long absence costs
    little, also of a schedule that had a slot every minute of it.
    """
    back = timedelta(days=1)
    while True:
        begin = max(after, now - back)
        seen, following = _until(expression, zone, begin, now)
        if begin == after or len(seen) > MOST_MISSED:
            return Due(seen.pop() if seen else None, tuple(seen), following)
        back *= 7


def _until(
    expression: str, zone: str, after: datetime, now: datetime
) -> tuple[deque[datetime], datetime | None]:
    """Return the last slots between two moments, and the one that comes then."""
    seen: deque[datetime] = deque(maxlen=MOST_MISSED + 1)
    for slot in slots(expression, zone, after):
        if slot > now:
            return seen, slot
        seen.append(slot)
    return seen, None


def slots(expression: str, zone: str, after: datetime) -> Iterator[datetime]:
    """Yield the slots after a moment, in UTC, each later than the one before.

    Raises ValueError for an expression or a time zone that this machine can't read.
    """
    from cronsim import CronSim, CronSimError

    if fault := zone_fault(zone):
        raise ValueError(fault)
    try:
        found = CronSim(spelled(expression), after.astimezone(_zone(zone)))
    except CronSimError as error:
        raise ValueError(f"{quoted(expression)}: {error}") from error
    last = after.astimezone(UTC)
    for moment in found:  # in an hour that is there twice, or not at all, they may come again
        slot = moment.astimezone(UTC)
        if slot > last:
            last = slot
            yield slot


def upcoming(expression: str, zone: str, after: datetime, count: int) -> list[datetime]:
    """Return the next slots after a moment, in their time zone; none where it can't be read."""
    found: list[datetime] = []
    try:
        for slot in slots(expression, zone, after):
            found.append(slot.astimezone(_zone(zone)))
            if len(found) == count:
                break
    except ValueError:
        return []
    return found


def spelled(expression: str) -> str:
    """Return the five fields that an expression or a nickname stands for."""
    return NICKNAMES.get(expression.strip().lower(), expression)


def fault_of(expression: str) -> str | None:
    """Say what is wrong with a cron expression, in which field, and what may be meant."""
    text = expression.strip()
    if len(text) > _LONGEST:
        return f"is {len(text)} characters long; at most {_LONGEST} fit"
    if text.upper().startswith(("TZ=", "CRON_TZ=")):
        return "must not name a time zone; it stands in spec.timeZone"
    if text.startswith("@"):
        return _nickname_fault(text)
    fields = text.split()
    if len(fields) != len(_FIELDS):
        return _count_fault(fields)
    for place, (field, written) in enumerate(zip(_FIELDS, fields, strict=True), start=1):
        fault = _field_fault(field, written)
        if fault is not None:
            return f"{quoted(text)}: {field.name} (field {place}): {fault}"
    return _never_fault(text)


def zone_fault(zone: str) -> str | None:
    """Say why a text is no time zone of the IANA database, and which one may be meant."""
    import zoneinfo

    if re.fullmatch(_ZONE, zone) and zone.split("/")[0] not in _NO_ZONES:
        try:
            _zone(zone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
            pass
        else:
            return None
    known = [name for name in zoneinfo.available_timezones() if name not in _NO_ZONES]
    near = nearest(zone, sorted(known)) or _of_city(zone, known)
    advice = f"did you mean {quoted(near)}?" if near else "such as Europe/Berlin or UTC"
    return f"{quoted(zone)} is no time zone of the IANA database; {advice}"


def _of_city(typed: str, known: Sequence[str]) -> str | None:
    """Find `Europe/Berlin` where somebody has typed `Berlin`."""
    cities = {name.rpartition("/")[2]: name for name in sorted(known)}
    found = nearest(typed.rpartition("/")[2].replace(" ", "_"), cities)
    return cities[found] if found else None


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    import zoneinfo

    return zoneinfo.ZoneInfo(name)


def _nickname_fault(text: str) -> str | None:
    if text.lower() in NICKNAMES:
        return None if text in NICKNAMES else f"is written {quoted(text.lower())}"
    if text.startswith("@every"):
        return '"@every" has no times to hold on to; write every 15 minutes as */15 * * * *'
    near = nearest(text, NICKNAMES)
    advice = f"did you mean {quoted(near)}?" if near else f"there are {', '.join(NICKNAMES)}"
    return f"{quoted(text)} is none of cron's names; {advice}"


def _count_fault(fields: Sequence[str]) -> str:
    names = ", ".join(field.name for field in _FIELDS)
    text = f"has {len(fields)} field{'s' * (len(fields) != 1)} and takes five: {names}"
    if len(fields) == len(_FIELDS) + 1:
        return f"{text}; there are no seconds: did you mean {quoted(' '.join(fields[1:]))}?"
    return f"{text}; such as 0 8 * * 1-5"


def _field_fault(field: _Field, written: str) -> str | None:
    """Say what is wrong with a field: a list of items, each a range with a step perhaps."""
    if "?" in written:
        return 'there is no "?" in cron; write *'
    for item in written.split(","):
        fault = _item_fault(field, item)
        if fault is not None:
            return fault
    return None


def _item_fault(field: _Field, item: str) -> str | None:
    if not item:
        return "an item of its list is empty"
    if item.upper() in _special(field):
        return None
    body, slash, step = item.partition("/")
    if slash and (not step.isdecimal() or int(step) == 0):
        return f"{quoted(item)} has no step; such as */15"
    if slash and int(step) > field.most:
        return f"{quoted(item)}: a step of {step} is beyond {field.range}"
    if body == "*":
        return None
    if field is _FIELDS[-1] and re.fullmatch(r"[0-7]L|\w+#[1-5]", body.upper()):
        body = re.split("[L#]", body.upper())[0] if "#" not in body else body.split("#")[0]
    first, dash, last = body.partition("-")
    for word in (first, last) if dash else (first,):
        fault = _word_fault(field, word)
        if fault is not None:
            return fault
    if dash and _number(field, last) < _number(field, first):
        return _backwards(field, first, last)
    return None


def _special(field: _Field) -> tuple[str, ...]:
    """Return what else may stand in a field: the last day of a month, the last working day."""
    return ("L", "LW") if field is _FIELDS[2] else ()


def _number(field: _Field, word: str) -> int:
    upper = word.upper()
    return list(field.words).index(upper) + field.least if upper in field.words else int(word)


def _word_fault(field: _Field, word: str) -> str | None:
    if word.upper() in field.words:
        return None
    if word.isdecimal() and word.isascii():
        number = int(word)
        if field.least <= number <= field.most:
            return None
        closest = min(max(number, field.least), field.most)
        return f"{word[:10]} is not in {field.range}; the nearest is {closest}"
    near = nearest(word, field.words) if field.words else None
    near = near or next((one for one in field.words if word.upper().startswith(one)), None)
    advice = f"; did you mean {near}?" if near else f"; it takes {field.range}"
    return f"{quoted(word)} is no {field.name}{advice}"


def _backwards(field: _Field, first: str, last: str) -> str:
    low, high = _number(field, first), _number(field, last)
    if field is _FIELDS[-1] and high == 0:
        return f"{first}-{last} runs backwards; write {low}-7"
    end = 6 if field is _FIELDS[-1] else field.most
    meant = f"{low}-{end},{field.least}-{high}"
    return f"{first}-{last} runs backwards; write {meant}"


def _never_fault(text: str) -> str | None:
    """Say so where no day is ever meant, as the 30th of February."""
    from cronsim import CronSim, CronSimError

    try:
        next(CronSim(text, datetime(2024, 1, 1, tzinfo=UTC) - timedelta(minutes=1)))
    except (CronSimError, StopIteration):
        return f"{quoted(text)} names no day that ever comes"
    return None
