"""Embeddings over the wire: servers that speak OpenAI's protocol and Ollama's, and misbehave.

with EmbedWire([honest(8)]) as server: ...  # each text becomes `vector_of(text, 8)`

A text's vector counts its words, so that texts with words in common are near each other.
"""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from zlib import crc32

from providers.wire import Entry, Reply, Request, Wire, json_reply

Answer = Callable[[Request], Reply]
Change = Callable[[dict[str, Any]], Any]
USAGE = 7
"""Tokens that each request counts."""


class EmbedWire(Wire):
    """OpenAI's protocol, which Google speaks too."""

    path = "/v1"
    torn = b'{"object":"list","data":[{"index":0,"embedding":[0.1,'


class OllamaEmbedWire(Wire):
    """Ollama's; its SDK adds /api/embed to the host."""

    torn = b'{"model":"wire-1","embeddings":[[0.1,'


def vector_of(text: str, dimensions: int) -> list[float]:
    """Count words into so many places."""
    vector = [0.0] * dimensions
    for word in text.lower().split():
        vector[crc32(word.strip(".,;:?!()").encode()) % dimensions] += 1.0
    return vector if any(vector) else [1.0, *vector[1:]]


def texts_of(request: Request) -> list[str]:
    """Return what was to be embedded."""
    return list(request.body["input"])


def openai_answer(request: Request, dimensions: int) -> dict[str, Any]:
    """Answer as OpenAI does."""
    wanted = request.body.get("dimensions", dimensions)
    data = [
        {"object": "embedding", "index": place, "embedding": vector_of(text, wanted)}
        for place, text in enumerate(texts_of(request))
    ]
    usage = {"prompt_tokens": USAGE, "total_tokens": USAGE}
    return {"object": "list", "data": data, "model": "wire-1", "usage": usage}


def ollama_answer(request: Request, dimensions: int) -> dict[str, Any]:
    """Answer as Ollama does, which normalises."""
    wanted = request.body.get("dimensions", dimensions)
    made = [vector_of(text, wanted) for text in texts_of(request)]
    return {"model": "wire-1", "embeddings": made, "prompt_eval_count": USAGE}


def honest(dimensions: int = 8, change: Change = lambda answer: answer) -> Answer:
    """Answer what was asked, in the words of the path's service, after a `change`."""

    def reply(request: Request) -> Reply:
        say = ollama_answer if request.path.startswith("/api") else openai_answer
        body = json.dumps(change(say(request, dimensions))).encode()
        return Reply((body,), 200, "application/json")

    return reply


def half(dimensions: int = 8) -> Answer:
    """Send half of the answer and end as if it were whole."""

    def reply(request: Request) -> Reply:
        (body,) = honest(dimensions)(request).body
        return Reply((body[: len(body) // 2],), 200, "application/json")

    return reply


def vectors_in(answer: dict[str, Any]) -> list[Any]:
    """Return the vectors of an answer, whosever it is."""
    if "embeddings" in answer:
        return list(answer["embeddings"])
    return [item["embedding"] for item in answer["data"]]


def with_vectors(make: Callable[[list[Any]], Iterable[Any]]) -> Change:
    """Put other vectors in; of OpenAI's list as many are left as there are."""

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        made = list(make(vectors_in(answer)))
        if "embeddings" in answer:
            return {**answer, "embeddings": made}
        data = [{"index": at, "embedding": vector} for at, vector in enumerate(made)]
        return {**answer, "data": data}

    return change


def in_base64(answer: dict[str, Any]) -> dict[str, Any]:
    """Write numbers as OpenAI does where base64 is asked for."""
    data = [
        {**item, "embedding": base64.b64encode(struct.pack(f"<{len(v)}f", *v)).decode()}
        for item in answer["data"]
        for v in [item["embedding"]]
    ]
    return {**answer, "data": data}


def reindexed(index: Callable[[int], object]) -> Change:
    """Send the vectors backwards, each with the index that its place gives."""

    def change(answer: dict[str, Any]) -> dict[str, Any]:
        data = [{**item, "index": index(item["index"])} for item in reversed(answer["data"])]
        return {**answer, "data": data}

    return change


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> Entry:
    """Refuse in words, as each service does."""

    def reply(request: Request) -> Reply:
        body: object = {"error": {"message": message, "type": None, "code": None}}
        if request.path.startswith("/api"):
            body = {"error": message}
        return json_reply(status, body, headers)

    return reply
