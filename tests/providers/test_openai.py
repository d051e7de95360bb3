"""The openai provider against a server that cuts, stalls, repeats itself and breaks off."""

from __future__ import annotations

import json
import socket
from dataclasses import replace

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Message, Opaque, Refusal, Stop, Think, Usage, user
from aosctl.providers.answers import FILTERED
from aosctl.providers.base import (
    CallStarted,
    Finished,
    ModelRequest,
    ModelSpec,
    StreamEvent,
    TextDelta,
    ThinkDelta,
    ToolSpec,
)
from aosctl.providers.openai import OpenAIProvider
from providers.wire_openai import (
    Entry,
    OpenAIWire,
    Reply,
    call_delta,
    calls,
    error,
    piece,
    sse,
    stream,
    text,
    usage_piece,
)

SQL = ToolSpec("sql_query", "Read.", {"type": "object", "properties": {}})
DOTTED = ToolSpec("shop.orders", "Read orders.", {"type": "object"}, builtin="sql_query")


def spec_for(server: OpenAIWire, **fields: object) -> ModelSpec:
    base = ModelSpec("openai", "wire-1", "wired", base_url=server.base_url, timeout_seconds=5)
    return replace(base, **fields)


def ask(server: OpenAIWire, retries: int = 0, **fields: object) -> list[StreamEvent]:
    request = ModelRequest(spec_for(server, **fields), "Be brief.", (user("hi"),), (SQL, DOTTED))
    return list(OpenAIProvider(max_retries=retries).stream(request))


def answer(reply: Entry, **fields: object) -> Message:
    with OpenAIWire([reply]) as server:
        last = ask(server, **fields)[-1]
    assert isinstance(last, Finished)
    return last.message


def failure(reply: Entry, **fields: object) -> ProviderError:
    with OpenAIWire([reply]) as server, pytest.raises(ProviderError) as caught:
        ask(server, **fields)
    assert str(caught.value).startswith('model "wired": ')
    assert "\n" not in str(caught.value)
    return caught.value


# Tool calls, however they are cut.


def test_an_answer_cut_at_every_byte_is_the_same_answer() -> None:
    reply = calls(("sql_query", {"query": "select 'ä€😀'"}), ("shop.orders", {"n": 2}), say="Hm…")
    whole, bytewise = answer(reply), answer(reply.split(1))
    assert bytewise.blocks == whole.blocks
    assert (bytewise.stop, bytewise.usage) == (whole.stop, whole.usage)
    assert [c.args for c in whole.calls] == [{"query": "select 'ä€😀'"}, {"n": 2}]


PIECES = {
    "all parallel calls at index 0, each with its id": (
        call_delta(0, id="a", name="sql_query", arguments='{"n":'),
        call_delta(0, arguments="1}"),
        call_delta(0, id="b", name="sql_query", arguments='{"n":2}'),
    ),
    "name and id in each piece": (
        call_delta(0, id="a", name="sql_query", arguments='{"n"'),
        call_delta(0, id="a", name="sql_query", arguments=":1}"),
        call_delta(1, id="b", name="sql_query", arguments='{"n":2}'),
        call_delta(1, id="b", name="sql_query", arguments=""),
    ),
    "calls interleaved by index": (
        call_delta(0, id="a", name="sql_query", arguments='{"n"'),
        call_delta(1, id="b", name="sql_query", arguments='{"n"'),
        call_delta(0, arguments=":1}"),
        call_delta(1, arguments=":2}"),
    ),
    "no index at all": (
        call_delta(None, id="a", name="sql_query", arguments='{"n":'),
        call_delta(None, arguments="1}"),
        call_delta(None, id="b", name="sql_query", arguments='{"n":2}'),
    ),
    "no id at all, whole calls at index 0": (
        call_delta(0, name="sql_query", arguments='{"n":1}'),
        call_delta(0, name="sql_query", arguments='{"n":2}'),
    ),
    "arguments as an object": (
        call_delta(0, id="a", name="sql_query", arguments={"n": 1}),
        call_delta(1, id="b", name="sql_query", arguments={"n": 2}),
    ),
    "one id used twice": (
        call_delta(0, id="a", name="sql_query", arguments='{"n":1}'),
        call_delta(1, id="a", name="sql_query", arguments='{"n":2}'),
    ),
}


