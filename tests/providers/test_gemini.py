"""What Google's chat completions have of their own: seals on calls, hidden thought, its errors."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Call, Message, Origin, Text, Think, Usage, tool_result, user
from aosctl.providers.base import ModelRequest, ModelSpec, TextDelta, ThinkDelta
from aosctl.providers.gemini import GeminiProvider
from providers.dialects import DIALECTS, finished
from providers.wire import Reply
from providers.wire_gemini import SEAL, GeminiWire, calls, error, sealed, text
from providers.wire_openai import call_delta, piece, stream, usage_piece

GEMINI = next(d for d in DIALECTS if d.name == "gemini")
UNSEALED = {"google": {"thought_signature": "skip_thought_signature_validator"}}
CALL = Call("c1", "sql_query", "{}", {})


def failure(reply: Reply) -> ProviderError:
    with GeminiWire([reply]) as server, pytest.raises(ProviderError) as caught:
        GEMINI.ask(server)
    return caught.value


def sent_calls(message: Message) -> list[dict[str, Any]]:
    """Return a message's calls as they are sent behind its results."""
    with GeminiWire([text("x")]) as server:
        if message.origin is not None:
            message = replace(message, origin=replace(message.origin, endpoint=server.base_url))
        told = (user("hi"), message, *(tool_result(c, 1) for c in message.calls))
        request = ModelRequest(GEMINI.spec(server), "", told)
        finished(list(GeminiProvider(0).stream(request)))
        found: list[dict[str, Any]] = server.requests[0].messages[1]["tool_calls"]
        return found


# Seals.


def test_a_seal_on_a_call_goes_back_with_it() -> None:
    message = GEMINI.answer(sealed())
    assert [call.px for call in message.calls] == [{"extra_content": SEAL}, None]
    assert [call.get("extra_content") for call in sent_calls(message)] == [SEAL, None]


def test_calls_of_other_models_are_said_to_have_no_seal() -> None:
    """Without it, Google refuses a turn that another model began."""
    both = (CALL, replace(CALL, id="c2"))
    for origin in (None, Origin("anthropic", "messages", "claude", "https://elsewhere")):
        sent = sent_calls(Message("assistant", both, origin=origin))
        assert [call.get("extra_content") for call in sent] == [UNSEALED, None]


def test_its_own_calls_without_a_seal_stay_as_they_are() -> None:
    message = GEMINI.answer(calls(("sql_query", {})))
    assert [call.get("extra_content") for call in sent_calls(message)] == [None]


# Thought and pictures.

MARK = {"google": {"thought": True}}
THOUGHT = [("think", "Hm, <b>so</b>."), ("text", "It is 7, <thought>s.")]


