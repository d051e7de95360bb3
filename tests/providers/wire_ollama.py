"""Ollama's own chat API, which answers in lines of JSON.

with OllamaWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace

from providers.wire import Reply, Wire, json_bytes, json_reply

NDJSON = "application/x-ndjson"
USAGE = {"prompt_eval_count": 20, "eval_count": 5}


class OllamaWire(Wire):
    """The server; its SDK adds /api/chat to the host."""

    torn = b'{"model": "wire-1", "mess'


def line(message: Mapping[str, object] | None = None, **extra: object) -> bytes:
    """Make one line of an answer."""
    value = {
        "model": "wire-1",
        "created_at": "2026-11-23T10:00:00.000000Z",
        "message": {"role": "assistant", "content": "", **(message or {})},
        "done": False,
        **extra,
    }
    return json_bytes(value) + b"\n"


def end(reason: str | None = "stop", usage: Mapping[str, object] = USAGE) -> bytes:
    """Make the last line."""
    why = {"done_reason": reason} if reason else {}
    return line(done=True, total_duration=1, load_duration=1, **why, **usage)


def stream(*lines: bytes) -> Reply:
    """Make an answer of these lines."""
    return Reply(lines, content_type=NDJSON)


def text(*words: str, reason: str = "stop", usage: Mapping[str, object] = USAGE) -> Reply:
    """Make an answer in words."""
    return stream(*(line({"content": word}) for word in words), end(reason, usage))


def call(name: str, args: object, call_id: str = "", index: int = 0) -> dict[str, object]:
    """Make a call, whole."""
    given = {"id": call_id} if call_id else {}
    return {**given, "function": {"index": index, "name": name, "arguments": args}}


def calls(*wanted: tuple[str, object], say: str = "") -> Reply:
    """Make an answer that calls tools, each in a line of its own."""
    lines = [line({"content": say})] if say else []
    for index, (name, given) in enumerate(wanted):
        args = json.loads(given) if isinstance(given, str) else given
        lines.append(line({"tool_calls": [call(name, args, f"call_{index + 1}", index)]}))
    return stream(*lines, end())


def error(
    status: int, message: str = "no", _code: str = "", headers: Mapping[str, str] | None = None
) -> Reply:
    """Refuse a request."""
    return json_reply(status, {"error": message}, headers)


def _called(*made: dict[str, object], reason: str = "stop") -> Reply:
    return stream(line({"tool_calls": list(made)}), end(reason))


_TWO = (call("sql_query", {"n": 1}, "a"), call("shop_orders", {"n": 2}, "b"))
_UNREFUSING = "has no refusals"

SCENES: dict[str, Reply | str] = {
    "words": text("There ", "are ", "three."),
    "thought, words and two calls": stream(
        line({"thinking": "Let me "}),
        line({"thinking": "see. 😀"}),
        line({"content": "Loo"}),
        line({"content": "king… ä€😀"}),
        line({"tool_calls": [call("sql_query", {"n": 1}, "a", 0)]}),
        line({"tool_calls": [call("shop_orders", {"n": 2}, "b", 1)]}),
        end(),
    ),
    "words and two calls": calls(
        ("sql_query", {"n": 1}), ("shop_orders", {"n": 2}), say="Looking… ä€😀"
    ),
    "comments that keep the connection alive": "has no comments in its lines",
    "name and id in each piece": "sends calls whole",
    "all parallel calls at index 0": _called(*_TWO),
    "one id for two calls": _called(
        call("sql_query", {"n": 1}, "a"), call("shop_orders", {"n": 2}, "a")
    ),
    "calls beside a plain stop": _called(*_TWO),
    "no count of tokens": text("There ", "are ", "three.", usage={}),
    "cached, written and reasoning tokens": "counts neither",
    "arguments that don't parse": "sends them as an object",
    "a call cut off by the length": _called(call("sql_query", {"n": 1}), reason="length"),
    "words cut off by the length": text("There are", reason="length"),
    "words cut off by the model's window": "is `length` too",
    "a turn that the service pauses": "has no tools of the vendor's own",
    "nothing": text(),
    "a refusal": _UNREFUSING,
    "a refusal without words": _UNREFUSING,
    "a call that is refused": _UNREFUSING,
    "half a character in each of two pieces": text("a\ud83d", "\ude00b\x00"),
    "pieces of no known shape": replace(
        whole := text("There ", "are ", "three."),
        body=(*(json_bytes(odd) + b"\n" for odd in (None, "ping", 1, [], {})), b"\n", *whole.body),
    ),
}

_begun = line({"content": "There"})
_BENEATH = {
    "error": {
        "code": 400,
        "message": "request (8889 tokens) exceeds the available context size (4096 tokens)",
        "type": "exceed_context_size_error",
    }
}
FAULTS: dict[str, Reply | str] = {
    "a wrong key": error(401, "unauthorized"),
    "a key without the right": error(403, "this model is not for you"),
    "an unknown model": error(404, "model 'wire-1' not found"),
    "an unknown parameter": error(400, "option 'foo' must be of type integer"),
    "a context that is too long": error(400, json.dumps(_BENEATH)),
    "a request that is too large": error(413, "request body too large"),
    "too many requests": error(429, "slow down", headers={"Retry-After": "7"}),
    "an account that is used up": error(429, "you have reached your weekly usage limit"),
    "a failure": error(500, "llama runner process has terminated"),
    "overload": error(503, "server busy, please try again"),
    "overload inside the answer": stream(_begun, b'{"error": "the server is overloaded"}\n'),
    "a failure inside the answer": stream(_begun, b'{"error": "an error was encountered"}\n'),
    "a piece that is garbled": stream(_begun, b'{"model": "wire-1", "mess\n'),
    "bytes that are no text": stream(_begun, b'{"model": "\xff\xfe"}\n'),
    "a success that is an error": json_reply(200, {"error": "model 'wire-1' not found"}),
}
