"""A model's service fails in every way: the turn ends in a clear state and the next one works."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from aosctl.domain.loop_events import Outcome
from providers.wire_openai import (
    Reply,
    call_delta,
    calls,
    error,
    piece,
    stream,
    text,
    usage_piece,
)
from talks import Stage, Talk

WRITE = ("sql_write", {"statement": "insert into item values (90, 'never')"})
HTML = Reply((b"<html><title>502 Bad Gateway</title></html>",), 502, "text/html")


def failed(play: Stage, talk: Talk, *replies: Reply, requests: int) -> Outcome:
    """Send a message that fails; the turn is at rest, nothing of an answer is kept."""
    play.answer(*replies)
    outcome = talk.send("Hello?")
    assert outcome.state == "failed" and outcome.error
    play.assert_at_rest(talk, "failed")
    assert play.state(talk)[2] == outcome.error
    assert len(play.wire.requests) == requests
    assert play.transcript(talk) == [("user", "Hello?")]
    assert not play.database.rows("select 1 from shop.item where id = 90")
    return outcome


def works_again(play: Stage, talk: Talk) -> None:
    """The next message is answered, and the model reads both."""
    del play.wire.queue[:]
    play.answer(text("Here I am."))
    assert talk.send("And now?").text == "Here I am."
    contents = [message["content"] for message in play.wire.requests[-1].messages]
    assert contents == ["You answer.", "Hello?", "And now?"]
    play.assert_at_rest(talk, "completed")


ONCE = {
    "a wrong key": (error(401, "no such key", "invalid_api_key"), "refused the key", "check the"),
    "a quota that is used up": (error(429, "pay", "insufficient_quota"), "too many", "billing"),
    "a wait of ten minutes": (
        error(429, "slow down", headers={"Retry-After": "600"}), "too many", "again in 600 s",
    ),
    "a context too long": (
        error(400, "too long", "context_length_exceeded"), "longer than the model", "new chat",
    ),
    "an unknown model": (error(404, "no such model"), "refused the request", "spec.model"),
    "a web page": (Reply((b"<html><title>Login</title></html>",), 200, "text/html"),
                   "web page", "spec.baseUrl"),
}  # fmt: skip


@pytest.mark.parametrize("fault", ONCE)
def test_a_fault_that_stays_fails_the_turn_at_once_with_what_to_do(play: Stage, fault: str) -> None:
    reply, words, hint = ONCE[fault]
    talk = play.talk()
    outcome = failed(play, talk, reply, requests=1)
    assert words in str(outcome.error) and hint in str(outcome.hint)
    assert talk.pauses == []
    works_again(play, talk)


def sse_bytes(content: bytes) -> bytes:
    """Return a piece of an answer whose text is these bytes."""
    whole = json.dumps(piece({"content": "…"}), ensure_ascii=False).encode()
    return b"data: " + whole.replace("…".encode(), content) + b"\n\n"


PASSING: dict[str, Callable[[], Reply]] = {
    "too many requests": lambda: error(429, "slow down"),
    "a failing service": lambda: error(500, "oops"),
    "an overloaded service": lambda: error(503, "later"),
    "a gateway's web page": lambda: HTML,
    "a cut connection": lambda: calls(WRITE).cut(2),
    "a stream that just ends": lambda: calls(WRITE).eof(3),
    "a stream cut inside a call's arguments": lambda: calls(WRITE, WRITE).cut(3),
    "bytes that are no text": lambda: Reply((sse_bytes(b"\xff\xfe\xc3"), b"data: [DONE]\n\n")),
    "an error inside the stream": lambda: stream(
        piece({"content": "Let"}), {"error": {"message": "crashed", "code": 500}}
    ),
}


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_stays_too_long_fails_the_turn_after_three_attempts(
    play: Stage, fault: str
) -> None:
    talk = play.talk()
    failed(play, talk, *[PASSING[fault]() for _ in range(3)], requests=3)
    assert talk.pauses == [1.0, 2.0] and len(talk.retries) == 2
    works_again(play, talk)


@pytest.mark.parametrize("fault", PASSING)
def test_a_fault_that_passes_costs_an_attempt_and_nothing_else(play: Stage, fault: str) -> None:
    talk = play.talk()
    play.answer(PASSING[fault](), text("Here."))
    outcome = talk.send("Hello?")
    assert (outcome.state, outcome.text) == ("completed", "Here.")
    assert talk.pauses == [1.0]
    assert play.transcript(talk) == [("user", "Hello?"), ("assistant", "Here.")]
    play.assert_at_rest(talk, "completed")


def test_the_wait_that_a_service_asks_for_is_kept(play: Stage) -> None:
    talk = play.talk()
    play.answer(error(429, "slow", headers={"Retry-After": "7"}), text("Here."))
    assert talk.send("Hello?").state == "completed"
    assert talk.pauses == [7.0]


def test_a_silent_service_is_asked_twice(play: Stage) -> None:
    play.set_model(timeoutSeconds=0.3)
    talk = play.talk()
    outcome = failed(play, talk, text("He").stall(0), text("He", "llo").stall(2), requests=2)
    assert "no sign of life for 0.3 s" in str(outcome.error)
    assert "timeoutSeconds" in str(outcome.hint)
    assert talk.pauses == [1.0]
    works_again(play, talk)


def test_a_missing_key_names_the_variable_and_asks_nobody(
    play: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WIRE_KEY", raising=False)
    play.set_model(apiKeyEnv="WIRE_KEY")
    talk = play.talk()
    outcome = failed(play, talk, requests=0)
    assert "WIRE_KEY is not set" in str(outcome.error)
    assert "export WIRE_KEY=..." in str(outcome.hint)
    monkeypatch.setenv("WIRE_KEY", "sk-wire-0123456789")
    works_again(play, talk)
    assert play.wire.requests[0].headers["authorization"] == "Bearer sk-wire-0123456789"


def test_a_model_that_is_set_right_after_a_failure_is_used_in_the_same_chat(play: Stage) -> None:
    play.set_model(baseUrl="http://127.0.0.1:9/v1")
    talk = play.talk()
    outcome = failed(play, talk, requests=0)
    assert "127.0.0.1:9 can be reached" in str(outcome.hint).replace("/v1", "")
    play.set_model()
    works_again(play, talk)


def test_a_key_never_shows_in_an_error_or_in_the_database(
    play: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIRE_KEY", "very-secret-key-1234")
    play.set_model(apiKeyEnv="WIRE_KEY")
    talk = play.talk()
    outcome = failed(play, talk, error(401, "no such key: very-secret-key-1234"), requests=1)
    assert "secret" not in str(outcome.error) and "[redacted]" in str(outcome.error)
    assert not [table for table in play.database.tables() if play.database.value(
        f"select true from {table} t where t::text like '%%very-secret%%' limit 1"  # noqa: S608
    )]  # fmt: skip


def test_a_refusal_is_an_answer(play: Stage) -> None:
    talk = play.talk()
    play.answer(stream(piece({"refusal": "I won't."}), piece(finish="stop"), usage_piece()))
    outcome = talk.send("Hello?")
    assert (outcome.state, outcome.text) == ("completed", "I won't.")
    assert play.messages(talk)[-1]["stop"] == {"norm": "refusal", "raw": "stop"}
    play.assert_at_rest(talk, "completed")


def test_an_empty_answer_ends_the_turn_and_is_not_sent_back(play: Stage) -> None:
    talk = play.talk()
    play.answer(text())
    assert talk.send("Hello?").state == "completed"
    play.assert_at_rest(talk, "completed")
    works_again(play, talk)


def test_an_answer_that_is_cut_by_its_length_is_kept_as_far_as_it_came(play: Stage) -> None:
    talk = play.talk()
    play.answer(text("Once upon", finish="length"))
    outcome = talk.send("Hello?")
    assert (outcome.state, outcome.text) == ("completed", "Once upon")
    assert play.messages(talk)[-1]["stop"]["norm"] == "length"


def test_a_call_that_is_cut_by_the_answers_length_does_not_run(play: Stage) -> None:
    talk = play.talk()
    whole = '{"statement": "insert into item values (90, \'cut\')"}'
    cut = stream(
        piece(call_delta(0, id="call_1", name="sql_write", arguments=whole)),
        piece(finish="length"),
        usage_piece(),
    )
    play.answer(cut, text("I was cut."))
    assert talk.send("Hello?").text == "I was cut."
    assert not play.database.rows("select 1 from shop.item where id = 90")
    assert play.results(talk) == [
        ("sql_write", False, '{"error": "the arguments are not a JSON object"}')
    ]
    play.assert_at_rest(talk, "completed")
