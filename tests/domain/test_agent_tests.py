"""What a test of an agent expects, held against what came."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from aosctl.domain.agent_tests.checking import Called, Seen, at_path, check
from aosctl.domain.agent_tests.junit import junit
from aosctl.domain.agent_tests.matching import digest, fault, fits
from aosctl.domain.agent_tests.recording import entries, safe
from aosctl.domain.agent_tests.results import CaseResult, Place
from aosctl.messages import Call, Message, Stop, Text, Think, Usage


@pytest.mark.parametrize(
    ("expected", "came", "fit"),
    [
        (1, 1, True),
        (1, Decimal("1.00"), True),
        (1.5, Decimal("1.50"), True),
        (1, True, False),
        (True, 1, False),
        (None, None, True),
        (None, 0, False),
        ("a", "a", True),
        ("a", "A", False),
        ("2026-01-31", datetime(2026, 1, 31, tzinfo=UTC).date(), True),
        ("1", 1, False),
        ({"a": 1}, {"a": 1, "b": 2}, True),
        ({"a": 1, "b": 2}, {"a": 1}, False),
        ({"$exactly": {"a": 1}}, {"a": 1, "b": 2}, False),
        ({"$exactly": {"a": {"b": 1}}}, {"a": {"b": 1, "c": 2}}, False),
        ([1, {"a": 1}], [1, {"a": 1, "b": 2}], True),
        ([1], [1, 2], False),
        ({"$regex": "^sel"}, "select 1", True),
        ({"$regex": "^sel"}, "(select 1)", False),
        ({"$contains": '"n": 1'}, {"n": 1}, True),
        ({"$not": {"$contains": "x"}}, "abc", True),
        ({"$any": True}, 0, True),
        ({"$any": True}, None, False),
        ({"$any": False}, None, True),
        ({"$sha256": digest({"b": 1, "a": 2})}, {"a": 2, "b": 1}, True),
        ({"$sha256": digest("x")}, "y", False),
        ({"a": {"$any": True}}, {}, False),
        ({}, {"a": 1}, True),
        ({}, [], False),
    ],
)
def test_a_value_stands_for_itself_and_a_matcher_for_what_it_says(
    expected: Any, came: Any, fit: bool
) -> None:
    assert fits(expected, came) is fit


@pytest.mark.parametrize(
    "wrong",
    [{"$regexp": "x"}, {"$regex": "("}, {"$contains": 1}, {"$any": True, "a": 1}, {"$regex": 1}],
)
def test_what_is_no_matcher_is_found_before_anything_is_played(wrong: dict[str, Any]) -> None:
    assert fault(wrong) is not None
    assert fault({"a": 1}) is None
    assert fault({"$.total": 1}) is None


def seen(*calls: Called, **given: Any) -> Seen:
    usual: dict[str, Any] = {
        "state": "completed", "error": None, "calls": calls, "answer": "", "usd": Decimal(0),
        "tokens": 0, "answers": 1, "steps": 2, "taint": None,
    }  # fmt: skip
    return Seen(**(usual | given))


def broken(expected: dict[str, Any], came: Seen, rows: Any = ((), [])) -> list[str]:
    usual = {"anyOrder": False, "onlyThese": False}
    return [one.path for one in check(usual | expected, "e", came, lambda _query: rows)]


READ = Called("read", {"id": 1}, "succeeded", "allowed", {"n": 1})
WRITE = Called("write", {"id": 2, "to": "x"}, "awaiting_approval", "parked")


@pytest.mark.parametrize(
    ("expected", "paths"),
    [
        ({"calls": [{"skill": "read"}, {"skill": "write"}]}, []),
        ({"calls": [{"skill": "write"}, {"skill": "read"}]}, ["e.calls[1]"]),
        ({"calls": [{"skill": "write"}, {"skill": "read"}], "anyOrder": True}, []),
        ({"calls": [{"skill": "read"}, {"skill": "read"}]}, ["e.calls[1]"]),
        ({"calls": [{"skill": "read"}], "onlyThese": True}, ["e.onlyThese"]),
        ({"calls": [{"skill": "write", "args": {"id": 2}}]}, []),
        ({"calls": [{"skill": "write", "args": {"id": 2}, "exact": True}]}, ["e.calls[0]"]),
        ({"calls": [{"skill": "write", "gate": "allowed"}]}, ["e.calls[0]"]),
        ({"calls": [{"skill": "write", "state": "succeeded"}]}, ["e.calls[0]"]),
        ({"calls": [{"skill": "read", "result": {"n": 2}}]}, ["e.calls[0]"]),
        ({"noCalls": ["write", "other"]}, ["e.noCalls"]),
        ({"onlyThese": True}, ["e.onlyThese"]),
        ({"atMost": {"calls": 1}}, ["e.atMost.calls"]),
    ],
)
def test_calls_are_looked_for_in_their_order(expected: dict[str, Any], paths: list[str]) -> None:
    assert broken(expected, seen(READ, WRITE)) == paths


@pytest.mark.parametrize(
    ("expected", "given", "paths"),
    [
        ({}, {}, []),
        ({}, {"state": "failed", "error": "no key"}, ["e"]),
        ({"state": "failed", "error": ["key"]}, {"state": "failed", "error": "no key"}, []),
        ({"state": "failed", "error": ["x"]}, {"state": "failed", "error": "key"}, ["e.error"]),
        ({"state": "waiting"}, {}, ["e.state"]),
        ({"answer": {"contains": ["a", "b"]}}, {"answer": "a"}, ["e.answer.contains"]),
        ({"answer": {"lacks": ["a"]}}, {"answer": "a"}, ["e.answer.lacks"]),
        ({"answer": {"regex": "(?i)^yes"}}, {"answer": "Yes."}, []),
        ({"answer": {"equals": "Yes"}}, {"answer": "Yes.\n"}, ["e.answer.equals"]),
        ({"answer": {"json": {"$.a[0].b": 1}}}, {"answer": '{"a": [{"b": 1}]}'}, []),
        ({"answer": {"json": {"$.a[1].b": 1}}}, {"answer": '{"a": []}'}, ["e.answer.json"]),
        ({"answer": {"json": {"$": {"a": 1}}}}, {"answer": '```json\n{"a": 1}\n```'}, []),
        ({"answer": {"json": {"$.a": 1}}}, {"answer": "a is 1"}, ["e.answer"]),
        ({"answer": {"schema": {"type": "array"}}}, {"answer": "{}"}, ["e.answer.schema"]),
        ({"atMost": {"usd": 0.01}}, {"usd": Decimal("0.011")}, ["e.atMost.usd"]),
        ({"atMost": {"tokens": 10, "answers": 0, "steps": 1}}, {"tokens": 10},
         ["e.atMost.answers", "e.atMost.steps"]),
        ({"tainted": False}, {"taint": "web_fetch, step 2"}, ["e.tainted"]),
        ({"tainted": True}, {}, ["e.tainted"]),
    ],
)  # fmt: skip
def test_each_expectation_tells_its_own_field(
    expected: dict[str, Any], given: dict[str, Any], paths: list[str]
) -> None:
    assert broken(expected, seen(**given)) == paths


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        ({"rows": [{"a": 1}, {"a": 2}]}, []),
        ({"rows": [[1, "x"], [2, "y"]]}, []),
        ({"rows": [{"a": 1}]}, ["e.sql[0].rows"]),
        ({"rows": [1, 2]}, ["e.sql[0].rows"]),
        ({"rows": [{"b": {"$any": True}}, {"b": "y"}]}, []),
        ({"count": 2}, []),
        ({"count": 3}, ["e.sql[0].count"]),
    ],
)
def test_rows_are_compared_by_column_or_by_place(wanted: dict[str, Any], paths: list[str]) -> None:
    rows = ("a", "b"), [(1, "x"), (2, "y")]
    assert broken({"sql": [{"query": "q", **wanted}]}, seen(), rows) == paths


def test_a_path_leads_into_lists_and_mappings() -> None:
    value = json.loads('{"a": [{"b": [1, 2]}]}')
    assert at_path(value, "$.a[0].b[-1]") == 2
    assert at_path(value, "$.a[1]") is None
    assert at_path(value, "$") == value


@pytest.mark.parametrize(
    "secret",
    [
        "sk-abcdefghijklmnop0123",
        "ghp_" + "a1" * 15,
        "AKIAABCDEFGHIJKLMNOP",
        "xoxb-1234567890-abcdef",
        "Bearer abcdefghijklmnop",
        "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSMeK",
        "postgresql://me:hunter2hunter2@db/x",
        "-----BEGIN PRIVATE KEY-----\nabc\n-----END PRIVATE KEY-----",
    ],
)
def test_what_looks_like_a_secret_is_in_no_recording(secret: str) -> None:
    written = json.dumps(safe({"a": [f"it is {secret}."], secret: 1}))
    hidden = "hunter2hunter2" if "hunter2" in secret else json.dumps(secret)[1:-1]
    assert hidden not in written


def test_an_answer_is_played_as_it_was_given() -> None:
    call = Call("c1", "read", '{"id": 1}', {"id": 1})
    message = Message(
        "assistant", (Think("hm"), Text("Look."), call), Stop("tool"), Usage(input=5, output=2)
    )
    assert entries([message.to_json()]) == [
        {
            "think": "hm",
            "text": "Look.",
            "calls": [{"name": "read", "args": {"id": 1}}],
            "usage": {"in": 5, "out": 2},
        }
    ]


def test_junit_holds_no_character_that_xml_may_not() -> None:
    case = CaseResult("a\x00b", "c\x1b[2J", Place("f", 1, 1), 0.1, error="\ufffe\x0b")
    text = junit([case], "host", datetime(2026, 1, 31, tzinfo=UTC))
    assert not any(character in text for character in "\x00\x1b\x0b\ufffe")
