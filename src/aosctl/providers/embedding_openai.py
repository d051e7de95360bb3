"""Embeddings as OpenAI serves them, and everyone who speaks its protocol, Google too.

The SDK's own reading of an answer is left out: it turns each number into an object of its models
first, and takes base64 alone where that was asked for. Plain numbers are asked for, which every
server can send; base64 is understood.
"""

from __future__ import annotations

import json
from array import array
from base64 import b64decode
from collections.abc import Sequence
from functools import partial
from sys import byteorder
from typing import TYPE_CHECKING

from aosctl.messages import Json
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.connection import faults_named
from aosctl.providers.embedding import (
    Embedded,
    Limits,
    in_requests,
    request_params,
)
from aosctl.providers.faults import fault_in_stream, name_fault, named
from aosctl.providers.keys import read_key
from aosctl.providers.openai import open_client
from aosctl.providers.wire_values import count, mapping, string

if TYPE_CHECKING:
    from openai import OpenAI

_FLOAT_BYTES = 4


class OpenAIEmbedder:
    """Speak OpenAI's embeddings through the official SDK."""

    name = "openai"
    usual_key = "OPENAI_API_KEY"
    address: str | None = None
    """Where a model without a `base_url` is; None for the SDK's own."""
    # 2,048 texts and 300,000 tokens are OpenAI's most; a token is a character at worst.
    limits = Limits(texts=128, characters=200_000)

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        query: bool,
        dimensions: int | None = None,
        line: Line | None = None,
    ) -> Embedded:
        """Embed texts; see Embedder."""
        key = read_key(model, self.usual_key)
        params = request_params(model, dimensions, query=query)
        address = model.base_url or self.address
        with faults_named(model, key), open_client(model, key, address, line) as client:
            send = partial(_send, client, model, key, params)
            return in_requests(
                model, texts, self.limits, dimensions, send, query=query, key=key, line=line
            )


class GeminiEmbedder(OpenAIEmbedder):
    """Speak with Google, which takes a hundred texts at once."""

    name = "gemini"
    usual_key = "GEMINI_API_KEY"
    address = "https://generativelanguage.googleapis.com/v1beta/openai/"
    limits = Limits(texts=100, characters=100_000)


def _send(
    client: OpenAI, model: ModelSpec, key: str, params: dict[str, Json], texts: Sequence[str]
) -> tuple[list[object], int]:
    """Send one request; return the vectors in the order of the texts, and the tokens."""
    response = client.embeddings.with_raw_response.create(
        model=model.model, input=list(texts), encoding_format="float", extra_body=params or None
    ).http_response
    answer = _json(model, str(response.url), response.content)
    data = answer.get("data")
    if not isinstance(data, list):
        error = answer.get("error")
        if error:
            raise name_fault(model, fault_in_stream(error), key)
        raise named(model, "bad_request", f"{response.url} sent no embeddings")
    usage = mapping(answer.get("usage"))
    tokens = count(usage.get("prompt_tokens")) or count(usage.get("total_tokens"))
    return [_vector(model, mapping(item)) for item in _in_order(model, data)], tokens


def _json(model: ModelSpec, url: str, body: bytes) -> dict[str, object]:
    try:
        answer = json.loads(body)
    except ValueError:
        if body.lstrip()[:1] == b"<":
            raise named(model, "bad_request", f"{url} sent a web page, no embeddings") from None
        raise
    return answer if isinstance(answer, dict) else {}


def _in_order(model: ModelSpec, data: list[object]) -> list[object]:
    """Sort by index, where each has its own; a server that writes none keeps the order."""
    places = [mapping(item).get("index") for item in data]
    if all(place is None for place in places):
        return data
    if sorted(map(str, places)) != sorted(map(str, range(len(data)))):
        raise named(model, "truncated", "its vectors don't say which text each belongs to")
    return sorted(data, key=lambda item: int(str(mapping(item)["index"])))


def _vector(model: ModelSpec, item: object) -> object:
    vector = mapping(item).get("embedding")
    if not isinstance(vector, str):
        return vector
    raw = b64decode(string(vector), validate=True)
    if len(raw) % _FLOAT_BYTES:
        raise named(model, "truncated", "a vector in base64 broke off")
    numbers = array("f", raw)
    if byteorder == "big":
        numbers.byteswap()
    return numbers
