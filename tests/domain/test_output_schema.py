"""A schema for the answer: read, told the model, and what does not fit is sent back once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from aosctl.domain.output_schema import OutputSchema, Unfit, load
from aosctl.errors import UsageError
from providers.wire_openai import calls, text
from talks import Stage

POINT: dict[str, Any] = {
    "type": "object",
    "properties": {"x": {"$ref": "#/$defs/number"}},
    "required": ["x"],
    "$defs": {"number": {"type": "integer"}},
}


def written(tmp_path: Path, content: str | bytes) -> str:
    path = tmp_path / "schema.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", ":1:1: Expecting value"),
        ('{"type":\n oops}', ":2:2: Expecting value"),
        ("[]", ": a JSON Schema is an object"),
        ('{"type": "objekt"}', ": $.type: 'objekt' is not valid under any of the given schemas"),
        ('{"minimum": NaN}', ": NaN is no JSON"),
        ('{"$ref": "#/$defs/none"}', "leads nowhere in this file"),
        ('{"$ref": "https://example.com/s"}', "leads nowhere in this file"),
        (b"\xff\xfe", ": it is no UTF-8 text, at byte 0"),
        ('{"a":' * 3000 + "1" + "}" * 3000, ": "),
        (" " * 200_001, ": a schema has at most 200,000 bytes"),
    ],
    ids=str,
)
def test_a_bad_file_is_said_with_its_place(tmp_path: Path, content: str | bytes, said: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UsageError) as refused:
        load(path)
    told = refused.value.message
    assert told.startswith(f"{path}:") and said in told and "\n" not in told


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="No such file"):
        load(str(tmp_path / "none.json"))


@pytest.mark.parametrize(
    ("answer", "value"),
    [('{"x": 1}', {"x": 1}), ('```json\n{"x": 2}\n```\n', {"x": 2}), (' {"x": 3}\n', {"x": 3})],
)
def test_what_fits_is_parsed(tmp_path: Path, answer: str, value: Any) -> None:
    assert load(written(tmp_path, json.dumps(POINT))).parse(answer) == value


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ('{"x": "1"}', "$.x: '1' is not of type 'integer'"),
        ("{}", "$: 'x' is a required property"),
        ("Here: {}", "it is no JSON: Expecting value at line 1, column 1"),
        ('{"x": NaN}', "it is no JSON: NaN is no JSON"),
        ("[" * 100_000, "it is nested too deep"),
    ],
    ids=["type", "missing", "words", "nan", "deep"],
)
def test_what_does_not_fit_is_said_with_its_place(answer: str, why: str) -> None:
    with pytest.raises(Unfit) as unfit:
        OutputSchema(POINT).parse(answer)
    assert str(unfit.value) == why


def test_an_answer_that_does_not_fit_is_sent_back_once_in_its_turn(play: Stage) -> None:
    talk = play.talk(begun=False)
    talk.conversation.demand(OutputSchema(POINT))
    play.answer(text("x is 1"), text('{"x": 1}'))
    outcome = talk.send("Where?")
    assert (outcome.state, outcome.turn, outcome.text) == ("completed", 1, '{"x": 1}')
    asked = play.wire.requests[-1].messages[-1]["content"]
    assert asked.startswith("That answer does not satisfy the JSON Schema: it is no JSON: ")
    play.answer(calls(("web_search", {"query": "x"})), text("no"), text("no again"))
    outcome = talk.send("And now?")
    assert (outcome.state, outcome.text) == ("completed", "no again")
    assert len(play.wire.requests) == 5  # one of each turn was sent back
    play.assert_at_rest(talk, "completed")


def test_the_provider_is_told_where_its_model_can_be_held_to_a_schema(play: Stage) -> None:
    talk = play.talk()
    talk.conversation.demand(OutputSchema(POINT))
    play.answer(text('{"x": 1}'), text('{"x": 1}'))
    talk.send("Where?")
    assert "response_format" not in play.wire.requests[-1].body  # a server of one's own
    play.set_model(capabilities={"response_format": True})
    talk.send("Where?")
    sent = play.wire.requests[-1].body["response_format"]
    assert sent["type"] == "json_schema" and sent["json_schema"]["schema"] == POINT
