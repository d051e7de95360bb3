"""Scripted answers, for tests of one's own agents."""

from __future__ import annotations

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Message, Usage, user
from aosctl.providers.base import Finished, ModelRequest, ModelSpec, StreamEvent, ThinkDelta
from aosctl.providers.script import ScriptProvider


def play(script: list[dict[str, object]], *messages: Message) -> tuple[list[StreamEvent], Message]:
    spec = ModelSpec("script", "script", "scripted", script=tuple(script))  # type: ignore[arg-type]
    events = list(ScriptProvider().stream(ModelRequest(spec, "", messages)))
    assert isinstance(events[-1], Finished)
    return events, events[-1].message


def test_the_nth_answer_of_a_conversation_is_entry_n() -> None:
    script: list[dict[str, object]] = [{"text": "one"}, {"text": "two"}]
    _, first = play(script, user("a"))
    _, second = play(script, user("a"), first, user("b"))
    assert (first.text, second.text) == ("one", "two")


def test_a_history_cut_short_keeps_its_place() -> None:
    script: list[dict[str, object]] = [{"text": "one"}, {"text": "two"}, {"text": "three"}]
    _, first = play(script, user("a"))
    _, second = play(script, user("a"), first, user("b"))
    assert play(script, second, user("c"))[1].text == "three"


def test_answers_of_other_models_count() -> None:
    other = Message("assistant", ())
    assert play([{"text": "one"}, {"text": "two"}], user("a"), other, user("b"))[1].text == "two"


def test_a_script_that_runs_out_says_so() -> None:
    with pytest.raises(ProviderError) as caught:
        play([{"text": "one"}], user("a"), Message("assistant", ()), user("b"))
    assert str(caught.value) == (
        'model "scripted": the script has no entry number 2, it ends after 1'
    )
    assert caught.value.kind == "bad_request"


def test_an_entry_thinks_calls_and_is_charged_for() -> None:
    events, message = play(
        [
            {
                "think": "hm hm",
                "text": "Look.",
                "calls": [
                    {"name": "sql_query", "args": {"query": "select 1"}},
                    {"name": "sql_query", "args": '{"query": '},
                    {"name": "memory_recall"},
                ],
                "usage": {"in": 10, "out": 3},
            }
        ],
        user("a"),
    )
    assert [e.text for e in events if isinstance(e, ThinkDelta)] == ["hm ", "hm"]
    assert [call.args for call in message.calls] == [{"query": "select 1"}, None, {}]
    assert message.calls[1].args_raw == '{"query": '
    assert message.usage == Usage(input=10, output=3)


def test_an_entry_can_fail_as_a_service_does() -> None:
    entry = {
        "error": {"kind": "rate_limit", "message": "busy", "retryAfterSeconds": 2, "status": 429}
    }
    with pytest.raises(ProviderError, match="busy") as caught:
        play([entry], user("a"))
    error = caught.value
    assert (error.kind, error.retryable, error.retry_after, error.status) == (
        "rate_limit",
        True,
        2.0,
        429,
    )


def test_an_entry_can_take_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    play([{"text": "one", "delaySeconds": 0.5}], user("a"))
    play([{"text": "one", "delay_seconds": 2}], user("a"))
    assert waited == [0.5, 2.0]
