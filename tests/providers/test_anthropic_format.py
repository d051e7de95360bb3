"""The neutral transcript as Anthropic's Messages API accepts it."""

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
from aosctl.providers.anthropic_format import KeptThinking, messages_params
from aosctl.providers.base import ModelRequest, ModelSpec, ToolSpec
from aosctl.providers.history import NO_RESULT
from aosctl.providers.tool_names import ToolNames

HERE = "http://127.0.0.1:1"
SPEC = ModelSpec(
    "anthropic", "m", "m", base_url=HERE, max_output_tokens=100,
    capabilities={"cache_control": False},
)  # fmt: skip
VENDORS = replace(SPEC, base_url=None)
OURS = Origin("anthropic", "messages", "m", HERE)
CALL = Call("c1", "sql_query", '{"b":1,"a":2}', {"b": 1, "a": 2})
TOOL = ToolSpec("sql_query", "Read.", {})


def params(
    *messages: Message,
    spec: ModelSpec = SPEC,
    system: str = "",
    tools: tuple[ToolSpec, ...] = (),
    kept: KeptThinking = "all",
    **more: Any,
) -> dict[str, Any]:
    request = ModelRequest(spec, system, messages, tools, **more)
    return messages_params(request, HERE, ToolNames(tools), kept)


def sent(*messages: Message, **options: Any) -> list[dict[str, Any]]:
    return params(*messages, **options)["messages"]


def text(text: str) -> dict[str, str]:
    return {"type": "text", "text": text}


def test_a_turn_with_parallel_calls_in_the_apis_words() -> None:
    other = Call("c2", "sql_query", "", {})
    asked = Message("assistant", (Text("Look."), CALL, other), origin=OURS)
    first, second = tool_result(CALL, {"rows": []}), tool_result(other, "no", ok=False)
    body = params(user("hi"), asked, first, second, user("and?"), system="Be brief.")
    assert body["system"] == [text("Be brief.")]
    assert body["messages"] == [
        {"role": "user", "content": [text("hi")]},
        {
            "role": "assistant",
            "content": [
                text("Look."),
                {"type": "tool_use", "id": "c1", "name": "sql_query", "input": {"b": 1, "a": 2}},
                {"type": "tool_use", "id": "c2", "name": "sql_query", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": [text('{"rows": []}')]},
                {
                    "type": "tool_result",
                    "tool_use_id": "c2",
                    "content": [text('"no"')],
                    "is_error": True,
                },
                text("and?"),
            ],
        },
    ]
    assert list(body["messages"][1]["content"][1]["input"]) == ["b", "a"]


def test_results_stand_first_and_in_the_order_of_the_calls() -> None:
    other = replace(CALL, id="c2")
    two = Message("assistant", (CALL, other))
    (_, _, answered) = sent(user("hi"), two, tool_result(other, 2), tool_result(CALL, 1))
    assert [part["tool_use_id"] for part in answered["content"]] == ["c1", "c2"]


def test_a_call_without_a_result_gets_one_that_is_an_error() -> None:
    (_, _, answered) = sent(user("hi"), Message("assistant", (CALL,)), user("well?"))
    assert answered["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "c1",
            "content": [text(NO_RESULT)],
            "is_error": True,
        },
        text("well?"),
    ]


def test_a_result_whose_call_is_gone_becomes_text() -> None:
    assert sent(tool_result(CALL, 1))[0]["content"] == [text("[late result of sql_query] 1")]


def test_ids_are_made_admissible_and_stay_apart() -> None:
    """Other services count anew in each answer, or use characters that Anthropic refuses."""
    strange = replace(CALL, id="functions.sql_query:0")
    turns = [
        m for call in (CALL, CALL, strange, strange)
        for m in (Message("assistant", (call,)), tool_result(call, 1))
    ]  # fmt: skip
    messages = sent(user("hi"), *turns)
    used = [m["content"][0]["id"] for m in messages if m["role"] == "assistant"]
    answered = [m["content"][0]["tool_use_id"] for m in messages[2:] if m["role"] == "user"]
    assert used == answered
    assert len(set(used)) == 4
    assert used[0] == "c1"
    assert all(i.replace("_", "").isalnum() for i in used)
    assert used == [
        m["content"][0]["id"] for m in sent(user("hi"), *turns) if m["role"] == "assistant"
    ]


def test_arguments_that_did_not_parse_are_sent_back_as_an_object() -> None:
    broken = replace(CALL, args_raw='{"a', args=None)
    (_, asked, _) = sent(user("hi"), Message("assistant", (broken,)))
    assert asked["content"][0]["input"] == {"unreadable_arguments": '{"a'}


