"""What only Anthropic's Messages API has: seals on thinking, versions, stops of its own."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Call, Message, Opaque, Origin, Refusal, Stop, Text, Think, Usage, user
from aosctl.providers.anthropic import AnthropicProvider
from aosctl.providers.base import ModelRequest, ModelSpec, TextDelta
from providers.dialects import DIALECTS, SQL, finished
from providers.wire import Entry, Reply, Request
from providers.wire_anthropic import (
    AnthropicWire,
    answer,
    block,
    call,
    calls,
    delta,
    end,
    error,
    event,
    said,
    start,
    stream,
    text,
    thought,
)

ANTHROPIC = next(d for d in DIALECTS if d.name == "anthropic")


def message_of(reply: Reply) -> Message:
    return ANTHROPIC.answer(reply)


def converse(
    server: AnthropicWire, *messages: Message, system: str = "Be brief.", **fields: Any
) -> Message:
    request = ModelRequest(ANTHROPIC.spec(server, **fields), system, messages, (SQL,))
    return finished(list(AnthropicProvider(0).stream(request)))


# Blocks.


def test_thinking_keeps_its_seal_and_its_place() -> None:
    message = message_of(
        answer(
            thought(0, "First.", "c2ln"),
            said(1, "Look."),
            block(2, {"type": "redacted_thinking", "data": "ZGF0YQ=="}),
            call(3, "sql_query", "{}"),
            stop=end("tool_use"),
        )
    )
    assert message.blocks == (
        Think("First.", sig="c2ln"),
        Text("Look."),
        Think("", data="ZGF0YQ=="),
        Call("toolu_3", "sql_query", "{}", {}),
    )
    assert (message.thinking, message.text) == ("First.", "Look.")


def test_thinking_that_is_not_shown_still_has_its_seal() -> None:
    begin = {"type": "thinking", "thinking": "", "signature": ""}
    message = message_of(answer(block(0, begin, delta(0, "signature", "c2ln")), said(1, "Yes.")))
    assert message.blocks == (Think("", sig="c2ln"), Text("Yes."))


def test_a_block_of_a_kind_that_is_not_known_is_kept_whole_and_in_its_place() -> None:
    begin = {"type": "server_tool_use", "id": "srv_1", "name": "web_search", "input": {}}
    found = {"type": "web_search_tool_result", "tool_use_id": "srv_1", "content": []}
    query = delta(0, "input_json", '{"query": "x"}')
    message = message_of(answer(block(0, begin, query), block(1, found), said(2, "Found.")))
    assert message.blocks == (
        Opaque("anthropic", {**begin, "input": {"query": "x"}}),
        Opaque("anthropic", found),
        Text("Found."),
    )
    assert not message.calls


def test_citations_stay_with_their_text() -> None:
    cite = {"type": "page_location", "cited_text": "x", "document_index": 0}
    pieces = [delta(0, "text", "As it says."), delta(0, "citations", cite, "citation")]
    message = message_of(answer(block(0, {"type": "text", "text": ""}, *pieces)))
    assert message.blocks == (Text("As it says.", {"citations": [cite]}),)


def test_arguments_that_come_at_once_with_the_name_are_read() -> None:
    begin = {"type": "tool_use", "id": "a", "name": "sql_query", "input": {"n": 1}}
    (found,) = message_of(answer(block(0, begin), stop=end("tool_use"))).calls
    assert (found.args, json.loads(found.args_raw)) == ({"n": 1}, {"n": 1})


def test_a_tool_without_parameters_is_called_without_arguments() -> None:
    assert message_of(answer(call(0, "sql_query", ""), stop=end("tool_use"))).calls[0].args == {}


@pytest.mark.parametrize(
    ("raw", "reason", "norm"),
    [
        ('{"query": "select', "tool_use", "tool"),
        ('{"query": 1}{"query": 2}', "tool_use", "tool"),
        ('["select 1"]', "tool_use", "tool"),
        ('{"query": "select 1"}', "max_tokens", "length"),
        ('{"query": "select 1"}', "model_context_window_exceeded", "length"),
        ('{"query": "select 1"}', "pause_turn", "length"),
        ('{"query": "select 1"}', "refusal", "refusal"),
        ('{"query": "select 1"}', "stop_sequence", "tool"),
        ('{"query": "select 1"}', "some_new_reason", "tool"),
    ],
)
def test_arguments_that_must_not_be_acted_on_are_kept_as_text_only(
    raw: str, reason: str, norm: str
) -> None:
    message = message_of(answer(call(0, "sql_query", raw), stop=end(reason)))
    assert message.calls[0].args is None
    assert message.calls[0].args_raw == raw
    assert message.stop == Stop(norm, reason)


def test_a_refusal_says_what_was_said_before_it_why_and_of_which_kind() -> None:
    details = {"type": "refusal", "category": "cyber", "explanation": "This could do harm."}
    reply = answer(said(0, "To begin, "), stop=end("refusal", details=details))
    events = ANTHROPIC.events(reply)
    shown = "".join(e.text for e in events if isinstance(e, TextDelta))
    assert shown == "To begin, This could do harm."
    assert finished(events).blocks == (
        Text("To begin, "),
        Refusal("This could do harm.", {"category": "cyber"}),
    )
    assert finished(events).stop == Stop("refusal", "refusal")


# Counts.


def test_zeros_that_follow_the_real_counts_do_not_replace_them() -> None:
    last = {"input_tokens": 0, "cache_read_input_tokens": 0, "output_tokens": 5}
    reply = stream(start({"input_tokens": 20}), *said(0, "x"), *end(usage=last))
    assert message_of(reply).usage == Usage(20, 0, 0, 5, 0)


def test_the_last_of_several_counts_holds() -> None:
    grown = {"input_tokens": 30, "output_tokens": 9}
    reply = stream(start({"input_tokens": 20}), *said(0, "x"), *end(usage=grown))
    assert message_of(reply).usage == Usage(30, 0, 0, 9, 0)


# Ends.


@pytest.mark.parametrize("left_out", ["message_stop", "message_delta"])
def test_an_answer_needs_its_reason_and_its_end(left_out: str) -> None:
    whole = text("Yes.")
    rest = tuple(part for part in whole.body if left_out.encode() not in part)
    with pytest.raises(ProviderError) as caught:
        message_of(replace(whole, body=rest))
    assert caught.value.kind == "truncated"


def test_what_comes_after_the_end_is_not_waited_for() -> None:
    whole = text("Yes.")
    assert message_of(whole.stall(len(whole.body))).text == "Yes."
    late = replace(whole, body=(*whole.body, event(said(1, "No.")[1])))
    assert message_of(late).text == "Yes."


# Earlier thinking goes back, and less of it where its seals are refused.

SEAL_REFUSED = error(
    400,
    "messages.1.content.0: Invalid `signature` in `thinking` block. The block is bound to a"
    " different conversation.",
)


def thoughts(request: Request) -> list[str]:
    return [
        part["thinking"]
        for message in request.messages
        for part in message["content"]
        if part["type"] == "thinking"
    ]


def story(endpoint: str) -> tuple[Message, ...]:
    """Return a turn that is over, and one in which a result has come."""
    origin = Origin("anthropic", "messages", "wire-1", endpoint)
    asked = Call("c1", "sql_query", "{}", {})
    return (
        user("hi"),
        Message("assistant", (Think("Before.", "s1"), Text("Hello.")), origin=origin),
        user("how many?"),
        Message("assistant", (Think("Now.", "s2"), asked), origin=origin),
    )


@pytest.mark.parametrize("refusals", [0, 1, 2])
def test_a_seal_that_is_refused_costs_a_request_and_not_the_turn(refusals: int) -> None:
    queue: list[Entry] = [*[SEAL_REFUSED] * refusals, text("Three.")]
    with AnthropicWire(queue) as server:
        assert converse(server, *story(server.base_url)).text == "Three."
        sent = [thoughts(request) for request in server.requests]
    assert sent == [["Before.", "Now."], ["Now."], []][: refusals + 1]


def test_another_refusal_is_not_asked_again() -> None:
    with AnthropicWire([error(400, "max_tokens: too large"), text("x")]) as server:
        with pytest.raises(ProviderError):
            converse(server, *story(server.base_url))
        assert len(server.requests) == 1


def test_a_refused_seal_where_none_was_sent_is_a_fault() -> None:
    with AnthropicWire([SEAL_REFUSED, text("x")]) as server:
        with pytest.raises(ProviderError) as caught:
            converse(server, user("hi"))
        assert len(server.requests) == 1
    assert caught.value.kind == "bad_request"


# Versions, headers, addresses.


def test_a_temperature_is_sent_under_the_version_that_takes_it() -> None:
    with AnthropicWire([text("x"), text("x")]) as server:
        converse(server, user("hi"), params={"temperature": 0.2})
        converse(server, user("hi"))
        warm, plain = server.requests
    assert (warm.body["temperature"], warm.headers["anthropic-version"]) == (0.2, "2023-06-01")
    assert "temperature" not in plain.body
    assert plain.headers["anthropic-version"] > "2023-06-01"


def test_a_gateway_finds_the_key_in_either_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_KEY", "k-1")
    with AnthropicWire([text("x")]) as server:
        converse(server, user("hi"), api_key_env="WIRE_KEY")
        headers = server.requests[0].headers
    assert (headers["authorization"], headers["x-api-key"]) == ("Bearer k-1", "k-1")


def test_a_redirect_takes_no_key_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_KEY", "k-1")
    with AnthropicWire([text("x")]) as elsewhere, AnthropicWire() as server:
        away = {"Location": f"{elsewhere.base_url}/v1/messages"}
        server.queue.append(Reply((), 307, headers=away))
        with pytest.raises(ProviderError) as caught:
            converse(server, user("hi"), api_key_env="WIRE_KEY")
        assert not elsewhere.requests
    assert caught.value.status == 307


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
def test_the_address_may_end_with_the_version_or_without(ending: str) -> None:
    with AnthropicWire([text("x")]) as server:
        converse(server, user("hi"), base_url=server.base_url + ending)
        assert server.requests[0].path == "/v1/messages"


def test_the_vendors_own_host_wants_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "not ours to use")
    request = ModelRequest(ModelSpec("anthropic", "claude", "claude"), "", (user("hi"),))
    with pytest.raises(ProviderError) as caught:
        next(AnthropicProvider().stream(request))
    assert caught.value.kind == "no_key"
    assert "export ANTHROPIC_API_KEY=..." in str(caught.value.hint)


def test_a_call_is_named_as_its_skill() -> None:
    with AnthropicWire([calls(("shop_orders", {}))]) as server:
        (found,) = finished(ANTHROPIC.ask(server)).calls
        sent = [tool["name"] for tool in server.requests[0].body["tools"]]
    assert found.name == "shop.orders"
    assert sent == ["sql_query", "shop_orders"]
