"""What every provider promises, each asked in its own way: services over real sockets."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial

import pytest

from aosctl.messages import Message, Usage, tool_result, user
from aosctl.providers.base import (
    CallStarted,
    Finished,
    ModelRequest,
    ModelSpec,
    Provider,
    StreamEvent,
    TextDelta,
    ToolSpec,
)
from aosctl.providers.registry import provider_for
from providers.dialects import DIALECTS, Dialect
from providers.wire import Reply, Request

TOOL = ToolSpec("sql_query", "Read with SQL.", {"type": "object"})
QUERY = "select count(*) from shop.orders;"


@dataclass(frozen=True)
class Rig:
    """A provider that calls sql_query for QUERY once, and then says something in words."""

    provider: Provider
    spec: ModelSpec

    def request(self, *messages: Message) -> ModelRequest:
        return ModelRequest(self.spec, "You know SQL.", messages, (TOOL,))

    def ask(self, *messages: Message) -> list[StreamEvent]:
        return list(self.provider.stream(self.request(*messages)))


@contextmanager
def _wired(dialect: Dialect) -> Iterator[ModelSpec]:
    def reply(request: Request) -> Reply:
        if "row_count" in json.dumps(request.messages[-1]):
            return dialect.words.text("There are ", "three ", "orders.")
        return dialect.words.calls(("sql_query", {"query": QUERY}))

    with dialect.wire([reply] * 8) as server:
        yield dialect.spec(server, timeout_seconds=60)


@contextmanager
def _script() -> Iterator[ModelSpec]:
    entries = (
        {"calls": [{"name": "sql_query", "args": {"query": QUERY}}]},
        {"text": "There are three orders."},
    )
    yield ModelSpec("script", "script", "scripted", script=entries)


@contextmanager
def _offline() -> Iterator[ModelSpec]:
    yield ModelSpec("offline", "offline", "offline")


SPECS: dict[str, Callable[[], AbstractContextManager[ModelSpec]]] = {
    **{dialect.label: partial(_wired, dialect) for dialect in DIALECTS},
    "script": _script,
    "offline": _offline,
}


@pytest.fixture(params=SPECS)
def rig(request: pytest.FixtureRequest) -> Iterator[Rig]:
    with SPECS[request.param]() as spec:
        yield Rig(provider_for(spec), spec)


def _message(events: list[StreamEvent]) -> Message:
    assert isinstance(events[-1], Finished)
    return events[-1].message


def test_a_call_is_announced_and_comes_whole_in_the_message(rig: Rig) -> None:
    events = rig.ask(user(QUERY))
    message = _message(events)
    assert [e.name for e in events if isinstance(e, CallStarted)] == ["sql_query"]
    (call,) = message.calls
    assert (call.name, call.args) == ("sql_query", {"query": QUERY})
    assert json.loads(call.args_raw) == call.args
    assert call.id
    assert message.stop is not None
    assert message.stop.norm == "tool"


def test_an_answer_streams_in_pieces_that_are_the_message(rig: Rig) -> None:
    asked = user(QUERY)
    called = _message(rig.ask(asked))
    result = tool_result(
        called.calls[0], {"columns": ["count"], "rows": [[3]], "row_count": 1, "truncated": False}
    )
    events = rig.ask(asked, called, result)
    message = _message(events)
    deltas = [e.text for e in events if isinstance(e, TextDelta)]
    assert len(deltas) > 1
    assert "".join(deltas) == message.text
    assert "3" in message.text or "three" in message.text
    assert sum(isinstance(e, Finished) for e in events) == 1
    assert message.role == "assistant"
    assert message.stop is not None
    assert message.stop.norm == "end"
    assert not message.calls


def test_the_message_names_its_origin_counts_tokens_and_survives_json(rig: Rig) -> None:
    message = _message(rig.ask(user(QUERY)))
    assert message.origin is not None
    assert message.origin.provider == rig.provider.name == rig.spec.provider
    assert isinstance(message.usage, Usage)
    assert Message.from_json(json.loads(json.dumps(message.to_json()))) == message
    assert message.sanitised() is message


def test_closing_early_ends_the_stream_without_a_word(rig: Rig) -> None:
    stream = rig.provider.stream(rig.request(user(QUERY)))
    next(stream)
    stream.close()
    assert list(stream) == []


def test_nothing_happens_before_the_first_event_is_asked_for(rig: Rig) -> None:
    broken = replace(rig.spec, base_url="http://127.0.0.1:1/v1", script=(), timeout_seconds=0.01)
    rig.provider.stream(replace(rig.request(user(QUERY)), model=broken)).close()


@pytest.mark.parametrize("odd", ["NUL \x00 and half \ud83d a smile", "x" * 10_000_000])
def test_any_text_can_be_asked(rig: Rig, odd: str) -> None:
    message = _message(rig.ask(user(odd)))
    json.dumps(message.to_json(), ensure_ascii=False).encode()
    assert "\\u0000" not in json.dumps(message.to_json())


def test_many_threads_use_one_provider(rig: Rig) -> None:
    found: list[str] = []
    barrier = threading.Barrier(4)

    def ask() -> None:
        barrier.wait()
        found.append(_message(rig.ask(user(QUERY))).calls[0].name)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["sql_query"] * 4