@pytest.mark.parametrize("blank", ["", " ", "\n\n"])
def test_blank_text_is_left_out_as_the_api_refuses_it(blank: str) -> None:
    messages = sent(
        user("a", blank),
        Message("assistant", (Text(blank), CALL)),
        Message("tool", (Result("c1", "sql_query", True, (Text(blank),)),)),
        Message("assistant", (Text(blank),)),
        user("b"),
        system=blank,
    )
    assert [part for m in messages for part in m["content"] if part["type"] == "text"] == [
        text("a"),
        text("b"),
    ]
    assert "content" not in messages[2]["content"][0]
    assert "system" not in params(user("a"), system=blank)


def test_neighbours_of_one_role_are_one_message_and_a_user_begins() -> None:
    said = Message("assistant", (Text("x"),))
    messages = sent(said, user("a"), user("b"), said, said)
    assert [m["role"] for m in messages] == ["user", "assistant", "user", "assistant"]
    assert messages[2]["content"] == [text("a"), text("b")]


def test_a_refusal_stays_in_the_transcript_as_text() -> None:
    assert sent(user("a"), Message("assistant", (Refusal("No."),)))[1]["content"] == [text("No.")]


# What only its author understands.

SEARCH = {"type": "server_tool_use", "id": "srv", "name": "web_search", "input": {}}
SEALED = (
    Think("because", sig="c2ln"),
    Think("", data="ZGF0YQ=="),
    Opaque("anthropic", SEARCH),
    Text("Look.", px={"citations": [{"type": "page_location"}]}),
    CALL,
)


def test_seals_go_back_unchanged_to_the_endpoint_they_came_from() -> None:
    content = sent(user("hi"), Message("assistant", SEALED, origin=OURS))[1]["content"]
    assert content[:4] == [
        {"type": "thinking", "thinking": "because", "signature": "c2ln"},
        {"type": "redacted_thinking", "data": "ZGF0YQ=="},
        SEARCH,
        {**text("Look."), "citations": [{"type": "page_location"}]},
    ]


@pytest.mark.parametrize(
    "origin",
    [None, replace(OURS, endpoint="https://elsewhere"), replace(OURS, provider="openai")],
)
def test_seals_go_nowhere_else(origin: Origin | None) -> None:
    content = sent(user("hi"), Message("assistant", SEALED, origin=origin))[1]["content"]
    assert [part["type"] for part in content] == ["text", "tool_use"]
    assert content[0] == text("Look.")


@pytest.mark.parametrize(("kept", "found"), [("all", 2), ("turn", 1), ("none", 0)])
def test_less_thinking_goes_back_when_asked_for(kept: KeptThinking, found: int) -> None:
    answered = Message("assistant", SEALED, origin=OURS)
    messages = sent(user("a"), answered, tool_result(CALL, 1), user("b"), answered, kept=kept)
    kinds = [part["type"] for m in messages for part in m["content"]]
    assert kinds.count("thinking") == kinds.count("redacted_thinking") == found
    assert kinds.count("server_tool_use") == 2


def test_thinking_without_a_seal_or_at_the_end_is_not_sent() -> None:
    cut = Message("assistant", (Think("I was"), Text("So"), Think("and", sig="x")), origin=OURS)
    assert sent(user("hi"), cut)[1]["content"] == [text("So")]


# Pictures and papers.

PICTURE = Media("image/png", "data:image/png;base64,AA==", "chart.png")
PAPER = Media("application/pdf", "https://example.org/a.pdf")
HIDDEN = text("[chart.png, image/png: this model can't be shown it]")


def test_pictures_and_papers_are_sent_to_models_that_see() -> None:
    content = sent(Message("user", (Text("What?"), PICTURE, PAPER)))[0]["content"]
    assert content == [
        text("What?"),
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AA=="}},
        {"type": "document", "source": {"type": "url", "url": "https://example.org/a.pdf"}},
    ]


def test_a_result_holds_pictures_too() -> None:
    found = Message("tool", (Result("c1", "sql_query", True, (Text("{}"), PICTURE)),))
    (result,) = sent(user("hi"), Message("assistant", (CALL,)), found)[2]["content"]
    assert [part["type"] for part in result["content"]] == ["text", "image"]


@pytest.mark.parametrize(
    ("media", "sees"),
    [
        (PICTURE, False),
        (replace(PICTURE, ref="sha256:00"), True),
        (replace(PICTURE, ref="http://example.org/a.png"), True),
        (replace(PICTURE, ref="data:image/png,plain"), True),
    ],
)
def test_what_a_model_cannot_be_shown_is_named(media: Media, sees: bool) -> None:
    spec = replace(SPEC, capabilities={"vision": sees, "cache_control": False})
    assert sent(Message("user", (media,)), spec=spec)[0]["content"] == [HIDDEN]


# What is cached.


def marks(value: Any) -> int:
    return json.dumps(value).count("cache_control")


