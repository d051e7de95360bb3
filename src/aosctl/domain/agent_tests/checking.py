"""Hold what came of a step, or of a whole case, against what the test expects."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

from aosctl.domain.agent_tests.matching import as_text, fits
from aosctl.errors import AosError
from aosctl.messages import Message

Query = Callable[[str], tuple[Sequence[str], list[tuple[Any, ...]]]]
_BAD_ENDS = ("failed", "limited", "cancelled")
_SHOWN = 2_000


class Called(NamedTuple):
    """A call as it was made and decided; `result` is what the model read of it."""

    skill: str
    args: Any
    state: str
    gate: str
    result: Any = None

    @property
    def words(self) -> str:
        """Return the call on one line."""
        return f"{self.skill} {shown(self.args)} · {self.gate}, {self.state.replace('_', ' ')}"


class Seen(NamedTuple):
    """What came of a step, or of all of them."""

    state: str
    error: str | None
    calls: Sequence[Called]
    answer: str
    usd: Decimal
    tokens: int
    answers: int
    steps: int
    taint: str | None


class Failure(NamedTuple):
    """What is not as it has to be; `path` is the field of the test that says so."""

    path: str
    what: str
    expected: str
    came: str


def check(expected: Mapping[str, Any], path: str, seen: Seen, query: Query) -> list[Failure]:
    """Return what is not as expected, in the order in which the fields are explained."""
    return [
        *_state(expected, path, seen),
        *_calls(expected, f"{path}.calls", seen.calls),
        *_not_called(expected, f"{path}.noCalls", seen.calls),
        *_answer(expected.get("answer", {}), f"{path}.answer", seen.answer),
        *_sql(expected.get("sql", ()), f"{path}.sql", query),
        *_at_most(expected.get("atMost", {}), f"{path}.atMost", seen),
        *_tainted(expected, f"{path}.tainted", seen),
    ]


def result_of(message: Mapping[str, Any] | None) -> Any:
    """Return the result that a message holds: JSON where it is some."""
    if message is None:
        return None
    results = Message.from_json(message).results
    text = results[0].text if results else ""
    try:
        return json.loads(text)
    except ValueError:
        return text


def shown(value: Any) -> str:
    """Return a value as a test says it, on one line and not too long."""
    text = as_text(value) if not isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def _state(expected: Mapping[str, Any], path: str, seen: Seen) -> Iterator[Failure]:
    came = f"{seen.state}: {seen.error}" if seen.error else seen.state
    if "state" in expected:
        if seen.state != expected["state"]:
            yield Failure(f"{path}.state", "the turn ended otherwise", expected["state"], came)
    elif seen.state in _BAD_ENDS:
        yield Failure(path, "the turn did not come to its end", "completed or waiting", came)
    for text in expected.get("error", ()):
        if text not in (seen.error or ""):
            yield Failure(f"{path}.error", "the reason is another", shown(text), shown(seen.error))


def _calls(expected: Mapping[str, Any], path: str, calls: Sequence[Called]) -> Iterator[Failure]:
    left = list(enumerate(calls))
    after, missing = -1, False
    for number, wanted in enumerate(expected.get("calls", ())):
        usable = left if expected.get("anyOrder") else [one for one in left if one[0] > after]
        found = next((one for one in usable if _is_wanted(wanted, one[1])), None)
        if found is None:
            near = [call for _, call in usable if call.skill == wanted["skill"]]
            came = near or [call for _, call in usable]
            listed = "\n".join(call.words for call in came) or "no call"
            what = "the call was made otherwise" if near else "the call was not made"
            yield Failure(f"{path}[{number}]", what, _wanted(wanted), listed)
            missing = True
            continue
        left.remove(found)
        after = found[0]
    if expected.get("onlyThese") and left and not missing:
        came_too = "\n".join(call.words for _, call in left)
        yield Failure(path.replace(".calls", ".onlyThese"), "there are others", "none", came_too)


def _is_wanted(wanted: Mapping[str, Any], call: Called) -> bool:
    exact = bool(wanted.get("exact"))
    return (
        wanted["skill"] == call.skill
        and ("args" not in wanted or fits(wanted["args"], call.args, exact=exact))
        and wanted.get("gate", call.gate) == call.gate
        and wanted.get("state", call.state) == call.state
        and ("result" not in wanted or fits(wanted["result"], call.result))
    )


def _wanted(wanted: Mapping[str, Any]) -> str:
    said = [f"{name} {wanted[name]}" for name in ("gate", "state") if name in wanted]
    if "result" in wanted:
        said.append(f"result {shown(wanted['result'])}")
    args = f" {shown(wanted['args'])}" if "args" in wanted else ""
    return f"{wanted['skill']}{args}" + (f" · {', '.join(said)}" if said else "")


def _not_called(
    expected: Mapping[str, Any], path: str, calls: Sequence[Called]
) -> Iterator[Failure]:
    for skill in expected.get("noCalls", ()):
        came = [call.words for call in calls if call.skill == skill]
        if came:
            yield Failure(path, f"{skill} was called", f"no call of {skill}", "\n".join(came))


def _answer(expected: Mapping[str, Any], path: str, answer: str) -> Iterator[Failure]:
    for text in expected.get("contains", ()):
        if text not in answer:
            yield Failure(f"{path}.contains", "it is not in the answer", shown(text), answer)
    for text in expected.get("lacks", ()):
        if text in answer:
            yield Failure(f"{path}.lacks", "it is in the answer", f"no {shown(text)}", answer)
    if "regex" in expected and not re.search(expected["regex"], answer):
        yield Failure(f"{path}.regex", "not found in the answer", expected["regex"], answer)
    if "equals" in expected and expected["equals"].strip() != answer.strip():
        yield Failure(f"{path}.equals", "the answer is another", expected["equals"], answer)
    if "json" in expected or "schema" in expected:
        yield from _json(expected, path, answer)


def _json(expected: Mapping[str, Any], path: str, answer: str) -> Iterator[Failure]:
    try:
        value = json.loads(_without_fence(answer))
    except ValueError as error:
        yield Failure(path, f"the answer is no JSON: {error}", "JSON", answer)
        return
    for place, wanted in expected.get("json", {}).items():
        found = at_path(value, place)
        if not fits(wanted, found):
            yield Failure(f"{path}.json", f"{place} is another", shown(wanted), shown(found))
    if "schema" in expected:
        from jsonschema import Draft202012Validator

        for wrong in Draft202012Validator(expected["schema"]).iter_errors(value):
            yield Failure(
                f"{path}.schema", "the answer does not satisfy the schema", wrong.message, answer
            )


def at_path(value: Any, path: str) -> Any:
    """Return what stands at a path such as `$.items[0].total`; None where nothing does."""
    for key, index in re.findall(r"\.?([^.\[\]$]+)|\[(-?\d+)\]", path):
        if key and isinstance(value, Mapping):
            value = value.get(key)
        elif index and isinstance(value, list) and -len(value) <= int(index) < len(value):
            value = value[int(index)]
        else:
            return None
    return value


def _without_fence(text: str) -> str:
    found = re.fullmatch(r"\s*```(?:json)?\n(.*)\n```\s*", text, re.DOTALL)
    return found[1] if found else text


def _sql(expected: Sequence[Mapping[str, Any]], path: str, query: Query) -> Iterator[Failure]:
    for number, wanted in enumerate(expected):
        at = f"{path}[{number}]"
        try:
            columns, rows = query(wanted["query"])
        except AosError as error:
            yield Failure(f"{at}.query", "the query failed", "rows", error.message)
            continue
        listed = [dict(zip(columns, row, strict=True)) for row in rows]
        came = "\n".join(shown(row) for row in listed[:20]) or "no row"
        if "count" in wanted and len(rows) != wanted["count"]:
            rows_words = f"{wanted['count']} rows"
            yield Failure(f"{at}.count", "another number of rows", rows_words, came)
        if "rows" in wanted and not _rows_fit(wanted["rows"], listed, rows):
            asked = "\n".join(shown(row) for row in wanted["rows"]) or "no row"
            yield Failure(f"{at}.rows", "other rows", asked, came)


def _rows_fit(
    wanted: Sequence[Any], listed: Sequence[Mapping[str, Any]], rows: Sequence[tuple[Any, ...]]
) -> bool:
    if len(wanted) != len(rows):
        return False
    return all(
        fits(row, list(rows[n]) if isinstance(row, list) else listed[n])
        if isinstance(row, list | Mapping)
        else len(rows[n]) == 1 and fits(row, rows[n][0])
        for n, row in enumerate(wanted)
    )


def _at_most(expected: Mapping[str, Any], path: str, seen: Seen) -> Iterator[Failure]:
    came: dict[str, Decimal | int] = {
        "usd": seen.usd,
        "tokens": seen.tokens,
        "answers": seen.answers,
        "calls": len(seen.calls),
        "steps": seen.steps,
    }
    for name, most in expected.items():
        if came[name] > Decimal(str(most)):
            yield Failure(f"{path}.{name}", f"more {name} than allowed", str(most), str(came[name]))


def _tainted(expected: Mapping[str, Any], path: str, seen: Seen) -> Iterator[Failure]:
    if "tainted" in expected and expected["tainted"] != (seen.taint is not None):
        wanted = "untrusted content was read" if expected["tainted"] else "none was read"
        yield Failure(path, "the run's taint is another", wanted, seen.taint or "none was read")
