"""The neutral transcript as OpenAI's Responses API accepts it."""

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
from aosctl.providers.history import NO_RESULT
from aosctl.providers.responses_format import responses_params
from aosctl.providers.tool_names import ToolNames

HERE = "http://127.0.0.1:1/v1"
SPEC = ModelSpec(
    "openai", "m", "m", base_url=HERE, max_output_tokens=100, capabilities={"reasoning": False}
)
OURS = Origin("openai", "responses", "m", HERE)
CALL = Call("c1", "sql_query", '{"b":1,"a":2}', {"b": 1, "a": 2}, {"id": "fc_1"})
SUMMARY = [{"type": "summary_text", "text": "Hm."}]
SEALED = Think("Hm.", data="c2VhbA==", px={"id": "rs_1", "summary": SUMMARY})
TOOL = ToolSpec("sql_query", "Read.", {})


def params(
    *messages: Message,
    spec: ModelSpec = SPEC,
    system: str = "",
    tools: tuple[ToolSpec, ...] = (),
    **more: Any,
) -> dict[str, Any]:
    request = ModelRequest(spec, system, messages, tools, **more)
    return responses_params(request, "openai", HERE, ToolNames(tools))


def sent(*messages: Message, **options: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = params(*messages, **options)["input"]
    return items


def said(*blocks: Any, origin: Origin | None = OURS) -> Message:
    return Message("assistant", blocks, origin=origin)


def test_a_turn_with_a_call_in_the_apis_words() -> None:
    look = Text("Look.", {"id": "msg_1", "phase": "commentary"})
    body = params(
        user("hi"),
        said(SEALED, look, CALL),
        tool_result(CALL, {"n": 3}),
        system="Be brief.",
        tools=(TOOL,),
    )
    assert {k: body[k] for k in ("model", "instructions", "store", "stream")} == {
        "model": "m", "instructions": "Be brief.", "store": False, "stream": True,
    }  # fmt: skip
    assert body["input"] == [
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "reasoning", "id": "rs_1", "summary": SUMMARY, "encrypted_content": "c2VhbA=="},
        {"type": "message", "id": "msg_1", "role": "assistant", "phase": "commentary",
         "status": "completed",
         "content": [{"type": "output_text", "text": "Look.", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "sql_query",
         "arguments": '{"b":1,"a":2}'},
        {"type": "function_call_output", "call_id": "c1", "output": '{"n": 3}'},
    ]  # fmt: skip
    assert body["tools"] == [
        {"type": "function", "name": "sql_query", "description": "Read.", "strict": False,
         "parameters": {"type": "object", "properties": {}}},
    ]  # fmt: skip


def test_items_keep_their_order() -> None:
    more = replace(SEALED, px={"id": "rs_2", "summary": []})
    both = said(SEALED, CALL, more, replace(CALL, id="c2", px={"id": "fc_2"}))
    assert [i.get("id") for i in sent(user("hi"), both)[1:5]] == ["rs_1", "fc_1", "rs_2", "fc_2"]


# What goes back, and where.

EXTRAS = (
    SEALED,
    Opaque("openai_item", {"type": "web_search_call", "id": "ws_1"}),
    Text("Look.", {"id": "msg_1", "phase": "commentary", "annotations": [{"url": "x"}]}),
    replace(CALL, px={"id": "fc_1", "namespace": "ns"}),
)


def test_extras_go_back_to_the_endpoint_they_came_from() -> None:
    reasoning, search, message, call = sent(user("hi"), said(*EXTRAS))[1:5]
    assert reasoning["encrypted_content"] == "c2VhbA=="
    assert search == {"type": "web_search_call", "id": "ws_1"}
    assert (message["phase"], message["content"][0]["annotations"]) == (
        "commentary",
        [{"url": "x"}],
    )
    assert call["namespace"] == "ns"


@pytest.mark.parametrize(
    "origin",
    [
        None,
        replace(OURS, endpoint="https://elsewhere/v1"),
        replace(OURS, api="chat"),
        replace(OURS, provider="anthropic"),
    ],
)
def test_extras_go_nowhere_else(origin: Origin | None) -> None:
    items = sent(user("hi"), said(*EXTRAS, origin=origin))[1:]
    assert [i["type"] for i in items] == ["message", "function_call", "function_call_output"]
    assert not {"id", "phase", "namespace"} & {key for item in items for key in item}
    assert items[0]["content"][0]["annotations"] == []


def test_an_id_goes_with_the_reasoning_that_it_is_tied_to_or_not_at_all() -> None:
    items = sent(user("hi"), said(Think("Hm."), *EXTRAS[1:]))
    assert [i["type"] for i in items if "id" in i] == ["web_search_call"]


def test_parts_of_one_message_are_one_item() -> None:
    own = {"id": "msg_1"}
    one, other = sent(user("hi"), said(SEALED, Text("a", own), Refusal("b", own), CALL))[2:4]
    assert [part["type"] for part in one["content"]] == ["output_text", "refusal"]
    assert other["type"] == "function_call"
    apart = sent(user("hi"), said(Text("a"), Text("b"), origin=None))[1:]
    assert [i["content"][0]["text"] for i in apart] == ["a", "b"]


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    items = sent(user("hi"), said(Text("So"), SEALED), said(Think("Hm."), Text("x")))
    assert [i["type"] for i in items] == ["message"] * 3


def test_blank_text_and_empty_answers_are_left_out() -> None:
    items = sent(user("hi"), said(Text(" \n"), CALL), tool_result(CALL, 1), said(SEALED))
    assert [i["type"] for i in items] == ["message", "function_call", "function_call_output"]


# Calls and results.


def test_arguments_that_did_not_parse_are_sent_back_as_json() -> None:
    broken = replace(CALL, args_raw='{"a":', args=None)
    (call,) = (i for i in sent(user("hi"), said(broken)) if i["type"] == "function_call")
    assert json.loads(call["arguments"]) == {"unreadable_arguments": '{"a":'}


def test_a_call_without_a_result_gets_one() -> None:
    assert sent(user("hi"), said(CALL), user("go on"))[2]["output"] == NO_RESULT


@pytest.mark.parametrize("odd", ["functions.sql:0", "x" * 65, "é", ""])
def test_ids_of_other_services_are_made_admissible_and_stay_apart(odd: str) -> None:
    one, other = replace(CALL, id=odd, px=None), replace(CALL, id=odd, px=None)
    items = sent(
        user("hi"), said(one, origin=None), tool_result(one, 1),
        said(other, origin=None), tool_result(other, 2),
    )  # fmt: skip
    ids = [i["call_id"] for i in items[1:]]
    assert ids[0] == ids[1] != ids[2] == ids[3]
    assert all(0 < len(i) <= 64 and i.isascii() for i in ids)


# Pictures and papers.

PICTURE = Media("image/png", "data:image/png;base64,AA==", "a.png")
PAPER = Media("application/pdf", "data:application/pdf;base64,AA==", "a.pdf")


def test_pictures_and_papers_are_sent_to_models_that_see() -> None:
    away = replace(PAPER, ref="https://x.test/a.pdf")
    (message,) = sent(Message("user", (Text("What?"), PICTURE, PAPER, away)))
    assert message["content"] == [
        {"type": "input_text", "text": "What?"},
        {"type": "input_image", "image_url": PICTURE.ref, "detail": "auto"},
        {"type": "input_file", "filename": "a.pdf", "file_data": PAPER.ref},
        {"type": "input_file", "file_url": "https://x.test/a.pdf"},
    ]


@pytest.mark.parametrize(("sees", "kind"), [(True, "input_image"), (False, "input_text")])
def test_a_result_shows_its_pictures_to_models_that_see(sees: bool, kind: str) -> None:
    found = Message("tool", (Result("c1", "sql_query", True, (Text("{}"), PICTURE)),))
    spec = replace(SPEC, capabilities={"vision": sees})
    output = sent(user("hi"), said(CALL), found, spec=spec)[-1]["output"]
    assert [part["type"] for part in output] == ["input_text", kind]


@pytest.mark.parametrize(
    "media", [Media("video/mp4", "data:video/mp4;base64,AA=="), replace(PICTURE, ref="sha256:ab")]
)
def test_what_can_not_be_shown_is_named(media: Media) -> None:
    (message,) = sent(Message("user", (media,)))
    assert message["content"][0]["type"] == "input_text"
    made = sent(user("draw"), said(Text("Here."), PICTURE))[2]
    assert "a.png" in made["content"][0]["text"]


# Parameters.

SEAL = {"include": ["reasoning.encrypted_content"]}


@pytest.mark.parametrize(
    ("given", "capabilities", "expected"),
    [
        ({}, {}, SEAL),
        ({}, {"reasoning": False}, {}),
        ({"max_tokens": 7}, {}, {**SEAL, "max_output_tokens": 7}),
        ({"max_completion_tokens": 7}, {}, {**SEAL, "max_output_tokens": 7}),
        ({"reasoning_effort": "low", "reasoning": {"summary": "auto"}}, {},
         {**SEAL, "reasoning": {"effort": "low", "summary": "auto"}}),
        ({"reasoning_effort": "low", "reasoning": {"effort": "high"}}, {"reasoning": False}, {}),
        ({"verbosity": "low"}, {}, {**SEAL, "text": {"verbosity": "low"}}),
        ({"include": ["x"]}, {}, {"include": ["x", "reasoning.encrypted_content"]}),
        ({"temperature": 1, "top_p": 1}, {"temperature": False}, {**SEAL, "top_p": 1}),
        ({"store": True, "input": "x", "previous_response_id": "r", "background": True,
          "conversation": "c", "tool_choice": "auto", "parallel_tool_calls": False}, {}, SEAL),
        ({"service_tier": "flex", "a_new_one": 1}, {},
         {**SEAL, "service_tier": "flex", "a_new_one": 1}),
    ],
)  # fmt: skip
def test_only_parameters_that_the_model_admits_are_sent(
    given: dict[str, Any], capabilities: dict[str, bool], expected: dict[str, Any]
) -> None:
    body = params(user("hi"), spec=replace(SPEC, params=given, capabilities=capabilities))
    fixed = {"model", "input", "stream", "store"}
    found = {key: value for key, value in body.items() if key not in fixed}
    assert found == {"max_output_tokens": 100, **expected}
    assert body["store"] is False


def test_money_lowers_the_length() -> None:
    assert params(user("hi"), max_output_tokens=40)["max_output_tokens"] == 40


@pytest.mark.parametrize(
    ("base_url", "capabilities", "held"),
    [
        (None, {}, True),
        (None, {"response_format": False}, False),
        (HERE, {}, False),
        (HERE, {"response_format": True}, True),
    ],
)
def test_a_schema_holds_the_answer_where_the_service_takes_one(
    base_url: str | None, capabilities: dict[str, bool], held: bool
) -> None:
    spec = replace(
        SPEC, base_url=base_url, capabilities=capabilities, params={"text": {"verbosity": "low"}}
    )
    text = params(user("hi"), spec=spec, output_schema={"type": "object"})["text"]
    form = {"type": "json_schema", "name": "answer", "schema": {"type": "object"}, "strict": False}
    assert text == {"verbosity": "low", **({"format": form} if held else {})}


def test_tools_are_sent_only_to_models_that_use_them() -> None:
    without = replace(SPEC, capabilities={"tools": False}, params={"tool_choice": "auto"})
    assert not {"tools", "tool_choice"} & params(user("hi"), spec=without, tools=(TOOL,)).keys()
    given = replace(SPEC, params={"tool_choice": "required"})
    assert params(user("hi"), spec=given, tools=(TOOL,))["tool_choice"] == "required"


def test_no_text_can_break_the_request() -> None:
    json.dumps(params(user("a\x00b\ud83d"), system="\ud83d"), ensure_ascii=False).encode()
