"""One contract for every service behind a wire: the same answers, the same faults, one taxonomy.

What a service can't say in its own format stands in its table (`wire_*.py`) with the reason.
"""

from __future__ import annotations

import gc
import inspect
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from aosctl.errors import ProviderError
from aosctl.messages import Message, Refusal, Usage, user
from aosctl.providers.answers import FILTERED
from aosctl.providers.base import (
    CallStarted,
    Line,
    ModelRequest,
    StreamEvent,
    TextDelta,
    ThinkDelta,
)
from aosctl.providers.connection import PATIENCE_SECONDS
from providers.dialects import DIALECTS, DOTTED, SQL, Dialect, finished, who_say
from providers.wire import BAD_GATEWAY, Reply, Wire

COUNTED = Usage(20, 0, 0, 5, 0)
BOTH: tuple[tuple[str, object], ...] = (("sql_query", {"n": 1}), ("shop.orders", {"n": 2}))


@dataclass(frozen=True)
class Said:
    """What an answer has to become; `calls` are names with arguments, None where none count."""

    text: str = ""
    thinking: str = ""
    calls: tuple[tuple[str, object], ...] = ()
    stop: str = "end"
    usage: Usage | None = COUNTED
    refused: bool = False


SAID = {
    "words": Said("There are three."),
    "thought, words and two calls": Said("Looking… ä€😀", "Let me see. 😀", BOTH, "tool"),
    "words and two calls": Said("Looking… ä€😀", calls=BOTH, stop="tool"),
    "comments that keep the connection alive": Said(calls=BOTH, stop="tool"),
    "name and id in each piece": Said(calls=BOTH, stop="tool"),
    "all parallel calls at index 0": Said(calls=BOTH, stop="tool"),
    "one id for two calls": Said(calls=BOTH, stop="tool"),
    "calls beside a plain stop": Said(calls=BOTH, stop="tool"),
    "no count of tokens": Said("There are three.", usage=None),
    "cached, written and reasoning tokens": Said(
        "There are three.", usage=Usage(20, 80, 10, 30, 20)
    ),
    "arguments that don't parse": Said(calls=(("sql_query", None),), stop="tool"),
    "a call cut off by the length": Said(calls=(("sql_query", None),), stop="length"),
    "words cut off by the length": Said("There are", stop="length"),
    "words cut off by the model's window": Said("There are", stop="length"),
    "a turn that the service pauses": Said("There are", stop="length"),
    "nothing": Said(),
    "a refusal": Said("I can't do that.", stop="refusal", refused=True),
    "a refusal without words": Said(FILTERED, stop="refusal", refused=True),
    "a call that is refused": Said(
        FILTERED, calls=(("sql_query", None),), stop="refusal", refused=True
    ),
    "half a character in each of two pieces": Said("a\U0001f600b\ufffd"),
    "pieces of no known shape": Said("There are three."),
}

FAULTY = {
    "a wrong key": ("auth", False),
    "a key without the right": ("auth", False),
    "an unknown model": ("bad_request", False),
    "an unknown parameter": ("bad_request", False),
    "a context that is too long": ("context_too_long", False),
    "a request that is too large": ("context_too_long", False),
    "too many requests": ("rate_limit", True),
    "an account that is used up": ("rate_limit", False),
    "a failure": ("server", True),
    "overload": ("overloaded", True),
    "overload inside the answer": ("overloaded", True),
    "a failure inside the answer": ("server", True),
    "a piece that is garbled": ("truncated", True),
    "bytes that are no text": ("truncated", True),
    "a success that is an error": ("bad_request", False),
}

dialects = pytest.mark.parametrize("dialect", DIALECTS, ids=lambda d: d.label)


