"""What Ollama's own API has beside the contract, and what its SDK would do to a request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Call, Media, Message, Origin, Stop, Text, Think, tool_result, user
from aosctl.providers.base import ModelRequest, ModelSpec, ToolSpec
from aosctl.providers.ollama import OllamaProvider
from providers.dialects import DIALECTS, finished
from providers.wire import Request
from providers.wire_ollama import OllamaWire, call, end, error, line, stream, text

OLLAMA = next(d for d in DIALECTS if d.name == "ollama")
CALL = Call("c1", "sql_query", '{"b":1,"a":2}', {"b": 1, "a": 2})
NESTED = {
    "type": "object",
    "properties": {
        "filter": {"type": "object", "properties": {"n": {"type": "integer", "minimum": 1}}},
        "either": {"anyOf": [{"type": "string"}, {"type": "null"}]},
    },
    "required": ["filter"],
    "additionalProperties": False,
}
TOOL = ToolSpec("sql_query", "Read.", NESTED)


def sent(
    *messages: Message,
    system: str = "",
    tools: tuple[ToolSpec, ...] = (),
    output_schema: Any = None,
    payable: int | None = None,
    **fields: Any,
) -> Request:
    """Ask over the wire; return what came there."""
    with OllamaWire([text("x")]) as server:
        spec = OLLAMA.spec(server, **{"max_output_tokens": 100, **fields})
        ours = Origin("ollama", "chat", "wire-1", server.base_url)
        told = tuple(replace(m, origin=ours) if m.role == "assistant" else m for m in messages)
        request = ModelRequest(spec, system, told, tools, payable, output_schema)
        finished(list(OllamaProvider(0).stream(request)))
        return server.requests[0]


# What is sent.


def test_a_turn_with_a_call_in_the_apis_words() -> None:
    asked = Message("assistant", (Think("hm"), Text("Look."), CALL))
    request = sent(user("hi"), asked, tool_result(CALL, {"n": 3}), system="Be brief.")
    assert request.path == "/api/chat"
    assert request.messages == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "hi"},
        {
            "role": "assistant",
            "content": "Look.",
            "thinking": "hm",
            "tool_calls": [
                {
                    "id": "c1",
                    "function": {"index": 0, "name": "sql_query", "arguments": {"b": 1, "a": 2}},
                }
            ],
        },
        {"role": "tool", "content": '{"n": 3}', "tool_name": "sql_query", "tool_call_id": "c1"},
    ]


def test_thinking_of_an_earlier_turn_is_not_sent_again() -> None:
    told = (user("a"), Message("assistant", (Think("hm"), Text("Yes."))), user("b"))
    assert "thinking" not in sent(*told).messages[1]


def test_a_schema_is_sent_whole() -> None:
    (tool,) = sent(user("hi"), tools=(TOOL,)).body["tools"]
    assert tool["function"] == {"name": "sql_query", "description": "Read.", "parameters": NESTED}


def test_a_picture_that_reads_like_a_path_is_no_file_to_send(tmp_path: Path) -> None:
    """The SDK opens it: with its words, a message could read the worker's disk."""
    secret = tmp_path / "secret"
    secret.write_text("the worker's own")
    media = Media("image/png", f"data:image/png;base64,{secret}")
    (message,) = sent(Message("user", (Text("What?"), media))).messages
    assert message == {"role": "user", "content": "What?", "images": [str(secret)]}


@pytest.mark.parametrize(
    "media",
    [
        Media("image/png", "https://example.org/a.png", "a.png"),
        Media("application/pdf", "data:application/pdf;base64,AA==", "a.pdf"),
    ],
)
def test_what_a_model_cannot_be_shown_is_named(media: Media) -> None:
    (message,) = sent(Message("user", (media,))).messages
    assert message["content"] == f"[{media.name}, {media.mime}: this model can't be shown it]"