def test_the_ends_of_what_stays_are_marked_and_never_more_than_four() -> None:
    spec = replace(SPEC, capabilities={})
    turns = [m for n in range(9) for m in (user(str(n)), Message("assistant", (Text("x"),)))]
    body = params(*turns, user("last"), spec=spec, system="Be brief.", tools=(TOOL, TOOL))
    assert marks(body) == 4
    assert "cache_control" in body["system"][-1]
    assert "cache_control" in body["tools"][-1]
    assert [m["role"] for m in body["messages"] if marks(m)] == ["user", "user"]
    assert "cache_control" in body["messages"][-1]["content"][-1]
    assert "cache_control" in body["messages"][-3]["content"][-1]


def test_the_mark_of_the_last_request_is_set_again_in_this_one() -> None:
    """The service looks back 20 blocks for it; a turn can be longer."""
    spec = replace(SPEC, capabilities={})
    first = (user("hi"),)
    calls = tuple(replace(CALL, id=f"c{n}") for n in range(30))
    more = (*first, Message("assistant", calls), *(tool_result(c, 1) for c in calls))
    before, after = sent(*first, spec=spec), sent(*more, spec=spec)
    assert before[-1] == after[0]


def test_a_service_that_knows_no_marks_gets_none() -> None:
    assert not marks(params(user("hi"), system="x", tools=(TOOL,)))


# Parameters.


def having(*pairs: tuple[str, bool], spec: ModelSpec = SPEC, **given: Any) -> ModelSpec:
    return replace(spec, capabilities={"cache_control": False, **dict(pairs)}, params=given)


WARM = {"temperature": 0.2, "top_p": 0.9, "top_k": 5}
ADAPTIVE = {"type": "adaptive"}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (SPEC, {"max_tokens": 100}),
        (having(max_completion_tokens=7), {"max_tokens": 7}),
        (replace(SPEC, max_output_tokens=0), {"max_tokens": 4096}),
        (having(**WARM), {"max_tokens": 100, **WARM}),
        (having(spec=VENDORS, **WARM), {"max_tokens": 100}),
        (having(("top_p", True), spec=VENDORS, **WARM), {"max_tokens": 100, "top_p": 0.9}),
        (having(("temperature", False), temperature=1), {"max_tokens": 100}),
        (having(thinking=ADAPTIVE), {"max_tokens": 100, "thinking": ADAPTIVE}),
        (having(("thinking", False), thinking=ADAPTIVE), {"max_tokens": 100}),
        (
            having(model="x", messages=[], system="x", tools=[], stream=False, tool_choice={}),
            {"max_tokens": 100},
        ),
    ],
)
def test_only_parameters_that_the_model_admits_are_sent(
    spec: ModelSpec, expected: dict[str, object]
) -> None:
    body = params(user("hi"), spec=spec)
    fixed = {"model", "messages", "stream"}
    assert {key: value for key, value in body.items() if key not in fixed} == expected
    assert (body["model"], body["stream"]) == ("m", True)


@pytest.mark.parametrize(
    ("own", "payable", "sent"),
    [({}, 40, 40), ({}, 4000, 100), ({"max_tokens": 7}, 40, 7), ({"max_tokens": 70}, 40, 40)],
)
def test_an_answer_may_be_as_long_as_model_params_and_money_allow(
    own: dict[str, Any], payable: int, sent: int
) -> None:
    body = params(user("hi"), spec=having(**own), max_output_tokens=payable)
    assert body["max_tokens"] == sent


@pytest.mark.parametrize(
    ("payable", "thinking"),
    [
        (9000, {"type": "enabled", "budget_tokens": 5000}),
        (2000, {"type": "enabled", "budget_tokens": 1999}),
        (1000, None),
    ],
)
def test_thinking_takes_no_more_than_the_answer_may(payable: int, thinking: object) -> None:
    spec = having(max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 5000})
    body = params(user("hi"), spec=spec, max_output_tokens=payable)
    assert body.get("thinking") == thinking


def test_an_answer_is_held_to_a_schema_where_the_model_can_be() -> None:
    schema = {"type": "object"}
    effort = {"output_config": {"effort": "low"}}
    can = having(("response_format", True), **effort)
    assert params(user("hi"), spec=can, output_schema=schema)["output_config"] == {
        "effort": "low",
        "format": {"type": "json_schema", "schema": schema},
    }
    plain = having(**effort)
    assert params(user("hi"), spec=plain, output_schema=schema)["output_config"] == {
        "effort": "low"
    }


def test_tools_are_sent_only_to_models_that_use_them() -> None:
    assert "tools" not in params(user("hi"), tools=(TOOL,), spec=having(("tools", False)))
    assert params(user("hi"), tools=(TOOL,))["tools"] == [
        {"name": "sql_query", "description": "Read.", "input_schema": {"type": "object"}}
    ]


def test_no_text_can_break_the_request() -> None:
    body = params(user("a\x00\ud800"), system="\udfff")
    assert body["system"] == [text("\ufffd")]
    assert body["messages"][0]["content"] == [text("a\ufffd\ufffd")]
