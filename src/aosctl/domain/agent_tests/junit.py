"""The results of tests as JUnit XML, in the form that its common schema allows."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from xml.etree import ElementTree as xml

from aosctl.domain.agent_tests.results import Broken, CaseResult, counts

_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that no XML may hold."""


def junit(results: Sequence[CaseResult], hostname: str, began: datetime) -> str:
    """Return the results as an XML document, a suite for each test."""
    root = xml.Element("testsuites")
    groups = groupby(results, key=lambda one: (one.place.file, one.suite))
    for number, ((file, name), cases) in enumerate(groups):
        root.append(_suite(number, file, name, list(cases), hostname, began))
    xml.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{xml.tostring(root, encoding="unicode")}\n'


def _suite(
    number: int, file: str, name: str, cases: list[CaseResult], hostname: str, began: datetime
) -> xml.Element:
    found = counts(cases)
    suite = xml.Element(
        "testsuite",
        {
            "package": _safe(file),
            "id": str(number),
            "name": _safe(name),
            "timestamp": began.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S"),
            "hostname": _safe(hostname),
            "tests": str(len(cases)),
            "failures": str(found["failed"]),
            "errors": str(found["error"]),
            "time": _seconds(sum(one.seconds for one in cases)),
        },
    )
    xml.SubElement(suite, "properties")
    for case in cases:
        suite.append(_case(case))
    xml.SubElement(suite, "system-out")
    xml.SubElement(suite, "system-err")
    return suite


def _case(case: CaseResult) -> xml.Element:
    element = xml.Element(
        "testcase",
        {
            "name": _safe(case.name),
            "classname": _safe(case.suite),
            "time": _seconds(case.seconds),
        },
    )
    if case.error is not None:
        error = xml.SubElement(element, "error", {"message": _safe(case.error), "type": "error"})
        error.text = _safe("\n".join([str(case.place), *_hint(case), *_said(case)]))
    elif case.broken:
        first = case.broken[0].failure
        attributes = {"message": _safe(first.what), "type": "failure"}
        failure = xml.SubElement(element, "failure", attributes)
        failure.text = _safe("\n".join([*failure_lines(case.broken), *_said(case)]))
    return element


def failure_lines(broken: Iterable[Broken]) -> list[str]:
    """Return failures as lines: place, what, expected, came."""
    lines: list[str] = []
    for one in broken:
        lines.append(f"{one.place}: {one.failure.path}: {one.failure.what}")
        for label, text in (("expected", one.failure.expected), ("came", one.failure.came)):
            first, *rest = text.split("\n")
            lines.append(f"  {label:<9} {first}")
            lines += [f"  {'':<9} {line}" for line in rest]
    return lines


def _hint(case: CaseResult) -> list[str]:
    return [f"hint: {case.hint}"] if case.hint else []


def _said(case: CaseResult) -> list[str]:
    return ["", "transcript:", *case.transcript] if case.transcript else []


def _seconds(value: float) -> str:
    return f"{value:.3f}"


def _safe(text: str) -> str:
    return _NO_XML.sub("�", text)