def test_a_transcript_that_is_too_long_is_to_be_refused_and_not_cut() -> None:
    body = sent(user("hi")).body
    assert (body["truncate"], body["shift"]) == (False, False)
    assert sent(user("hi"), params={"truncate": True}).body["truncate"] is True
    refusal = OLLAMA.faults["a context that is too long"]
    with OllamaWire([refusal]) as server, pytest.raises(ProviderError) as caught:
        OLLAMA.ask(server)
    assert "8889 tokens" in str(caught.value) and "{" not in str(caught.value)
    assert "num_ctx in spec.params" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("params", "capabilities", "expected"),
    [
        ({}, {}, {"options": {"num_predict": 100}}),
        (
            {"temperature": 0.2, "num_ctx": 8192, "max_tokens": 7},
            {},
            {"options": {"temperature": 0.2, "num_ctx": 8192, "num_predict": 7}},
        ),
        ({"options": {"seed": 1}}, {}, {"options": {"seed": 1, "num_predict": 100}}),
        (
            {"think": "high", "keep_alive": "5m"},
            {},
            {"think": "high", "keep_alive": "5m", "options": {"num_predict": 100}},
        ),
        ({"think": True}, {"thinking": False}, {"options": {"num_predict": 100}}),
        ({"temperature": 1}, {"temperature": False}, {"options": {"num_predict": 100}}),
        ({"model": "x", "messages": [], "stream": False}, {}, {"options": {"num_predict": 100}}),
    ],
)
def test_parameters_go_where_ollama_reads_them(
    params: dict[str, Any], capabilities: dict[str, bool], expected: dict[str, Any]
) -> None:
    body = sent(user("hi"), params=params, capabilities=capabilities).body
    fixed = {"model", "messages", "stream", "truncate", "shift"}
    assert {key: value for key, value in body.items() if key not in fixed} == expected
    assert (body["model"], body["stream"]) == ("wire-1", True)


def test_an_answer_is_no_longer_than_money_allows() -> None:
    assert sent(user("hi"), payable=40).body["options"] == {"num_predict": 40}


def test_an_answer_is_held_to_a_schema_where_no_tool_may_be_called() -> None:
    schema, can = {"type": "object"}, {"response_format": True}
    assert sent(user("hi"), output_schema=schema, capabilities=can).body["format"] == schema
    with_tools = sent(user("hi"), output_schema=schema, capabilities=can, tools=(TOOL,))
    assert "format" not in with_tools.body
    assert "format" not in sent(user("hi"), output_schema=schema).body


# What comes.


def test_the_ids_of_calls_are_kept_and_made_where_there_is_none() -> None:
    made = [call("sql_query", {}, "call_x"), call("sql_query", {})]
    first, second = OLLAMA.answer(stream(line({"tool_calls": made}), end())).calls
    assert first.id == "call_x"
    assert second.id.startswith("call_") and second.id != first.id


def test_characters_at_which_the_sdk_breaks_a_line_are_text() -> None:
    said = "a\u0085b\u2028c\x1dd"
    whole = text(said)
    assert any("\u0085".encode() in part for part in whole.body)
    assert OLLAMA.answer(whole).text == said


def test_thinking_between_words_keeps_its_place() -> None:
    reply = stream(line({"content": "a"}), line({"thinking": "b"}), line({"content": "c"}), end())
    assert OLLAMA.answer(reply).blocks == (Text("a"), Think("b"), Text("c"))


def test_an_older_server_gives_no_reason() -> None:
    message = OLLAMA.answer(stream(line({"tool_calls": [call("sql_query", {})]}), end(None)))
    assert message.stop == Stop("tool", "stop")
    assert message.calls[0].args == {}


# Addresses and keys.


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/api/"])
def test_the_address_may_end_as_other_clients_want_it(ending: str) -> None:
    with OllamaWire([text("x")]) as server:
        OLLAMA.ask(server, base_url=server.base_url + ending)
        assert server.requests[0].path == "/api/chat"


def test_without_an_address_the_environments_is_asked_and_gets_no_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with OllamaWire([text("x"), text("x")]) as server:
        monkeypatch.setenv("OLLAMA_HOST", server.base_url)
        monkeypatch.setenv("OLLAMA_API_KEY", "k-1-private")
        spec = ModelSpec("ollama", "wire-1", "wired")
        for one in (spec, replace(spec, api_key_env="OLLAMA_API_KEY")):
            finished(list(OllamaProvider(0).stream(ModelRequest(one, "", (user("hi"),)))))
        plain, keyed = server.requests
    assert "private" not in json.dumps(plain.headers)
    assert keyed.headers["authorization"] == "Bearer k-1-private"


def test_an_unknown_model_says_where_to_look() -> None:
    refusal = error(404, "model 'wire-1' not found")
    with OllamaWire([refusal]) as server, pytest.raises(ProviderError) as caught:
        OLLAMA.ask(server)
    assert "model 'wire-1' not found" in str(caught.value)
    assert "spec.model" in str(caught.value.hint)