def said(*deltas: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what is thought and what answer, and see that it was streamed so."""
    events = GEMINI.events(stream(*map(piece, deltas), piece(finish="stop"), usage_piece()))
    message = finished(events)
    assert "".join(e.text for e in events if isinstance(e, ThinkDelta)) == message.thinking
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == message.text
    kinds = {Think: "think", Text: "text"}
    return [(kinds[type(b)], b.text) for b in message.blocks if isinstance(b, Think | Text)]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_a_summary_of_thought_is_no_answer_however_it_is_cut(size: int) -> None:
    whole = "<thought>Hm, <b>so</b>.</thought>It is 7, <thought>s."
    cut = [{"content": whole[n : n + size]} for n in range(0, len(whole), size)]
    assert said(*cut) == THOUGHT


@pytest.mark.parametrize(
    "deltas",
    [
        [{"content": "<thought>Hm, ", "extra_content": MARK},
         {"content": "<b>so</b>.", "extra_content": MARK},
         {"content": "</thought>It is 7, <thought>s."}],
        [{"content": "<thought>Hm, <b>so</b>.", "extra_content": MARK},
         {"content": "It is 7, <thought>s."}],
        [{"content": "Hm, <b>so</b>.", "extra_content": MARK},
         {"content": "It is 7, <thought>s."}],
    ],
)  # fmt: skip
def test_thought_that_is_marked_ends_where_the_mark_does(deltas: list[dict[str, Any]]) -> None:
    assert said(*deltas) == THOUGHT


@pytest.mark.parametrize("words", ["<", "<thou", "<thought", "<though not>"])
def test_what_only_begins_like_a_tag_is_answer(words: str) -> None:
    assert said(*({"content": each} for each in words)) == [("text", words)]


def test_thought_goes_nowhere_again_and_neither_does_its_mark() -> None:
    whole = [{"content": "<thought>Hm.", "extra_content": MARK}, {"content": "</thought>7."}]
    with GeminiWire([stream(*map(piece, whole), piece(finish="stop")), text("x")]) as server:
        spec, told = GEMINI.spec(server), [user("hi")]
        for _ in range(2):
            request = ModelRequest(spec, "", tuple(told))
            told.append(finished(list(GeminiProvider(0).stream(request))))
        assert server.requests[1].messages[1] == {"role": "assistant", "content": "7."}


def test_thinking_is_asked_for_as_google_words_it() -> None:
    asked = {"google": {"thinking_config": {"include_thoughts": True}}}
    with GeminiWire([text("x")]) as server:
        GEMINI.ask(server, params={"extra_body": asked})
        assert server.requests[0].body["extra_body"] == asked


# Counts and ends.


def test_thought_that_shows_in_the_total_only_is_part_of_the_output() -> None:
    usage = {"prompt_tokens": 100, "completion_tokens": 10, "total_tokens": 130}
    assert GEMINI.answer(text("x", usage=usage)).usage == Usage(100, 0, 0, 30, 20)


def test_counts_in_every_piece_are_not_added_up() -> None:
    growing = [
        piece({"content": "x"}, usage={"prompt_tokens": 20, "completion_tokens": n,
                                       "total_tokens": 20 + n})
        for n in (1, 3, 5)
    ]  # fmt: skip
    assert GEMINI.answer(stream(*growing, piece(finish="stop"))).usage == Usage(20, 0, 0, 5, 0)


def test_a_call_that_google_could_not_read_is_asked_for_again() -> None:
    caught = failure(text("x", finish="function_call_filter: MALFORMED_FUNCTION_CALL"))
    assert (caught.kind, caught.retryable) == ("server", True)


def test_a_filter_with_its_reason_permits_no_call() -> None:
    begun = call_delta(0, id="a", name="sql_query", arguments="{}")
    reason = "content_filter: RECITATION"
    message = GEMINI.answer(stream(piece(begun), piece(finish=reason), usage_piece()))
    assert message.calls[0].args is None
    assert message.stop is not None
    assert (message.stop.norm, message.stop.raw) == ("refusal", reason)


# Errors, addresses, keys.


def test_when_to_try_again_stands_in_the_error_or_in_its_head() -> None:
    details = ({"@type": "QuotaFailure"}, {"@type": "RetryInfo", "retryDelay": "34.5s"})
    assert failure(error(429, "slow", details=details)).retry_after == 34.5
    headers = {"Retry-After": "3"}
    assert failure(error(429, "slow", headers=headers, details=details)).retry_after == 3


def test_an_error_in_a_list_says_what_it_says() -> None:
    caught = failure(error(400, "Unknown name foo"))
    assert str(caught) == (
        'model "wired": the service refused the request (HTTP 400): Unknown name foo'
    )


def test_without_an_address_google_is_asked_with_its_own_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-google")
    spec = ModelSpec("gemini", "gemini-3.8-flash", "gemini")
    with pytest.raises(ProviderError) as caught:
        next(GeminiProvider().stream(ModelRequest(spec, "", (user("hi"),))))
    assert "the environment variable GEMINI_API_KEY is not set" in str(caught.value)
    assert GeminiProvider.address == "https://generativelanguage.googleapis.com/v1beta/openai/"


def test_google_is_told_nothing_of_an_account_with_openai(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:9/v1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-private")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "x-team: private")
    monkeypatch.setenv("GEMINI_API_KEY", "k-1")
    with GeminiWire([text("x")]) as server:
        monkeypatch.setattr(GeminiProvider, "address", server.base_url)
        spec = ModelSpec("gemini", "wire-1", "wired")
        finished(list(GeminiProvider(0).stream(ModelRequest(spec, "", (user("hi"),)))))
        headers = server.requests[0].headers
    assert headers["authorization"] == "Bearer k-1"
    assert "private" not in json.dumps(headers)
