"""Label selectors, as kubectl's -l: `a=b,c!=d,e in (f,g),h notin (i),j,!k`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aosctl.domain.names import quoted
from aosctl.errors import UsageError

Labels = Mapping[str, str]
_WORD = r"[A-Za-z0-9_.-]*"
_TERM = re.compile(
    rf"\s*(?:(?P<not>!)\s*)?(?P<key>[A-Za-z0-9][A-Za-z0-9_./-]*)"
    rf"(?:\s*(?P<operator>==|=|!=)\s*(?P<value>{_WORD})"
    rf"|\s+(?P<set>in|notin)\s*\((?P<values>[^()]*)\))?\s*"
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One condition on one label; `values` None asks only whether the label is there."""

    key: str
    values: frozenset[str] | None
    wanted: bool

    def holds(self, labels: Labels) -> bool:
        """Tell whether the labels meet it; a label that is absent differs from every value."""
        if self.values is None:
            return (self.key in labels) == self.wanted
        return (labels.get(self.key) in self.values) == self.wanted


def parse_selector(text: str) -> Callable[[Labels], bool]:
    """Return a test of labels; an empty selector takes all. Raises UsageError."""
    if not text.strip():
        return lambda labels: True
    requirements = [_requirement(term, text) for term in _terms(text)]
    return lambda labels: all(one.holds(labels) for one in requirements)


def _terms(text: str) -> list[str]:
    """Split at the commas outside of parentheses."""
    terms = [""]
    for part in re.split(r"(\([^()]*\)|,)", text):  # what stands in parentheses, and commas
        if part == ",":
            terms.append("")
        else:
            terms[-1] += part
    return terms


def _requirement(term: str, whole: str) -> Requirement:
    found = _TERM.fullmatch(term)
    if found is None or (found["not"] and (found["operator"] or found["set"])):
        raise UsageError(
            f"unable to parse the selector {quoted(whole, 200)} at {quoted(term.strip())}",
            "such as -l team=data,tier!=test,'env in (dev,test)',!legacy",
        )
    if found["operator"]:
        return Requirement(found["key"], frozenset({found["value"]}), found["operator"] != "!=")
    if found["set"]:
        values = frozenset(value.strip() for value in found["values"].split(","))
        return Requirement(found["key"], values, found["set"] == "in")
    return Requirement(found["key"], None, not found["not"])
