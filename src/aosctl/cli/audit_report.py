"""What `aosctl audit verify` prints: a line a finding, and one that sums up."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aosctl.domain.audit.chain import Problem
    from aosctl.domain.audit.checking import Report

_OF_STEPS = ("step ", "steps ", "call ", "content ")


def line_of(problem: Problem) -> str:
    """Return a finding as a line: where, which number, what, and more about it."""
    place = problem.tenant
    if problem.run is not None:
        place += f"/run.aos/{problem.run}"
    elif problem.stream_id:
        place += f"/{problem.stream_id}"
    number = ""
    if problem.seq is not None:
        number = f" {'step' if problem.what.startswith(_OF_STEPS) else 'event'} {problem.seq}"
    detail = f" ({problem.detail})" if problem.detail else ""
    return f"{place or 'database'}{number}: {problem.what}{detail}\n"


def summary(report: Report) -> str:
    """Return the one line that says what was looked at, and how many findings there are."""
    parts = [
        _count(report.tenants, "tenant"),
        _count(report.streams, "stream"),
        _count(report.events, "event"),
        _count(report.steps, "step"),
    ]
    if report.cut:
        parts.append(f"{_count(report.cut, 'event')} cut by retention")
    if report.heads:
        parts.append(f"{_count(report.heads, 'head')} of the checkpoint")
    if report.unchecked:
        parts.append(f"{_count(report.unchecked, 'head')} of others not checked")
    if report.only:
        parts.append(f"only {report.only}")
    return f"{', '.join(parts)}: {_count(len(report.problems), 'finding')}\n"


def _count(number: int, thing: str) -> str:
    return f"{number or 'no'} {thing}" if number < 2 else f"{number:,} {thing}s"


def as_json(report: Report) -> dict[str, object]:
    """Return the report as JSON says it."""
    counts = {
        "tenants": report.tenants,
        "streams": report.streams,
        "events": report.events,
        "steps": report.steps,
        "cutEvents": report.cut,
        "checkpointHeads": report.heads,
        "uncheckedHeads": report.unchecked,
        "only": report.only,
    }
    return {**counts, "findings": [_camel(problem) for problem in report.problems]}


def _camel(problem: Problem) -> dict[str, object]:
    found = asdict(problem)
    return {"streamId" if name == "stream_id" else name: value for name, value in found.items()}
