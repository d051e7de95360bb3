"""Chat completions as Google serves them for Gemini: its own errors, seals and counts.

with GeminiWire([calls(("sql_query", {"query": "select 1"})), text("It is 1.")]) as server:
    ...  # base_url=server.base_url; then server.requests holds what was asked
"""

from __future__ import annotations

from collections.abc import Mapping

from providers import wire_openai
from providers.wire import Reply, Wire, json_reply
from providers.wire_openai import call_delta, calls, piece, sse, stream, text, usage_piece

__all__ = ["FAULTS", "SCENES", "GeminiWire", "calls", "error", "sealed", "text"]

SEAL = {"google": {"thought_signature": "c2VhbA=="}}
_STATUS = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
}


class GeminiWire(Wire):
    """The server."""

    path = "/v1beta/openai"


def error_value(status: int, message: str, *details: Mapping[str, object]) -> dict[str, object]:
    """Make an error as Google words it."""
    value = {"code": status, "message": message, "status": _STATUS.get(status, "UNKNOWN")}
    return {"error": {**value, **({"details": list(details)} if details else {})}}


def error(
    status: int,
    message: str = "no",
    _code: str = "",
    headers: Mapping[str, str] | None = None,
    details: tuple[Mapping[str, object], ...] = (),
) -> Reply:
    """Refuse a request: the error is the one item of a list."""
    return json_reply(status, [error_value(status, message, *details)], headers)


def sealed(*, say: str = "", finish: str = "stop") -> Reply:
    """Make an answer with two whole calls, the first of them sealed, as Google streams it."""
    first = call_delta(0, id="a", name="sql_query", arguments='{"n":1}', extra_content=SEAL)
    second = call_delta(1, id="b", name="shop_orders", arguments='{"n":2}')
    words = [piece({"content": word}) for word in (say[:3], say[3:]) if word]
    both = {"tool_calls": [*first["tool_calls"], *second["tool_calls"]]}  # type: ignore[misc]
    return stream(*words, piece(both), piece(finish=finish), usage_piece())


_begun = sse(piece({"content": "There"}))
SCENES: dict[str, Reply | str] = {
    **wire_openai.SCENES,
    "thought, words and two calls": "keeps its thought to itself",
    "words and two calls": sealed(say="Looking… ä€😀"),
    "calls beside a plain stop": sealed(),
    "cached, written and reasoning tokens": "counts thought in the total only, and no cached ones",
    "a refusal": "gives no words with it",
    "a refusal without words": stream(
        piece({"content": ""}), piece(finish="content_filter: PROHIBITED_CONTENT"), usage_piece()
    ),
}
FAULTS: dict[str, Reply | str] = {
    "a wrong key": error(400, "API key not valid. Please pass a valid API key."),
    "a key without the right": error(403, "The caller does not have permission"),
    "an unknown model": error(404, "models/wire-1 is not found for API version v1main"),
    "an unknown parameter": error(400, 'Invalid JSON payload received. Unknown name "foo"'),
    "a context that is too long": error(
        400, "The input token count (1200000) exceeds the maximum number of tokens allowed"
    ),
    "a request that is too large": error(413, "Request payload size exceeds the limit"),
    "too many requests": error(
        429,
        "You exceeded your current quota, please check your plan and billing details.",
        details=({"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "7s"},),
    ),
    "an account that is used up": error(402, "billing_error: the project has no billing account"),
    "a failure": error(500, "An internal error has occurred"),
    "overload": error(503, "The model is overloaded. Please try again later."),
    "overload inside the answer": Reply(
        (_begun, sse(error_value(503, "The model is overloaded.")))
    ),
    "a failure inside the answer": Reply((_begun, sse(error_value(500, "crashed")))),
    "a piece that is garbled": wire_openai.FAULTS["a piece that is garbled"],
    "bytes that are no text": wire_openai.FAULTS["bytes that are no text"],
    "a success that is an error": json_reply(200, error_value(404, "no such model")),
}
