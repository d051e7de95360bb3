"""The neutral message keeps everything, and only what a database can hold."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aosctl.messages import (
    Call,
    Media,
    Message,
    MessageError,
    Opaque,
    Origin,
    Refusal,
    Result,
    Stop,
    Text,
    Think,
    Usage,
    parse_args,
    sanitise,
    sanitise_json,
    tool_result,
    user,
)

ANY_TEXT = st.text(st.characters(codec=None, categories=None), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | ANY_TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ANY_TEXT, inner, max_size=3),
    max_leaves=6,
)
OBJECT = st.dictionaries(ANY_TEXT, JSON, max_size=3)
PX = st.none() | OBJECT
MAYBE = st.none() | ANY_TEXT
COUNT = st.integers(0, 2**40)
TEXT = st.builds(Text, ANY_TEXT, PX)
MEDIA = st.builds(Media, ANY_TEXT, ANY_TEXT, MAYBE, PX)
BLOCK = st.one_of(
    TEXT,
    MEDIA,
    st.builds(Think, ANY_TEXT, MAYBE, MAYBE, PX),
    st.builds(Call, ANY_TEXT, ANY_TEXT, ANY_TEXT, PX, PX),
    st.builds(
        Result,
        ANY_TEXT,
        ANY_TEXT,
        st.booleans(),
        st.lists(TEXT | MEDIA, max_size=3).map(tuple),
        PX,
    ),
    st.builds(Refusal, ANY_TEXT, PX),
    st.builds(Opaque, ANY_TEXT, JSON, PX),
)
MESSAGE = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    st.lists(BLOCK, max_size=4).map(tuple),
    st.none()
    | st.builds(Stop, st.sampled_from(["end", "tool", "length", "refusal", "error"]), MAYBE),
    st.none() | st.builds(Usage, COUNT, COUNT, COUNT, COUNT, COUNT),
    st.none() | st.builds(Origin, ANY_TEXT, ANY_TEXT, ANY_TEXT, MAYBE, MAYBE),
)


@given(MESSAGE)
def test_a_message_survives_json_exactly(message: Message) -> None:
    text = json.dumps(message.to_json())
    assert Message.from_json(json.loads(text)) == message
    assert Message.from_json(json.loads(text)).to_json() == message.to_json()


@given(MESSAGE)
def test_a_sanitised_message_fits_into_jsonb(message: Message) -> None:
    clean = message.sanitised()
    text = json.dumps(clean.to_json(), ensure_ascii=False, allow_nan=True)
    assert "\\u0000" not in text.replace("\\\\", "")
    text.encode()  # a lone surrogate would raise
    assert clean.sanitised() is clean


@given(st.text())
def test_storable_text_is_not_touched(text: str) -> None:
    assert sanitise(text) == text.replace("\x00", "\ufffd")


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("a\x00b", "a\ufffdb"),
        ("\ud83d\ude00", "\U0001f600"),
        ("\ud83dx", "\ufffdx"),
        ("x\ud83d", "x\ufffd"),
        ("\ude00\ud83d\ude00", "\ufffd\U0001f600"),
    ],
)
def test_halves_of_a_character_are_joined_and_lone_ones_replaced(text: str, clean: str) -> None:
    assert sanitise(text) == clean


def test_keys_are_sanitised_too() -> None:
    assert sanitise_json({"a\x00": ["\ud800", 1, None]}) == {"a\ufffd": ["\ufffd", 1, None]}


@pytest.mark.parametrize(
    ("raw", "args"),
    [
        ('{"b":1,"a":[true,null]}', {"b": 1, "a": [True, None]}),
        ("", {}),
        (" \n", {}),
        ('{"a":"\\u0000\\ud800"}', {"a": "\ufffd\ufffd"}),
        ('{"a":1', None),
        ("[1]", None),
        ("null", None),
        ('{"a":NaN}', None),
        ('{"a":1e999}', None),
        ('{"a":' + "1" * 5000 + "}", None),
        ('{"a":' * 100_000, None),
        ('{"a":' + "[" * 5000 + "]" * 5000 + "}", None),
    ],
)
def test_arguments_are_usable_only_as_one_object_that_jsonb_can_hold(
    raw: str, args: object
) -> None:
    assert parse_args(raw) == args


def test_json_has_the_kernels_keys() -> None:
    message = Message(
        "assistant",
        (
            Text("Let me look."),
            Call("c1", "sql_query", '{"query":"table t"}', {"query": "table t"}),
            Call("c2", "sql_query", '{"que', None),
        ),
        Stop("tool", "tool_calls"),
        Usage(7, 3, 1, 5, 2),
        Origin("openai", "chat", "gpt-4o", "https://api.openai.com/v1", "r1"),
    )
    assert message.to_json() == {
        "v": 1,
        "role": "assistant",
        "blocks": [
            {"t": "text", "text": "Let me look."},
            {
                "t": "call",
                "id": "c1",
                "name": "sql_query",
                "args_raw": '{"query":"table t"}',
                "args": {"query": "table t"},
            },
            {"t": "call", "id": "c2", "name": "sql_query", "args_raw": '{"que'},
        ],
        "stop": {"norm": "tool", "raw": "tool_calls"},
        "usage": {"in": 7, "cache_read": 3, "cache_write": 1, "out": 5, "reasoning": 2},
        "origin": {
            "provider": "openai",
            "api": "chat",
            "model": "gpt-4o",
            "endpoint": "https://api.openai.com/v1",
            "response_id": "r1",
        },
    }
    assert message.text == "Let me look."
    assert [call.id for call in message.calls] == ["c1", "c2"]
    assert message.usage is not None
    assert (message.usage.prompt, message.usage.total) == (10, 15)


def test_a_tool_result_carries_json_text() -> None:
    call = Call("c1", "sql_query", "{}", {})
    message = tool_result(call, {"error": "no such table"}, ok=False)
    assert message.to_json()["blocks"] == [
        {
            "t": "result",
            "call_id": "c1",
            "name": "sql_query",
            "ok": False,
            "parts": [{"t": "text", "text": '{"error": "no such table"}'}],
        }
    ]
    assert message.results[0].text == '{"error": "no such table"}'


def test_a_message_of_the_kernel_may_leave_parts_out() -> None:
    value = {"role": "user", "blocks": [{"t": "text", "text": "hi"}], "stop": None}
    assert Message.from_json(value) == user("hi")


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "message must be an object"),
        ({"v": 2, "role": "user", "blocks": []}, "message version 2 is not known"),
        ({"role": "robot", "blocks": []}, "message role 'robot' is not known"),
        ({"role": "user", "blocks": {}}, "message blocks must be a list"),
        ({"role": "user", "blocks": [{"t": "smell"}]}, "block type 'smell' is not known"),
        ({"role": "user", "blocks": [{"t": "text"}]}, "`text` must be text"),
        ({"role": "user", "blocks": [], "stop": {"norm": "x"}}, "stop reason 'x' is not known"),
        ({"role": "user", "blocks": [], "usage": {"in": "1"}}, "usage in must be a whole number"),
        (
            {"role": "tool", "blocks": [{"t": "result", "call_id": "", "name": "", "parts": []}]},
            "a result needs `ok` and a list of `parts`",
        ),
    ],
)
def test_what_is_no_message_is_refused_by_name(value: object, problem: str) -> None:
    with pytest.raises(MessageError, match=problem.replace("`", ".").replace("'", ".")):
        Message.from_json(value)
