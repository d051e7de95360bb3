"""JSON to and from the kernel: the same text and values as json has, and its refusals."""

from __future__ import annotations

import json

import pytest

from aosctl.db.errors import to_json
from aosctl.db.json_text import load

VALUES: tuple[object, ...] = (
    None,
    [True, False, 0, -1, 1.5, -0.0, 1e300, 5e-324, 2**200],
    {"": {"a b": [[], {}, ""]}, "ключ": 'a "quoted" \\ word'},
    "\x01\n\t\x7f\u2028 über 日本 \U0001f600",
    [[[[[[[["deep"]]]]]]]],
)


@pytest.mark.parametrize("value", VALUES)
def test_a_value_is_written_as_json_writes_it_and_read_again(value: object) -> None:
    text = to_json(value)
    assert text == json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    assert load(text) == value


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": -float("inf")}])
def test_what_jsonb_has_no_word_for_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        to_json(value)
    assert to_json([1.5]) == "[1.5]"


def test_what_is_no_json_is_refused_and_what_holds_itself_ends() -> None:
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        to_json({"a": [object()]})
    ring: list[object] = []
    ring.append(ring)
    with pytest.raises(RecursionError):
        to_json(ring)
    assert to_json([[], []]) == "[[],[]]"


def test_blanks_around_a_value_are_read_over() -> None:
    assert [load(text) for text in ('{"a": 1}', " [1, 2]", "true\n", '\t"x" ')] == [
        {"a": 1},
        [1, 2],
        True,
        "x",
    ]


@pytest.mark.parametrize("text", ["", " ", "{} x", "{", "nul", '{"a": 1}}', "1 2"])
def test_what_is_no_json_or_more_than_one_is_not_read(text: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        load(text)