@pytest.mark.parametrize("deltas", PIECES.values(), ids=PIECES)
def test_two_calls_are_found_however_they_are_cut(deltas: tuple[dict[str, object], ...]) -> None:
    message = answer(stream(*map(piece, deltas), piece(finish="tool_calls")))
    assert [(c.name, c.args) for c in message.calls] == [
        ("sql_query", {"n": 1}),
        ("sql_query", {"n": 2}),
    ]
    assert len({c.id for c in message.calls}) == 2
    assert all(c.id for c in message.calls)
    assert message.stop == Stop("tool", "tool_calls")


def test_a_call_is_announced_once_under_the_skills_own_name() -> None:
    deltas = (
        call_delta(0, id="a", name="shop_orders", arguments="{"),
        call_delta(0, id="a", name="shop_orders", arguments="}"),
    )
    reply = stream(*map(piece, deltas), piece(finish="tool_calls"))
    with OpenAIWire([reply]) as server:
        events = ask(server)
        sent = server.requests[0].body["tools"]
    assert [e for e in events if isinstance(e, CallStarted)] == [CallStarted("shop.orders")]
    assert [tool["function"]["name"] for tool in sent] == ["sql_query", "shop_orders"]


def test_calls_count_when_a_server_says_stop_beside_them() -> None:
    reply = stream(
        piece(call_delta(0, id="a", name="sql_query", arguments="")), piece(finish="stop")
    )
    message = answer(reply)
    assert message.stop == Stop("tool", "stop")
    assert message.calls[0].args == {}


@pytest.mark.parametrize(
    ("raw", "finish", "norm"),
    [
        ('{"query": "select', "tool_calls", "tool"),
        ('{"query": 1}{"query": 2}', "tool_calls", "tool"),
        ('["select 1"]', "tool_calls", "tool"),
        ('{"query": "select 1"}', "length", "length"),
        ('{"query": "select 1"}', "content_filter", "refusal"),
        ('{"query": "select 1"}', "some_new_reason", "tool"),
    ],
)
def test_arguments_that_must_not_be_acted_on_are_kept_as_text_only(
    raw: str, finish: str, norm: str
) -> None:
    reply = stream(
        piece(call_delta(0, id="a", name="sql_query", arguments=raw)), piece(finish=finish)
    )
    message = answer(reply)
    assert message.calls[0].args is None
    assert message.calls[0].args_raw == raw
    assert message.stop == Stop(norm, finish)


# Text, reasoning, refusals.


def test_reasoning_is_kept_apart_from_the_answer() -> None:
    reply = stream(
        piece({"reasoning_content": "Let me "}),
        piece({"reasoning_content": "think."}),
        piece({"content": "Yes."}),
        piece(finish="stop"),
    )
    with OpenAIWire([reply]) as server:
        events = ask(server)
    assert events[:3] == [ThinkDelta("Let me "), ThinkDelta("think."), TextDelta("Yes.")]
    message = events[-1].message
    assert message.blocks[0] == Think("Let me think.", px={"field": "reasoning_content"})
    assert message.text == "Yes."


def test_halves_of_a_character_in_two_pieces_are_joined() -> None:
    reply = stream(
        piece({"content": "a\ud83d"}), piece({"content": "\ude00b\x00"}), piece(finish="stop")
    )
    with OpenAIWire([reply]) as server:
        events = ask(server)
    assert events[:2] == [TextDelta("a"), TextDelta("\U0001f600b\ufffd")]


def test_half_a_character_at_the_end_is_replaced() -> None:
    message = answer(stream(piece({"content": "a\ud83d"}), piece(finish="stop")))
    assert message.text == "a\ufffd"


def test_a_refusal_is_said_and_is_the_stop_reason() -> None:
    reply = stream(
        piece({"refusal": "I can't "}), piece({"refusal": "do that."}), piece(finish="stop")
    )
    message = answer(reply)
    assert message.blocks == (Refusal("I can't do that."),)
    assert message.stop == Stop("refusal", "stop")


def test_a_content_filter_is_a_refusal_with_words() -> None:
    with OpenAIWire([text("So far ", finish="content_filter")]) as server:
        events = ask(server)
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == f"So far {FILTERED}"
    assert events[-1].message.stop == Stop("refusal", "content_filter")


def test_an_empty_answer_is_an_empty_message() -> None:
    message = answer(text())
    assert message.blocks == ()
    assert message.stop == Stop("end", "stop")


