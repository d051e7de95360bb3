"""The neutral transcript as chat completions services accept it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aosctl.messages import (
    Call,
    Media,
    Message,
    Opaque,
    Origin,
    Refusal,
    Result,
    Text,
    Think,
    tool_result,
    user,
)
from aosctl.providers.base import ModelRequest, ModelSpec, ToolSpec
from aosctl.providers.chat_format import chat_params
from aosctl.providers.history import NO_RESULT
from aosctl.providers.openai import OpenAIProvider
from aosctl.providers.tool_names import ToolNames
from providers.wire_openai import OpenAIWire, calls, text

HERE = "http://127.0.0.1:1/v1"
SPEC = ModelSpec("openai", "m", "m", base_url=HERE, max_output_tokens=100)
OURS = Origin("openai", "chat", "m", HERE)
CALL = Call("c1", "sql_query", '{"b":1,"a":2}', {"b": 1, "a": 2})


def params(
    *messages: Message, spec: ModelSpec = SPEC, system: str = "", tools: tuple[ToolSpec, ...] = ()
) -> dict[str, Any]:
    return chat_params(ModelRequest(spec, system, messages, tools), HERE, ToolNames(tools))


def sent(*messages: Message, **options: Any) -> list[dict[str, Any]]:
    return params(*messages, **options)["messages"]


def test_a_turn_with_a_tool_call_in_the_apis_words() -> None:
    asked = Message("assistant", (Text("Look."), CALL), origin=OURS)
    result = tool_result(CALL, {"rows": []})
    assert sent(user("hi"), asked, result, system="Be brief.") == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "Look.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "sql_query", "arguments": '{"b":1,"a":2}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"rows": []}'},
    ]


def test_content_beside_calls_is_empty_text_and_never_null() -> None:
    assert sent(Message("assistant", (CALL,)))[0]["content"] == ""


def test_arguments_that_did_not_parse_are_sent_back_as_json() -> None:
    broken = replace(CALL, args_raw='{"a', args=None)
    arguments = sent(Message("assistant", (broken,)))[0]["tool_calls"][0]["function"]["arguments"]
    assert json.loads(arguments) == {"unreadable_arguments": '{"a'}


def test_a_call_without_a_result_gets_one_before_the_next_message() -> None:
    two = Message("assistant", (CALL, replace(CALL, id="c2")))
    roles = [(m["role"], m["content"]) for m in sent(two, tool_result(CALL, 1), user("well?"))]
    assert roles == [("assistant", ""), ("tool", "1"), ("tool", NO_RESULT), ("user", "well?")]


def test_a_result_whose_call_is_gone_becomes_text() -> None:
    assert sent(tool_result(CALL, 1)) == [
        {"role": "user", "content": "[late result of sql_query] 1"}
    ]


def test_an_answer_with_nothing_in_it_is_left_out() -> None:
    assert sent(user("a"), Message("assistant", ()), user("b")) == [
        {"role": "user", "content": "a"},
        {"role": "user", "content": "b"},
    ]


def test_a_refusal_stays_in_the_transcript_as_text() -> None:
    assert sent(Message("assistant", (Refusal("No."),)))[0]["content"] == "No."


EXTRAS = (
    Think("because", px={"field": "reasoning"}),
    Opaque("reasoning_details", [{"data": "x"}]),
    Text("Look.", px={"extra_content": {"a": 1}}),
    replace(CALL, px={"extra_content": {"sig": "s"}}),
)


def test_extras_go_back_to_the_endpoint_they_came_from() -> None:
    message = sent(user("hi"), Message("assistant", EXTRAS, origin=OURS))[1]
    assert message["reasoning"] == "because"
    assert message["reasoning_details"] == [{"data": "x"}]
    assert message["extra_content"] == {"a": 1}
    assert message["tool_calls"][0]["extra_content"] == {"sig": "s"}


@pytest.mark.parametrize(
    "origin",
    [None, replace(OURS, endpoint="https://elsewhere/v1"), replace(OURS, provider="script")],
)
def test_extras_go_nowhere_else(origin: Origin | None) -> None:
    message = sent(user("hi"), Message("assistant", EXTRAS, origin=origin))[1]
    assert set(message) == {"role", "content", "tool_calls"}
    assert set(message["tool_calls"][0]) == {"id", "type", "function"}


def test_reasoning_of_an_earlier_turn_is_not_sent_again() -> None:
    message = sent(user("hi"), Message("assistant", EXTRAS, origin=OURS), user("more"))[1]
    assert "reasoning" not in message
    assert message["tool_calls"][0]["extra_content"] == {"sig": "s"}


def test_the_sdk_passes_extras_through_to_the_wire() -> None:
    with OpenAIWire([calls(("sql_query", {})), text("x")]) as server:
        spec = replace(SPEC, base_url=server.base_url, params={"top_k": 5, "seed": 1})
        origin = replace(OURS, endpoint=server.base_url)
        history = (user("hi"), Message("assistant", EXTRAS, origin=origin))
        list(OpenAIProvider().stream(ModelRequest(spec, "", history)))
        body = server.requests[0].body
    assert body["messages"][1]["reasoning"] == "because"
    assert body["messages"][1]["tool_calls"][0]["extra_content"] == {"sig": "s"}
    assert (body["top_k"], body["seed"]) == (5, 1)


PICTURE = Media("image/png", "data:image/png;base64,AA==", "chart.png")


def test_pictures_and_papers_are_sent_to_models_that_see() -> None:
    pdf = Media("application/pdf", "data:application/pdf;base64,AA==")
    content = sent(Message("user", (Text("What?"), PICTURE, pdf)))[0]["content"]
    assert content == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {
            "type": "file",
            "file": {"filename": "file.pdf", "file_data": "data:application/pdf;base64,AA=="},
        },
    ]


@pytest.mark.parametrize("sees", [False, True])
def test_what_a_model_cannot_be_shown_is_named(sees: bool) -> None:
    media = replace(PICTURE, ref="sha256:00") if sees else PICTURE
    spec = replace(SPEC, capabilities={"vision": sees})
    content = sent(Message("user", (media,)), spec=spec)[0]["content"]
    assert content == [
        {"type": "text", "text": "[chart.png, image/png: this model can't be shown it]"}
    ]


def test_a_picture_in_a_result_is_shown_behind_the_results_as_a_users() -> None:
    results = [
        Message("tool", (Result("c1", "look", True, (Text("{}"), PICTURE)),)),
        Message("tool", (Result("c2", "look", True, (Text("[]"),)),)),
    ]
    calls = Message("assistant", (CALL, replace(CALL, id="c2")))
    _, first, second, behind = sent(calls, *results)
    assert (first["content"], second["content"]) == ("{}", "[]")
    assert behind == {
        "role": "user",
        "content": [
            {"type": "text", "text": "[chart.png of the result of look]"},
            {"type": "image_url", "image_url": {"url": PICTURE.ref}},
        ],
    }


# Parameters.


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SPEC, {"max_tokens": 100}),
        (replace(SPEC, base_url=None), {"max_completion_tokens": 100}),
        (
            replace(SPEC, capabilities={"max_completion_tokens": True}),
            {"max_completion_tokens": 100},
        ),
        (replace(SPEC, params={"max_completion_tokens": 7}), {"max_tokens": 7}),
        (replace(SPEC, max_output_tokens=0), {}),
        (
            replace(
                SPEC,
                max_output_tokens=0,
                params={"temperature": 0.5, "top_p": 1},
                capabilities={"temperature": False},
            ),
            {"top_p": 1},
        ),
        (
            replace(
                SPEC,
                max_output_tokens=0,
                params={"reasoning_effort": "low"},
                capabilities={"reasoning": False},
            ),
            {},
        ),
        (
            replace(
                SPEC,
                max_output_tokens=0,
                params={
                    "model": "x",
                    "messages": [],
                    "n": 3,
                    "stream": False,
                    "tool_choice": "any",
                },
            ),
            {},
        ),
    ],
)
def test_only_parameters_that_the_model_admits_are_sent(
    spec: ModelSpec, expected: dict[str, object]
) -> None:
    body = params(user("hi"), spec=spec)
    fixed = {"model", "messages", "stream", "stream_options"}
    assert {key: value for key, value in body.items() if key not in fixed} == expected
    assert body["model"] == "m"
    assert body["stream"] is True
    assert body["stream_options"] == {"include_usage": True}


@pytest.mark.parametrize(
    ("own", "payable", "sent"),
    [({}, 40, 40), ({}, 4000, 100), ({"max_tokens": 7}, 40, 7), ({"max_tokens": 70}, 40, 40)],
)
def test_an_answer_may_be_as_long_as_model_params_and_money_allow(
    own: dict[str, Any], payable: int, sent: int
) -> None:
    request = ModelRequest(replace(SPEC, params=own), "", (user("hi"),), (), payable)
    assert chat_params(request, HERE, ToolNames(()))["max_tokens"] == sent


def test_a_server_that_knows_no_stream_options_gets_none() -> None:
    body = params(user("hi"), spec=replace(SPEC, capabilities={"stream_usage": False}))
    assert "stream_options" not in body


def test_tools_are_sent_only_to_models_that_use_them() -> None:
    tool = ToolSpec("sql_query", "Read.", {})
    assert "tools" not in params(tools=(tool,), spec=replace(SPEC, capabilities={"tools": False}))
    assert params(tools=(tool,))["tools"] == [
        {
            "type": "function",
            "function": {
                "name": "sql_query",
                "description": "Read.",
                "parameters": {"type": "object", "properties": {}},
            },
        }
    ]


def test_skill_names_are_made_admissible_and_stay_apart() -> None:
    names = ToolNames(
        [ToolSpec("shop.q", "", {}), ToolSpec("shop_q", "", {}), ToolSpec("x" * 70, "", {})]
    )
    assert [names.sent(n) for n in ("shop.q", "shop_q", "x" * 70)] == [
        "shop_q",
        "shop_q_2",
        "x" * 64,
    ]
    assert [names.skill(n) for n in ("shop_q", "shop_q_2", "x" * 64)] == [
        "shop.q",
        "shop_q",
        "x" * 70,
    ]
    assert names.sent("gone.skill") == "gone_skill"
    assert names.skill("invented") == "invented"


def test_no_text_can_break_the_request() -> None:
    body = params(user("a\x00\ud800"), system="\udfff")
    assert [m["content"] for m in body["messages"]] == ["\ufffd", "a\ufffd\ufffd"]