def said_by(
    table: Callable[[Dialect], object], names: object
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Run a test for each thing that each wire can say."""
    cases = [
        pytest.param(dialect, name, id=f"{dialect.label}: {name}")
        for dialect in DIALECTS
        for name in names  # type: ignore[attr-defined]
        if isinstance(table(dialect).get(name), Reply)  # type: ignore[attr-defined]
    ]
    return pytest.mark.parametrize(("dialect", "name"), cases)


def reply(table: object, name: str) -> Reply:
    found = table[name]  # type: ignore[index]
    assert isinstance(found, Reply)
    return found


@dialects
def test_each_wire_says_everything_or_why_it_can_not(dialect: Dialect) -> None:
    assert set(dialect.scenes) == set(SAID)
    assert set(dialect.faults) == set(FAULTY)


# Answers.


def check(message: Message, expected: Said) -> None:
    assert (message.text, message.thinking) == (expected.text, expected.thinking)
    assert tuple((c.name, c.args) for c in message.calls) == expected.calls
    assert message.stop is not None
    assert message.stop.norm == expected.stop
    assert message.usage == expected.usage
    assert any(isinstance(b, Refusal) for b in message.blocks) == expected.refused
    assert len({c.id for c in message.calls if c.id}) == len(expected.calls)
    assert Message.from_json(json.loads(json.dumps(message.to_json()))) == message


@said_by(lambda d: d.scenes, SAID)
def test_an_answer_becomes_the_same_message_whoever_gives_it(dialect: Dialect, name: str) -> None:
    events = dialect.events(reply(dialect.scenes, name))
    check(finished(events), SAID[name])
    pieces = [e for e in events if isinstance(e, TextDelta)]
    assert "".join(e.text for e in pieces) == SAID[name].text
    thought = [e.text for e in events if isinstance(e, ThinkDelta)]
    assert "".join(thought) == SAID[name].thinking
    announced = [e.name for e in events if isinstance(e, CallStarted)]
    assert announced == [called for called, _ in SAID[name].calls]


@said_by(lambda d: d.scenes, SAID)
def test_an_answer_cut_at_every_byte_is_the_same_answer(dialect: Dialect, name: str) -> None:
    check(dialect.answer(reply(dialect.scenes, name).split(1)), SAID[name])


@pytest.mark.parametrize("dialect", who_say("thought, words and two calls"), ids=lambda d: d.label)
def test_thought_words_and_calls_come_in_the_models_order(dialect: Dialect) -> None:
    events = dialect.events(reply(dialect.scenes, "thought, words and two calls"))
    kinds = list(dict.fromkeys(type(e).__name__ for e in events))
    assert kinds == ["ThinkDelta", "TextDelta", "CallStarted", "Finished"]
    blocks = [type(b).__name__ for b in finished(events).blocks]
    assert blocks == ["Think", "Text", "Call", "Call"]


@dialects
def test_arguments_stay_as_they_were_written(dialect: Dialect) -> None:
    raw = '{"b": 1.0, "a": "\\u00e4", "b": 2}'
    (call,) = dialect.answer(dialect.words.calls(("sql_query", raw))).calls
    assert json.loads(call.args_raw) == call.args == {"b": 2, "a": "ä"}


@dialects
def test_the_origin_names_provider_model_endpoint_and_response(dialect: Dialect) -> None:
    with dialect.wire([dialect.words.text("x")]) as server:
        origin = finished(dialect.ask(server)).origin
        assert origin is not None
        assert (origin.provider, origin.api, origin.model) == (dialect.name, dialect.api, "wire-1")
        assert origin.endpoint == server.base_url


# Answers that break off.


@dialects
def test_no_part_of_an_answer_is_taken_for_the_whole(dialect: Dialect) -> None:
    """End the stream, cleanly, in every line: no call may be run, whatever has come of it."""
    whole = dialect.richest
    body = b"".join(whole.body)
    expected = dialect.answer(whole)
    ends = range(1, len(body), 3)
    found_whole = 0
    with dialect.wire([Reply((body[:end],)) for end in ends]) as server:
        for _ in ends:
            try:
                message = finished(dialect.ask(server))
            except ProviderError as error:
                assert error.kind == "truncated"
                assert error.retryable
            else:
                assert message.blocks == expected.blocks
                found_whole += 1
    assert found_whole < len(ends) / 4


@dialects
def test_a_connection_cut_in_the_middle_is_a_network_failure(dialect: Dialect) -> None:
    body = dialect.words.text("There ", "are ", "three.")
    for keep in (1, len(body.body) // 2):
        caught = failure(dialect, body.cut(keep))
        assert (caught.kind, caught.retryable) == ("network", True)


@dialects
@pytest.mark.parametrize("keep", [0, 3])
def test_silence_longer_than_the_models_time_is_a_timeout(dialect: Dialect, keep: int) -> None:
    stalled = dialect.words.text("There ", "are ", "three.").stall(keep)
    caught = failure(dialect, stalled, timeout_seconds=0.2)
    assert (caught.kind, caught.retryable) == ("timeout", True)
    assert "no sign of life for 0.2 s" in str(caught)


# Refusals of the service.


def failure(dialect: Dialect, answer: Reply, **fields: object) -> ProviderError:
    with dialect.wire([answer]) as server, pytest.raises(ProviderError) as caught:
        dialect.ask(server, **fields)
    assert str(caught.value).startswith('model "wired": ')
    assert "\n" not in str(caught.value)
    return caught.value


@said_by(lambda d: d.faults, FAULTY)
def test_a_fault_has_the_same_name_whoever_has_it(dialect: Dialect, name: str) -> None:
    refusal = reply(dialect.faults, name)
    caught = failure(dialect, refusal)
    assert (caught.kind, caught.retryable) == FAULTY[name]
    assert caught.status == (refusal.status if refusal.status >= 400 else caught.status)


@dialects
def test_the_hints_say_what_to_do(dialect: Dialect) -> None:
    def hint(name: str) -> str:
        return str(failure(dialect, reply(dialect.faults, name)).hint)

    assert "spec.model" in hint("an unknown model")
    assert hint("too many requests") == "try again in 7 s"
    assert "billing" in hint("an account that is used up")
    assert dialect.key in hint("a wrong key")


@dialects
def test_a_web_page_instead_of_an_answer_is_told_in_one_line(dialect: Dialect) -> None:
    caught = failure(dialect, BAD_GATEWAY)
    assert (caught.kind, caught.status) == ("server", 502)
    assert str(caught) == (
        "model \"wired\": the service failed (HTTP 502): a web page, '502 Bad Gateway'"
    )
    caught = failure(dialect, Reply((b"<html>Log in</html>",), 200, "text/html"))
    assert caught.kind == "bad_request"
    assert "a web page" in str(caught)


# Sending again.


@dialects
def test_a_request_is_sent_again_after_the_time_the_service_asks_for(dialect: Dialect) -> None:
    busy = dialect.words.error(429, headers={"Retry-After": "0"})
    with dialect.wire([busy, busy, dialect.words.text("Yes.")]) as server:
        assert finished(dialect.ask(server, retries=2)).text == "Yes."
        assert len(server.requests) == 3


@dialects
@pytest.mark.parametrize("status", [408, 409, 429, 500, 503])
def test_the_sdk_itself_sends_nothing_again(dialect: Dialect, status: int) -> None:
    busy = dialect.words.error(status, headers={"Retry-After": "0"})
    with dialect.wire([busy, dialect.words.text("Yes.")]) as server:
        with pytest.raises(ProviderError):
            dialect.ask(server, retries=0)
        assert len(server.requests) == 1


@dialects
def test_a_long_wait_is_left_to_the_caller(dialect: Dialect) -> None:
    asked = PATIENCE_SECONDS * 6
    busy = dialect.words.error(429, headers={"Retry-After": f"{asked:g}"})
    with dialect.wire([busy, dialect.words.text("Yes.")]) as server:
        with pytest.raises(ProviderError) as caught:
            dialect.ask(server, retries=2)
        assert caught.value.retry_after == asked
        assert len(server.requests) == 1


@dialects
def test_what_has_begun_or_was_waited_for_is_not_sent_again(dialect: Dialect) -> None:
    words = dialect.words
    for broken in (words.text("a").stall(0), words.text("a", "b").cut(2), words.error(401)):
        with dialect.wire([broken, words.text("Yes.")]) as server:
            with pytest.raises(ProviderError):
                dialect.ask(server, retries=2, timeout_seconds=0.2)
            assert len(server.requests) == 1


# Leaving.


def silent_after_so(dialect: Dialect) -> Reply:
    whole = dialect.words.text("So ", "far")
    return whole.stall(next(n for n, part in enumerate(whole.body, 1) if b"So " in part))


def begin(dialect: Dialect, server: Wire, line: Line | None = None) -> StreamEvent | None:
    request = ModelRequest(dialect.spec(server), "", (user("hi"),), (SQL, DOTTED))
    events = dialect.provider(0).stream(request, line)
    assert next(events) == TextDelta("So ")
    if line is None:
        events.close()
        return None
    return next(events)


@dialects
def test_closing_the_stream_closes_the_socket_at_once(dialect: Dialect) -> None:
    with dialect.wire([silent_after_so(dialect)]) as server:
        begin(dialect, server)
        assert server.client_left.wait(2)


@dialects
def test_hanging_up_from_another_thread_closes_the_socket_at_once(dialect: Dialect) -> None:
    line = Line()
    with dialect.wire([silent_after_so(dialect)]) as server:
        threading.Timer(0.1, line.hang_up).start()
        with pytest.raises(ProviderError) as caught:
            begin(dialect, server, line)
        assert server.client_left.wait(2)
    assert caught.value.kind == "network"


# Keys.


@dialects
def test_a_missing_key_names_its_variable(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WIRE_KEY", raising=False)
    with dialect.wire([]) as server:
        with pytest.raises(ProviderError) as caught:
            dialect.ask(server, api_key_env="WIRE_KEY")
        assert not server.requests
    assert caught.value.kind == "no_key"
    assert "the environment variable WIRE_KEY is not set" in str(caught.value)


@dialects
def test_the_named_key_is_sent_and_no_error_gives_it_away(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WIRE_KEY", " topsecret-0123456789\n")
    refused = dialect.words.error(401, "no such key: topsecret-0123456789")
    with dialect.wire([refused]) as server:
        with pytest.raises(ProviderError) as caught:
            dialect.ask(server, api_key_env="WIRE_KEY")
        assert server.requests[0].headers["authorization"] == "Bearer topsecret-0123456789"
    assert "topsecret" not in str(caught.value)
    assert caught.value.hint == "check the key in WIRE_KEY"


@dialects
def test_a_server_of_ones_own_gets_nothing_of_the_vendors_account(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    vendor = dialect.key.partition("_")[0]
    monkeypatch.setenv(dialect.key, "sk-private-000000")
    for name in ("ORG_ID", "PROJECT_ID", "AUTH_TOKEN", "PROFILE"):
        monkeypatch.setenv(f"{vendor}_{name}", f"{name}-private")
    monkeypatch.setenv(f"{vendor}_CUSTOM_HEADERS", "x-team: private")
    with dialect.wire([dialect.words.text("x")]) as server:
        dialect.ask(server)
        assert "private" not in json.dumps(server.requests[0].headers)


@dialects
def test_nothing_is_left_to_the_garbage_collector(dialect: Dialect) -> None:
    """A generator of the SDK's that is closed there fails while another thread imports httpx."""
    gc.collect()
    gc.disable()
    try:
        before = suspended()
        with dialect.wire([silent_after_so(dialect), dialect.words.text("x")]) as server:
            begin(dialect, server)
            dialect.ask(server)
        assert suspended() - before == set()
    finally:
        gc.enable()


def suspended() -> set[str]:
    """Name the SDKs' generators that wait to go on."""
    return {
        f"{found.__qualname__} {id(found)}"
        for found in gc.get_objects()
        if inspect.isgenerator(found)
        and found.gi_frame is not None
        and re.search(r"/(openai|anthropic|ollama)/", found.gi_code.co_filename)
    }
