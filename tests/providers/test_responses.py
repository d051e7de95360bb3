"""What only the Responses API has: items, sealed reasoning, errors that are events."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aosctl.errors import ProviderError
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
from aosctl.providers.openai import OpenAIProvider
from aosctl.providers.registry import provider_for
from aosctl.providers.responses import ResponsesProvider
from aosctl.providers.responses_format import responses_params
from aosctl.providers.tool_names import ToolNames
from providers.dialects import DIALECTS, SQL, finished
from providers.wire import Entry, Reply
from providers.wire_responses import (
    ResponsesWire,
    answer,
    call,
    end,
    error,
    event,
    failed,
    item,
    response,
    said,
    sse,
    stream,
    text,
    thought,
)

RESPONSES = next(d for d in DIALECTS if d.api == "responses")
HERE = "http://127.0.0.1:1/v1"
SPEC = ModelSpec("openai", "m", "m", base_url=HERE, max_output_tokens=100)
OURS = Origin("openai", "responses", "m", HERE)
CALL = Call("c1", "sql_query", '{"b":1,"a":2}', {"b": 1, "a": 2})
SEALED = Think("hm", data="c2VhbA==", px={"id": "rs_0", "summary": []})
SEALED_ITEM = {"type": "reasoning", "id": "rs_0", "summary": [], "encrypted_content": "c2VhbA=="}


def params(
    *messages: Message, spec: ModelSpec = SPEC, tools: tuple[ToolSpec, ...] = (), **more: Any
) -> dict[str, Any]:
    request = ModelRequest(spec, "Be brief.", messages, tools, **more)
    return responses_params(request, "openai", HERE, ToolNames(tools))


def sent(*messages: Message, **options: Any) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = params(*messages, **options)["input"]
    return items


def failure(reply: Reply) -> ProviderError:
    with ResponsesWire([reply]) as server, pytest.raises(ProviderError) as caught:
        RESPONSES.ask(server)
    return caught.value


# Which API.


def test_a_model_that_wants_this_api_gets_it() -> None:
    spec = ModelSpec("openai", "m", "m")
    assert type(provider_for(spec)) is OpenAIProvider
    wants = replace(spec, capabilities={"responses": True})
    assert type(provider_for(wants)) is ResponsesProvider


# What is sent.


def test_a_turn_with_a_call_in_the_apis_words() -> None:
    asked = Message("assistant", (SEALED, Text("Look."), CALL), origin=OURS)
    body = params(user("hi"), asked, tool_result(CALL, {"n": 3}))
    assert (body["instructions"], body["store"], body["stream"]) == ("Be brief.", False, True)
    assert body["input"] == [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        SEALED_ITEM,
        {"role": "assistant", "content": [{"type": "output_text", "text": "Look."}]},
        {
            "type": "function_call",
            "call_id": "c1",
            "name": "sql_query",
            "arguments": '{"b":1,"a":2}',
        },
        {"type": "function_call_output", "call_id": "c1", "output": '{"n": 3}'},
    ]


def test_items_keep_their_order() -> None:
    more = replace(SEALED, px={"id": "rs_1", "summary": []})
    both = Message("assistant", (SEALED, CALL, more, replace(CALL, id="c2")), origin=OURS)
    kinds = [i.get("id") or i.get("call_id") for i in sent(user("hi"), both)[1:5]]
    assert kinds == ["rs_0", "c1", "rs_1", "c2"]


EXTRAS = (
    SEALED,
    Opaque("openai_item", {"type": "web_search_call", "id": "ws_1"}),
    Text("Look.", px={"phase": "commentary"}),
    CALL,
)


def test_seals_and_items_go_back_to_the_endpoint_they_came_from() -> None:
    items = sent(user("hi"), Message("assistant", EXTRAS, origin=OURS))[1:4]
    assert items[:2] == [SEALED_ITEM, {"type": "web_search_call", "id": "ws_1"}]
    assert items[2]["phase"] == "commentary"


@pytest.mark.parametrize(
    "origin",
    [None, replace(OURS, endpoint="https://elsewhere/v1"), replace(OURS, api="chat")],
)
def test_seals_and_items_go_nowhere_else(origin: Origin | None) -> None:
    items = sent(user("hi"), Message("assistant", EXTRAS, origin=origin))[1:]
    assert [i.get("type") for i in items] == [None, "function_call", "function_call_output"]
    assert "phase" not in items[0]


def test_reasoning_that_led_to_nothing_is_not_sent() -> None:
    cut = Message("assistant", (Text("So"), SEALED), origin=OURS)
    unsealed = Message("assistant", (Think("hm"), Text("x")), origin=OURS)
    assert "reasoning" not in [i.get("type") for i in sent(user("hi"), cut, unsealed)]


def test_pictures_and_papers_are_sent_to_models_that_see() -> None:
    picture = Media("image/png", "data:image/png;base64,AA==", "a.png")
    paper = Media("application/pdf", "data:application/pdf;base64,AA==", "a.pdf")
    told = Message("user", (Text("What?"), picture, paper))
    assert [part["type"] for part in sent(told)[0]["content"]] == [
        "input_text", "input_image", "input_file",
    ]  # fmt: skip
    found = Message("tool", (Result("c1", "sql_query", True, (Text("{}"), picture)),))
    output = sent(user("hi"), Message("assistant", (CALL,)), found)[-1]["output"]
    assert [part["type"] for part in output] == ["input_text", "input_image"]
    blind = replace(SPEC, capabilities={"vision": False})
    assert {part["type"] for part in sent(told, spec=blind)[0]["content"]} == {"input_text"}


@pytest.mark.parametrize(
    ("given", "capabilities", "expected"),
    [
        ({}, {}, {"max_output_tokens": 100}),
        ({"max_tokens": 7}, {}, {"max_output_tokens": 7}),
        (
            {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
            {},
            {"max_output_tokens": 100, "reasoning": {"effort": "low", "summary": "auto"}},
        ),
        (
            {"reasoning_effort": "low", "reasoning": {"summary": "auto"}},
            {"reasoning": False},
            {"max_output_tokens": 100},
        ),
        ({"temperature": 1}, {"temperature": False}, {"max_output_tokens": 100}),
        (
            {"store": True, "input": "x", "previous_response_id": "r", "tool_choice": "auto"},
            {},
            {"max_output_tokens": 100},
        ),
    ],
)
def test_only_parameters_that_the_model_admits_are_sent(
    given: dict[str, Any], capabilities: dict[str, bool], expected: dict[str, Any]
) -> None:
    body = params(user("hi"), spec=replace(SPEC, params=given, capabilities=capabilities))
    fixed = {"model", "input", "instructions", "stream", "store"}
    assert {key: value for key, value in body.items() if key not in fixed} == expected


def test_money_lowers_the_length_and_a_schema_holds_the_answer() -> None:
    body = params(user("hi"), max_output_tokens=40, output_schema={"type": "object"})
    assert body["max_output_tokens"] == 40
    assert body["text"]["format"]["schema"] == {"type": "object"}


def test_a_tool_is_no_strict_one() -> None:
    (tool,) = params(user("hi"), tools=(SQL,))["tools"]
    assert (tool["type"], tool["name"], tool["strict"]) == ("function", "sql_query", False)


# What comes.


def test_reasoning_keeps_the_seal_of_its_end() -> None:
    message = RESPONSES.answer(answer(thought(0, "hm"), said(1, "Yes.")))
    summary = [{"type": "summary_text", "text": "hm"}]
    px = {"id": "rs_0", "summary": summary}
    assert message.blocks == (Think("hm", data="c2VhbA==", px=px), Text("Yes."))


def test_reasoning_that_was_not_done_has_no_seal() -> None:
    begun = [e for e in thought(0, "hm") if not e["type"].endswith("item.done")]
    message = RESPONSES.answer(answer(begun, said(1, "Yes.")))
    assert message.blocks == (Think("hm"), Text("Yes."))


def test_what_is_said_between_calls_keeps_its_phase() -> None:
    message = RESPONSES.answer(answer(said(0, "Let me look.", phase="commentary"), said(1, "Yes.")))
    assert message.blocks == (Text("Let me look.", {"phase": "commentary"}), Text("Yes."))


def test_an_item_of_a_kind_that_is_not_known_is_kept_whole() -> None:
    begin = {"type": "web_search_call", "id": "ws_1"}
    message = RESPONSES.answer(answer(item(0, begin, begin), said(1, "Found.")))
    known = Opaque("openai_item", {**begin, "status": "completed"})
    assert message.blocks == (known, Text("Found."))


def test_parts_of_a_summary_are_paragraphs() -> None:
    begin = {"type": "reasoning", "id": "rs_0", "summary": []}
    parts = [
        event("response.reasoning_summary_text.delta", summary_index=n, delta=word)
        for n, word in ((0, "One"), (0, "."), (1, "Two."))
    ]
    assert RESPONSES.answer(answer(item(0, begin, begin, *parts))).thinking == "One.\n\nTwo."


def test_a_call_that_was_not_done_is_not_run() -> None:
    """The response says that it is complete; its item never was."""
    begun = [e for e in call(0, "sql_query", "{}") if not e["type"].endswith(".done")]
    (found,) = RESPONSES.answer(answer(begun)).calls
    assert (found.args_raw, found.args) == ("{}", None)


def test_a_refusal_after_words_is_both() -> None:
    reply = answer(said(0, "Well. "), said(1, "I can't.", kind="refusal"))
    assert RESPONSES.answer(reply).blocks == (Text("Well. "), Refusal("I can't."))


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("server_error", "server", True),
        ("rate_limit_exceeded", "rate_limit", True),
        ("invalid_prompt", "bad_request", False),
        ("bio_policy", "bad_request", False),
        ("context_length_exceeded", "context_too_long", False),
    ],
)
def test_a_response_that_failed_is_an_error(code: str, kind: str, retryable: bool) -> None:
    caught = failure(stream(failed(code, "no")))
    assert (caught.kind, caught.retryable) == (kind, retryable)


def test_what_comes_after_the_end_is_not_waited_for() -> None:
    whole = text("Yes.")
    assert RESPONSES.answer(whole.stall(len(whole.body))).text == "Yes."
    late = replace(whole, body=(*whole.body, sse(said(1, "No.")[1])))
    assert RESPONSES.answer(late).text == "Yes."


def test_an_end_of_another_reason_is_not_the_whole() -> None:
    message = RESPONSES.answer(answer(said(0, "So"), call(1, "sql_query", "{}"), stop=end("new")))
    assert message.stop is not None
    assert (message.stop.norm, message.stop.raw) == ("length", "incomplete: new")
    assert message.calls[0].args is None


def test_an_end_without_a_reason_is_not_the_whole_either() -> None:
    stop = [event("response.incomplete", response=response("incomplete"))]
    message = RESPONSES.answer(answer(call(0, "sql_query", "{}"), stop=stop))
    assert message.stop is not None
    assert message.stop.norm == "length"
    assert message.calls[0].args is None


# Seals that are refused.


SEAL_REFUSED = error(
    400, "The encrypted content could not be verified", "invalid_encrypted_content"
)


@pytest.mark.parametrize("refused", [False, True])
def test_a_seal_that_is_refused_costs_a_request_and_not_the_turn(refused: bool) -> None:
    queue: list[Entry] = [*[SEAL_REFUSED] * refused, text("Three.")]
    with ResponsesWire(queue) as server:
        told = Message("assistant", (SEALED, CALL), origin=replace(OURS, endpoint=server.base_url))
        request = ModelRequest(RESPONSES.spec(server), "", (user("hi"), told))
        assert finished(list(ResponsesProvider(0).stream(request))).text == "Three."
        kinds = [[i.get("type") for i in r.body["input"]] for r in server.requests]
    assert ["reasoning" in found for found in kinds] == [True, False][: 1 + refused]


def test_a_refused_seal_where_none_was_sent_is_a_fault() -> None:
    with ResponsesWire([SEAL_REFUSED, text("x")]) as server:
        with pytest.raises(ProviderError) as caught:
            RESPONSES.ask(server)
        assert len(server.requests) == 1
    assert caught.value.kind == "bad_request"
