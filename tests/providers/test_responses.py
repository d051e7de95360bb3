"""What only OpenAI's Responses API has: items, sealed reasoning, ends and failures of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Call, Media, Message, Opaque, Origin, Refusal, Stop, Text, Think, user
from aosctl.providers.answers import FILTERED
from aosctl.providers.base import CallStarted, ModelRequest, ModelSpec, TextDelta, ThinkDelta
from aosctl.providers.openai import OpenAIProvider
from aosctl.providers.registry import provider_for
from aosctl.providers.responses import ResponsesProvider
from providers import wire_openai
from providers.dialects import DIALECTS, SQL, finished
from providers.wire import Entry, Reply, Request, Wire
from providers.wire_responses import (
    Event,
    ResponsesWire,
    answer,
    call,
    calls,
    error,
    event,
    failed,
    in_stream,
    incomplete,
    item,
    last,
    said,
    start,
    stream,
    text,
    thought,
)

RESPONSES = next(d for d in DIALECTS if d.api == "responses")
PART = {"type": "summary_text"}


def message_of(reply: Reply) -> Message:
    return RESPONSES.answer(reply)


def failure_of(reply: Reply) -> ProviderError:
    with pytest.raises(ProviderError) as caught:
        message_of(reply)
    return caught.value


def converse(server: Wire, *messages: Message, **fields: Any) -> Message:
    request = ModelRequest(RESPONSES.spec(server, **fields), "Be brief.", messages, (SQL,))
    return finished(list(provider_for(request.model).stream(request)))


# Which API a model is asked through.


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"capabilities": {"reasoning": True}}, True),
        ({"capabilities": {"reasoning": False}}, False),
        ({"capabilities": {"reasoning": True, "responses": False}}, False),
        ({"capabilities": {"responses": True}}, True),
        ({"base_url": "http://here/v1"}, False),
        ({"base_url": "http://here/v1", "capabilities": {"reasoning": True}}, False),
        ({"base_url": "http://here/v1", "capabilities": {"responses": True}}, True),
        ({"provider": "gemini", "capabilities": {"reasoning": True}}, False),
    ],
)
def test_models_that_reason_at_openai_and_those_that_say_so(
    spec: dict[str, Any], expected: bool
) -> None:
    provider = provider_for(replace(ModelSpec("openai", "m", "m"), **spec))
    assert isinstance(provider, OpenAIProvider)
    assert isinstance(provider, ResponsesProvider) is expected


@pytest.mark.parametrize(
    ("responses", "path"), [(True, "/v1/responses"), (False, "/v1/chat/completions")]
)
def test_each_api_is_asked_at_its_own_address(responses: bool, path: str) -> None:
    reply = text("x") if responses else wire_openai.text("x")
    with ResponsesWire([reply]) as server:
        converse(server, user("hi"), capabilities={"responses": responses})
        (request,) = server.requests
    assert request.path == path
    assert request.body.get("store") is (False if responses else None)


# Items.


def test_reasoning_keeps_its_seal_its_parts_and_its_place() -> None:
    reply = answer(
        thought(0, ("First ", "this."), ("Then that.",), seal="ZGF0YQ=="),
        said(1, "Look.", phase="commentary"),
        thought(2, seal="bW9yZQ=="),
        call(3, "sql_query", "{}"),
    )
    events = RESPONSES.events(reply)
    summary = [{**PART, "text": "First this."}, {**PART, "text": "Then that."}]
    assert finished(events).blocks == (
        Think("First this.\n\nThen that.", data="ZGF0YQ==", px={"id": "rs_0", "summary": summary}),
        Text("Look.", {"id": "msg_1", "phase": "commentary"}),
        Think("", data="bW9yZQ==", px={"id": "rs_2", "summary": []}),
        Call("call_3", "sql_query", "{}", {}, {"id": "fc_3"}),
    )
    thoughts = [e.text for e in events if isinstance(e, ThinkDelta)]
    assert thoughts == ["First ", "this.", "\n\n", "Then that."]


def test_the_seal_is_that_of_the_whole_item_and_not_of_its_beginning() -> None:
    unsealed = answer(thought(0, ("Hm.",), seal=None), said(1, "Yes."))
    assert message_of(unsealed).blocks[0] == Think("Hm.")


def test_the_seal_of_reasoning_that_never_was_whole_is_not_kept() -> None:
    begun = [e for e in thought(0, ("Hm.",)) if e["type"] != "response.output_item.done"]
    message = message_of(stream(*start(), *begun, *said(1, "Yes."), last()))
    assert message.blocks[0] == Think("Hm.")


def test_reasoning_that_is_told_in_the_open_is_shown() -> None:
    begin = {"id": "rs_0", "type": "reasoning", "summary": []}
    delta = {"type": "response.reasoning_text.delta", "content_index": 0, "delta": "Hm."}
    whole = {"content": [{"type": "reasoning_text", "text": "Hm."}]}
    assert message_of(answer(item(0, begin, whole, delta))).blocks == (Think("Hm."),)


def test_citations_stay_with_their_text() -> None:
    cite = {"type": "url_citation", "url": "https://x.test", "start_index": 0, "end_index": 2}
    events = said(0, "As it says.")
    events[-1]["item"]["content"][0]["annotations"] = [cite]
    (found,) = message_of(answer(events)).blocks
    assert found == Text("As it says.", {"id": "msg_0", "annotations": [cite]})


def test_a_message_of_several_parts_is_as_many_blocks() -> None:
    begin = {"id": "msg_0", "type": "message", "role": "assistant", "content": []}
    deltas: list[Event] = [
        {"type": "response.output_text.delta", "content_index": 0, "delta": "Well, "},
        {"type": "response.refusal.delta", "content_index": 1, "delta": "no."},
    ]
    message = message_of(answer(item(0, begin, {}, *deltas)))
    own = {"id": "msg_0"}
    assert message.blocks == (Text("Well, ", own), Refusal("no.", own))
    assert message.stop == Stop("refusal", "completed")


def test_a_picture_that_the_service_made_is_a_picture_and_goes_back_as_it_came() -> None:
    begin = {"id": "ig_1", "type": "image_generation_call", "status": "in_progress"}
    made = {"status": "completed", "result": "iVBORw0KGgo=", "output_format": "webp"}
    with ResponsesWire([answer(item(0, begin, made)), text("Done.")]) as server:
        spec = RESPONSES.spec(server)
        told = [user("Draw.")]
        for asked in ("Again?", ""):
            request = ModelRequest(spec, "", tuple(told))
            told += [finished(list(ResponsesProvider(0).stream(request))), user(asked)]
        sent = server.requests[1].body["input"]
    (found,) = told[1].blocks
    assert isinstance(found, Media)
    kept = {**begin, "status": "completed", "output_format": "webp"}
    assert found == Media("image/webp", "data:image/webp;base64,iVBORw0KGgo=", "picture.webp", kept)
    assert sent[1] == {**begin, **made} and len(sent) == 3
    assert Message.from_json(json.loads(json.dumps(told[1].to_json()))) == told[1]


def test_the_services_tool_that_draws_may_be_offered_and_no_other_of_its_own() -> None:
    draw = {"type": "image_generation", "quality": "low"}
    tools = [draw, {"type": "web_search"}, {"type": "mcp", "server_url": "http://x"}]
    with ResponsesWire([text("Done.")]) as server:
        RESPONSES.ask(server, params={"tools": tools})
        sent = server.requests[0].body["tools"]
    assert [tool["type"] for tool in sent] == ["function", "function", "image_generation"]
    assert sent[-1] == draw


def test_an_item_of_a_kind_that_is_not_known_is_kept_whole_and_in_its_place() -> None:
    begin = {"id": "ws_1", "type": "web_search_call", "status": "in_progress"}
    message = message_of(answer(item(0, begin, {"status": "completed"}), said(1, "Found.")))
    assert message.blocks[0] == Opaque("openai_item", {**begin, "status": "completed"})
    assert not message.calls


# What servers leave out.

ONLY = {
    "pieces": {"response.output_item.added", "response.output_text.delta",
               "response.function_call_arguments.delta", "response.output_item.done"},
    "whole items": {"response.output_item.done"},
    "the last event": set(),
}  # fmt: skip


@pytest.mark.parametrize("kinds", ONLY.values(), ids=ONLY)
def test_an_answer_is_found_whichever_of_its_forms_is_sent(kinds: set[str]) -> None:
    made = [*said(0, "Loo", "king."), *call(1, "sql_query", '{"n":1}')]
    kept = [e for e in made if e["type"] in kinds]
    output = [] if kinds else [made[-1]["item"] if e is made[-1] else e["item"] for e in made
                               if e["type"] == "response.output_item.done"]  # fmt: skip
    events = RESPONSES.events(stream(*kept, last(output=output)))
    message = finished(events)
    assert (message.text, [c.args for c in message.calls]) == ("Looking.", [{"n": 1}])
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "Looking."
    assert [e for e in events if isinstance(e, CallStarted)] == [CallStarted("sql_query")]


def test_a_text_whose_end_came_only_with_the_whole_is_completed() -> None:
    events = said(0, "There ", "are three.")
    (lost,) = (n for n, e in enumerate(events) if e.get("delta") == "are three.")
    del events[lost]
    assert message_of(answer(events)).text == "There are three."


def test_ids_that_change_on_the_way_are_those_of_one_item() -> None:
    made = [*said(0, "Yes."), *call(1, "sql_query", '{"n":1}')]
    for number, one in enumerate(made):
        if "item_id" in one:
            one["item_id"] = f"x_{number}"
        else:
            one["item"] = {**one["item"], "id": f"x_{number}"}
    output = [{**made[n]["item"], "id": f"y_{n}"} for n in (5, -1)]
    message = message_of(stream(*start(), *made, last(output=output)))
    assert message.text == "Yes."
    assert [c.args for c in message.calls] == [{"n": 1}]


def test_calls_that_come_at_one_place_and_in_turns_are_told_apart_by_their_ids() -> None:
    one, other = call(0, "sql_query", '{"n":1}'), call(1, "shop_orders", '{"n":2}')
    woven = [{**e, "output_index": 0} for both in zip(one, other, strict=True) for e in both]
    for event_ in woven[-2:]:
        event_["item"]["arguments"] = ""  # so that the pieces count
    message = message_of(stream(*start(), *woven, last()))
    assert [(c.name, c.args) for c in message.calls] == [
        ("sql_query", {"n": 1}),
        ("shop.orders", {"n": 2}),
    ]


# Calls that must not be acted on.

WHOLE = '{"query": "select 1"}'


@pytest.mark.parametrize(
    ("raw", "end", "norm"),
    [
        ('{"query": "select', last(), "tool"),
        ('{"query": 1}{"query": 2}', last(), "tool"),
        ('["select 1"]', last(), "tool"),
        (WHOLE, incomplete("max_output_tokens"), "length"),
        (WHOLE, incomplete("content_filter"), "refusal"),
        (WHOLE, incomplete("some_new_reason"), "length"),
        (WHOLE, incomplete(None), "length"),
    ],
)
def test_arguments_that_must_not_be_acted_on_are_kept_as_text_only(
    raw: str, end: Event, norm: str
) -> None:
    message = message_of(answer(call(0, "sql_query", raw), end=end))
    assert message.calls[0].args is None
    assert message.calls[0].args_raw == raw
    assert message.stop is not None
    assert message.stop.norm == norm


def test_a_call_that_never_was_said_as_a_whole_is_not_acted_on() -> None:
    begun = call(0, "sql_query", "{}")[:1]
    (found,) = message_of(stream(*start(), *begun, last())).calls
    assert (found.args, found.args_raw) == (None, "")
    broken = call(0, "sql_query", WHOLE, status="incomplete")
    assert message_of(answer(broken)).calls[0].args is None


def test_a_content_filter_is_a_refusal_with_words() -> None:
    events = RESPONSES.events(text("So far ", end=incomplete("content_filter")))
    shown = "".join(e.text for e in events if isinstance(e, TextDelta))
    assert shown == finished(events).text == f"So far {FILTERED}"
    assert finished(events).stop == Stop("refusal", "incomplete: content_filter")


# Ends and failures.


def test_what_comes_after_the_end_is_not_waited_for() -> None:
    whole = text("Yes.")
    assert message_of(whole.stall(len(whole.body))).text == "Yes."
    late = replace(whole, body=(*whole.body, event(failed("too late", "server_error"))))
    assert message_of(late).text == "Yes."


def test_an_answer_without_its_last_event_is_cut_off_even_after_done() -> None:
    whole = text("Yes.")
    assert failure_of(whole.eof(len(whole.body) - 1)).kind == "truncated"
    done = replace(whole, body=(*whole.body[:-1], b"data: [DONE]\n\n"))
    assert failure_of(done).kind == "truncated"


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [
        ("server_error", "server", True),
        ("rate_limit_exceeded", "rate_limit", True),
        ("vector_store_timeout", "timeout", True),
        ("insufficient_quota", "rate_limit", False),
        ("context_length_exceeded", "context_too_long", False),
        ("invalid_prompt", "bad_request", False),
        ("image_too_large", "bad_request", False),
        ("unsupported_image_media_type", "bad_request", False),
        ("bio_policy", "bad_request", False),
        ("data_residency_mismatch", "bad_request", False),
    ],
)
def test_failures_that_are_events_have_the_names_of_those_that_are_not(
    code: str, kind: str, retryable: bool
) -> None:
    begun = [*start(), *said(0, "There")[:3]]
    nested = {"type": "error", "error": {"type": code, "code": code, "message": "no"}}
    for said_so in (failed("no", code), in_stream("no", code), nested):
        caught = failure_of(stream(*begun, said_so))
        assert (caught.kind, caught.retryable) == (kind, retryable)


def test_a_failure_without_a_reason_is_the_services() -> None:
    assert failure_of(stream(*start(), last("failed", usage=None))).kind == "server"


# Earlier reasoning goes back where it came from, and is left out where it can't be read any more.

UNREADABLE = error(
    400,
    "The encrypted content gAAA...c90= could not be verified.",
    "invalid_encrypted_content",
)


def story(endpoint: str, api: str = "responses") -> tuple[Message, ...]:
    """Return a turn that is over, and one in which a result has come."""
    origin = Origin("openai", api, "wire-1", endpoint)
    asked = Call("call_1", "sql_query", "{}", {}, {"id": "fc_1"})
    before = Think("Before.", data="s1", px={"id": "rs_0", "summary": []})
    now = Think("", data="s2", px={"id": "rs_1", "summary": [{**PART, "text": "Now."}]})
    return (
        user("hi"),
        Message("assistant", (before, Text("Hello.", {"id": "msg_0"})), origin=origin),
        user("how many?"),
        Message("assistant", (now, asked), origin=origin),
    )


def seals(request: Request) -> list[str]:
    return [one["encrypted_content"] for one in request.messages if one["type"] == "reasoning"]


def test_reasoning_that_is_refused_costs_a_request_and_not_the_turn() -> None:
    with ResponsesWire([UNREADABLE, text("Three.")]) as server:
        assert converse(server, *story(server.base_url)).text == "Three."
        refused, taken = server.requests
    assert (seals(refused), seals(taken)) == (["s1", "s2"], [])
    assert [one["type"] for one in taken.messages] == [
        "message", "message", "message", "function_call", "function_call_output"
    ]  # fmt: skip
    assert "id" not in taken.messages[3]


@pytest.mark.parametrize("reply", [UNREADABLE, error(400, "Unknown parameter", "unknown")])
def test_a_refusal_that_has_nothing_to_do_with_reasoning_is_a_fault(reply: Entry) -> None:
    plain = reply is UNREADABLE
    with ResponsesWire([reply, text("x")]) as server:
        with pytest.raises(ProviderError) as caught:
            converse(server, *([user("hi")] if plain else story(server.base_url)))
        assert len(server.requests) == 1
    assert caught.value.kind == "bad_request"


@pytest.mark.parametrize("first", ["chat", "responses"])
def test_a_conversation_changes_the_api_of_one_server_and_comes_back(first: str) -> None:
    """Through stored messages: each API gets its own extras, and none of the other's."""
    words = {"chat": wire_openai, "responses": RESPONSES.words}
    second = "responses" if first == "chat" else "chat"
    said_by = {api: w.SCENES["thought, words and two calls"] for api, w in words.items()}
    told: list[Message] = [user("how many?")]
    with ResponsesWire([said_by[first], said_by[second], words[first].text("Three.")]) as server:
        for api in (first, second, first):
            stored = [Message.from_json(json.loads(json.dumps(m.to_json()))) for m in told]
            told.append(converse(server, *stored, capabilities={"responses": api == "responses"}))
        sent = {name: json.dumps(server.requests[n].body, ensure_ascii=False)
                for n, name in ((1, "other"), (2, "back"))}  # fmt: skip
    assert "Let me see." not in sent["other"] and "c2VhbA==" not in sent["other"]
    assert sent["back"].count("Let me see. 😀") == 1
    assert sent["back"].count("c2VhbA==") == (first == "responses")
    assert sent["back"].count("Looking… ä€😀") == 2
    assert "msg_1" in sent["back"] if first == "responses" else "msg_1" not in sent["back"]
    assert told[-1].text == "Three."


def test_a_call_is_named_as_its_skill() -> None:
    with ResponsesWire([calls(("shop_orders", {}))]) as server:
        (found,) = finished(RESPONSES.ask(server)).calls
        sent = [tool["name"] for tool in server.requests[0].body["tools"]]
    assert found.name == "shop.orders"
    assert sent == ["sql_query", "shop_orders"]
