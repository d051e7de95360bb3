"""Fields of forms: what is expected, what is taken, and what is said of anything else."""

from __future__ import annotations

from typing import Any

import pytest

from aosctl.repl.forms import FormField, Wrong, fields_of

TITLED = {"type": "string", "oneOf": [{"const": "s", "title": "Small"}, {"const": "m"}]}
NAMED = {"type": "string", "enum": ["s", "m"], "enumNames": ["Small", "Medium"]}
SEVERAL = {"type": "array", "items": {"enum": ["a", "b", "c"]}, "minItems": 1, "maxItems": 2}


@pytest.mark.parametrize(
    ("schema", "typed", "value"),
    [
        ({"type": "string"}, " hello ", "hello"),
        ({"type": "string"}, "", None),
        ({"type": "string", "default": "d"}, "", "d"),
        ({"type": "boolean", "default": False}, "", False),
        ({"type": "boolean"}, "Y", True),
        ({"type": "boolean"}, "no", False),
        ({"type": "integer"}, "-12", -12),
        ({"type": "number"}, "1.5", 1.5),
        ({"type": "number"}, "2", 2),
        (TITLED, "Small", "s"),
        (TITLED, "2", "m"),
        (NAMED, "Medium", "m"),
        (SEVERAL, "b, a, b", ["b", "a"]),
        ({"type": "string", "format": "email"}, "a@b.example", "a@b.example"),
        ({"type": "string", "format": "date"}, "2026-11-30", "2026-11-30"),
        ({"type": "string", "format": "uri"}, "https://a.example/x", "https://a.example/x"),
        ({"type": "object"}, "no form has that", "no form has that"),
        ({}, "nor nothing", "nor nothing"),
    ],
)
def test_an_answer_becomes_a_value(schema: dict[str, Any], typed: str, value: object) -> None:
    found = FormField("f", schema, required=False).read(typed)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("schema", "typed", "words"),
    [
        ({"type": "string"}, "", "an answer is needed"),
        ({"type": "boolean"}, "maybe", "y or n"),
        ({"type": "integer"}, "1.5", "an integer"),
        ({"type": "integer"}, "٣", "an integer"),
        ({"type": "integer"}, "9" * 301, "an integer"),
        ({"type": "number"}, "nan", "a number"),
        ({"type": "number", "minimum": 1}, "0", "at least 1"),
        ({"type": "number", "maximum": 1}, "2", "at most 1"),
        (TITLED, "xl", "one of these is expected: s, m"),
        (TITLED, "0", "one of these"),
        (SEVERAL, "a,b,c", "1 to 2 of them"),
        ({"type": "string", "minLength": 3}, "ab", "3 to"),
        ({"type": "string", "maxLength": 3}, "abcd", "0 to 3"),
        ({"type": "string", "format": "email"}, "nobody", "an e-mail address"),
        ({"type": "string", "format": "date"}, "tomorrow", "a date"),
        ({"type": "string", "format": "uri"}, "no url", "a URL"),
        ({"type": "string", "minLength": "x", "maxLength": True}, "", "an answer"),
    ],
)
def test_what_does_not_fit_is_told(schema: dict[str, Any], typed: str, words: str) -> None:
    with pytest.raises(Wrong, match=words):
        FormField("f", schema, required=True).read(typed)


def test_fields_come_in_order_and_strange_schemas_ask_what_they_can() -> None:
    schema: dict[str, Any] = {
        "properties": {"b": {"title": "Bee"}, "a": {"type": "integer"}, "c": "no field"},
        "required": ["a"],
    }
    found = fields_of(schema)
    assert [(field.name, field.title, field.required) for field in found] == [
        ("b", "Bee", False),
        ("a", "a", True),
    ]
    assert [field.hint() for field in found] == ["may be empty", "an integer"]
    for strange in ({}, {"properties": []}, {"properties": {"a": {}}, "required": "a"}):
        assert len(fields_of(strange)) <= 1
    odd = FormField("f", {"enum": ["a"], "enumNames": ["x", "y"], "oneOf": "z"}, required=False)
    assert odd.choices == [("a", "a")]


@pytest.mark.parametrize(
    ("schema", "hint", "said"),
    [
        ({"type": "integer", "default": 42}, "an integer, Enter takes 42", "42"),
        ({"type": "boolean", "default": False}, "y or n, Enter takes no", "no"),
        ({"oneOf": [{"const": "h-1", "title": "Superman"}], "default": "h-1"},
         "Enter takes Superman (h-1)", "Superman (h-1)"),
        ({"type": "array", "items": {"enum": ["a", "b"]}, "default": ["a", "b"]},
         "several, with commas between them, Enter takes a, b", "a, b"),
    ],
)  # fmt: skip
def test_a_default_and_an_answer_are_told_in_the_words_of_the_choices(
    schema: dict[str, Any], hint: str, said: str
) -> None:
    field = FormField("f", schema, required=False)
    assert field.hint() == hint
    assert field.said(field.read("")) == said