def test_an_answer_cut_off_by_its_length_says_so() -> None:
    assert answer(text("So long", finish="length")).stop == Stop("length", "length")


def test_content_in_parts_is_text_and_thought() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": "Yes."},
    ]
    message = answer(stream(piece({"content": parts}), piece(finish="stop")))
    assert (message.thinking, message.text) == ("hm", "Yes.")


def test_comments_that_keep_the_connection_alive_are_no_news() -> None:
    whole = text("Yes.")
    reply = replace(whole, body=(b": keep-alive\n\n", *(b": x\n" + part for part in whole.body)))
    assert answer(reply).text == "Yes."


def test_pieces_of_no_known_shape_are_passed_over() -> None:
    odd: list[object] = [None, "ping", 1, [], {}, {"choices": None}, {"choices": [None]}]
    whole = text("Yes.")
    reply = replace(whole, body=(*map(sse, odd), *whole.body))
    assert answer(reply).text == "Yes."


# Usage and origin.


def test_cached_tokens_are_counted_apart_from_the_input() -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 30,
        "total_tokens": 130,
        "prompt_tokens_details": {"cached_tokens": 80, "cache_write_tokens": 10},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert answer(text("x", usage=usage)).usage == Usage(20, 80, 10, 30, 20)


def test_reasoning_that_a_service_counts_apart_is_part_of_the_output() -> None:
    usage = {
        "prompt_tokens": 10,
        "completion_tokens": 5,
        "total_tokens": 35,
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    assert answer(text("x", usage=usage)).usage == Usage(10, 0, 0, 25, 20)


def test_usage_is_none_when_no_piece_tells_it() -> None:
    assert answer(text("x", usage=None)).usage is None


def test_the_last_of_several_usage_counts_holds() -> None:
    first = {"usage": {"prompt_tokens": 5, "completion_tokens": 1}}
    reply = stream(piece({"content": "x"}, **first), piece(finish="stop"), usage_piece())
    assert answer(reply).usage == Usage(20, 0, 0, 5, 0)


def test_the_origin_names_model_endpoint_and_response() -> None:
    with OpenAIWire([text("x")]) as server:
        origin = ask(server)[-1].message.origin
        assert (origin.provider, origin.api, origin.model) == ("openai", "chat", "wire-1")
        assert (origin.endpoint, origin.response_id) == (server.base_url, "chatcmpl-1")


# Streams that break off.


def test_a_clean_end_without_a_finish_reason_is_no_answer() -> None:
    for keep in range(4):
        caught = failure(text("So ", "far").eof(keep))
        assert (caught.kind, caught.retryable) == ("truncated", True)


def test_a_finish_reason_is_enough_without_usage_and_done() -> None:
    whole = text("Yes.")
    assert answer(whole.eof(3)).text == "Yes."


def test_a_connection_cut_in_the_middle_is_a_network_failure() -> None:
    caught = failure(text("So ", "far").cut(2))
    assert (caught.kind, caught.retryable) == ("network", True)


@pytest.mark.parametrize("end", ["cut", "stall"])
def test_after_the_finish_reason_only_the_token_count_can_be_lost(end: str) -> None:
    whole = text("Yes.")
    reply = whole.cut(3) if end == "cut" else whole.stall(3)
    message = answer(reply, timeout_seconds=0.2)
    assert (message.text, message.usage) == ("Yes.", None)


@pytest.mark.parametrize("keep", [0, 2])
def test_silence_longer_than_the_models_time_is_a_timeout(keep: int) -> None:
    caught = failure(text("So ", "far").stall(keep), timeout_seconds=0.2)
    assert (caught.kind, caught.retryable) == ("timeout", True)
    assert "no sign of life for 0.2 s" in str(caught)


def test_a_garbled_piece_is_a_broken_answer() -> None:
    caught = failure(Reply((sse(piece({"content": "a"})), b'data: {"choices": [{"de\n\n')))
    assert caught.kind == "truncated"


@pytest.mark.parametrize(
    ("value", "kind", "retryable"),
    [
        ({"message": "slow down", "code": "rate_limit_exceeded"}, "rate_limit", True),
        ({"message": "Overloaded", "type": "overloaded_error"}, "overloaded", True),
        ({"message": "upstream", "code": 502}, "server", True),
        ({"message": "busy", "code": 429}, "rate_limit", True),
        (
            {"message": "This model's maximum context length is 8192 tokens"},
            "context_too_long",
            False,
        ),
        ("the GPU fell off", "server", True),
    ],
)
def test_an_error_inside_the_stream_is_named_as_one_before_it(
    value: object, kind: str, retryable: bool
) -> None:
    caught = failure(stream(piece({"content": "a"}), {"error": value}))
    assert (caught.kind, caught.retryable) == (kind, retryable)


def test_an_error_object_without_the_usual_wrapping_is_seen() -> None:
    value = {"object": "error", "message": "CUDA out of memory", "code": 500}
    caught = failure(stream(piece({"content": "a"}), value))
    assert caught.kind == "server"
    assert "CUDA out of memory" in str(caught)


def test_finishing_with_an_error_is_one() -> None:
    assert failure(text("a", finish="error")).kind == "server"


# Refused requests.


@pytest.mark.parametrize(
    ("reply", "kind", "retryable"),
    [
        (error(401, "Incorrect API key provided", "invalid_api_key"), "auth", False),
        (error(403, "Country not supported"), "auth", False),
        (error(404, "The model does not exist", "model_not_found"), "bad_request", False),
        (error(400, "Unknown parameter: 'foo'"), "bad_request", False),
        (error(400, "too big", "context_length_exceeded"), "context_too_long", False),
        (error(400, "This model's maximum context length is 8192"), "context_too_long", False),
        (error(413, "Request too large"), "context_too_long", False),
        (error(429, "Rate limit reached"), "rate_limit", True),
        (error(429, "You exceeded your quota", "insufficient_quota"), "rate_limit", False),
        (error(500, "The server had an error"), "server", True),
        (error(503, "Try later"), "overloaded", True),
        (error(529, "Overloaded"), "overloaded", True),
        (error(504, "Gateway"), "timeout", True),
    ],
)
def test_a_refused_request_is_named_by_its_status_and_code(
    reply: Reply, kind: str, retryable: bool
) -> None:
    caught = failure(reply)
    assert (caught.kind, caught.retryable, caught.status) == (kind, retryable, reply.status)
    said = json.loads(reply.body[0])["error"]["message"]
    assert said in str(caught)


def test_an_unknown_model_says_where_to_look() -> None:
    caught = failure(error(404, "The model does not exist"))
    assert "spec.model" in str(caught.hint)


def test_a_web_page_instead_of_an_answer_is_told_in_one_line() -> None:
    page = b"<html><head><title>502 Bad Gateway</title></head><body><h1>nginx</h1></body></html>"
    caught = failure(Reply((page,), 502, "text/html"))
    assert (caught.kind, caught.status) == ("server", 502)
    assert str(caught) == (
        "model \"wired\": the service failed (HTTP 502): a web page, '502 Bad Gateway'"
    )


def test_a_successful_web_page_is_no_answer() -> None:
    caught = failure(Reply((b"<html>Log in</html>",), 200, "text/html"))
    assert caught.kind == "bad_request"
    assert "a web page" in str(caught)


def test_an_error_sent_with_status_200_is_seen() -> None:
    body = json.dumps({"error": {"message": "no such model", "code": "model_not_found"}}).encode()
    caught = failure(Reply((body,), 200, "application/json"))
    assert caught.kind == "bad_request"
    assert "no such model" in str(caught)


def test_no_error_gives_the_key_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_KEY", "topsecret-0123456789")
    reply = error(401, "Incorrect API key provided: topsecret-0123456789")
    caught = failure(reply, api_key_env="WIRE_KEY")
    assert "topsecret" not in str(caught)
    assert caught.hint == "check the key in WIRE_KEY"


def test_a_closed_port_is_a_network_failure() -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/v1"
        spec = ModelSpec("openai", "m", "wired", base_url=url)
        with pytest.raises(ProviderError) as caught:
            next(OpenAIProvider(max_retries=0).stream(ModelRequest(spec, "", (user("hi"),))))
    assert caught.value.kind == "network"
    assert url in str(caught.value.hint)


@pytest.mark.parametrize(
    "url", ["localhost:11434/v1", "http://127.0.0.1:port/v1", "ftp://127.0.0.1/v1"]
)
def test_an_unusable_address_is_told(url: str) -> None:
    spec = ModelSpec("openai", "m", "wired", base_url=url)
    with pytest.raises(ProviderError) as caught:
        next(OpenAIProvider(max_retries=0).stream(ModelRequest(spec, "", (user("hi"),))))
    assert caught.value.kind == "bad_request"
    assert url in str(caught.value)


# Keys.


def test_a_missing_key_names_its_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    spec = ModelSpec("openai", "gpt-4o", "gpt-4o", api_key_env="OPENAI_API_KEY")
    with pytest.raises(ProviderError) as caught:
        next(OpenAIProvider().stream(ModelRequest(spec, "", (user("hi"),))))
    assert caught.value.kind == "no_key"
    assert "the environment variable OPENAI_API_KEY is not set" in str(caught.value)
    assert "export OPENAI_API_KEY=..." in str(caught.value.hint)


@pytest.mark.parametrize(
    "variable", ["AOSCTL_MASTER_KEY", "AOSCTL_DSN", "PGPASSWORD", "pgpassfile", "DATABASE_URL"]
)
def test_what_the_worker_works_with_is_no_key(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    """Who makes models, with a base URL of their own, has no right on the worker's machine."""
    monkeypatch.setenv(variable, "sk-own-secret")
    with OpenAIWire([text("hi")]) as server:
        with pytest.raises(ProviderError, match="aosctl's own") as caught:
            ask(server, api_key_env=variable)
        assert caught.value.kind == "no_key" and not server.requests


def test_the_named_key_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WIRE_KEY", " k-1\n")
    with OpenAIWire([text("x")]) as server:
        ask(server, api_key_env="WIRE_KEY")
        assert server.requests[0].headers["authorization"] == "Bearer k-1"


def test_a_server_of_ones_own_gets_nothing_of_the_openai_account(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-private-000000")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-private")
    with OpenAIWire([text("x")]) as server:
        ask(server)
        headers = server.requests[0].headers
    assert headers["authorization"] == "Bearer none"
    assert "private" not in json.dumps(headers)


# Retries.


def test_a_request_is_sent_again_after_the_time_the_service_asks_for() -> None:
    busy = error(429, headers={"Retry-After": "0"})
    with OpenAIWire([busy, busy, text("Yes.")]) as server:
        events = ask(server, retries=2)
        assert len(server.requests) == 3
    assert events[-1].message.text == "Yes."


def test_a_long_wait_is_left_to_the_caller() -> None:
    busy = error(429, headers={"Retry-After": "60"})
    with OpenAIWire([busy, text("Yes.")]) as server, pytest.raises(ProviderError) as caught:
        ask(server, retries=2)
    assert caught.value.retry_after == 60
    assert caught.value.hint == "try again in 60 s"
    assert len(server.requests) == 1


def test_retries_end() -> None:
    busy = error(503, headers={"Retry-After": "0"})
    with OpenAIWire([busy] * 9) as server, pytest.raises(ProviderError) as caught:
        ask(server, retries=2)
    assert caught.value.kind == "overloaded"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    "reply", [error(401), error(400), text("a").stall(0), text("a", "b").cut(2)]
)
def test_what_would_not_pass_or_has_begun_is_not_sent_again(reply: Reply) -> None:
    with OpenAIWire([reply, text("Yes.")]) as server, pytest.raises(ProviderError):
        ask(server, retries=2, timeout_seconds=0.2)
    assert len(server.requests) == 1


# Closing.


def test_closing_the_stream_closes_the_socket_at_once() -> None:
    with OpenAIWire([text("So ", "far").stall(2)]) as server:
        request = ModelRequest(spec_for(server), "", (user("hi"),))
        events = OpenAIProvider().stream(request)
        assert next(events) == TextDelta("So ")
        assert not server.client_left.is_set()
        events.close()
        assert server.client_left.wait(2)


def test_extras_of_a_call_and_reasoning_details_are_kept() -> None:
    seal = {"google": {"thought_signature": "c2ln"}}
    details = [{"type": "reasoning.encrypted", "data": "x"}]
    reply = stream(
        piece({"reasoning_details": details}),
        piece(call_delta(0, id="a", name="sql_query", arguments="{}", extra_content=seal)),
        piece(finish="tool_calls"),
    )
    message = answer(reply)
    assert message.calls[0].px == {"extra_content": seal}
    assert message.blocks[0] == Opaque("reasoning_details", details)
