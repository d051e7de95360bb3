"""Ollama's own embeddings; the SDK's client carries the request, as it does in `ollama`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

from aosctl.messages import Json
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.connection import faults_named
from aosctl.providers.embedding import Embedded, Limits, in_requests, request_params
from aosctl.providers.faults import name_fault, named, retry_after
from aosctl.providers.keys import read_key
from aosctl.providers.ollama import json_or_text, open_client
from aosctl.providers.ollama_answer import fault_of
from aosctl.providers.wire_values import count, mapping

if TYPE_CHECKING:
    import httpx

_OF_THE_REQUEST = frozenset({"dimensions", "keep_alive", "options"})
"""What stands beside the texts; any other parameter is one of the model's options."""


class OllamaEmbedder:
    """Speak Ollama's API over the official SDK's client."""

    name = "ollama"
    limits = Limits(texts=32, characters=50_000)

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
        key = read_key(model, None)
        params = _body(request_params(model, dimensions, query=query))
        with faults_named(model, key), open_client(model, key, line) as client:
            send = partial(_send, client, model, key, params)
            return in_requests(
                model, texts, self.limits, dimensions, send, query=query, key=key, line=line
            )


def _body(params: dict[str, Json]) -> dict[str, Json]:
    beside = {name: value for name, value in params.items() if name in _OF_THE_REQUEST}
    options = {name: value for name, value in params.items() if name not in _OF_THE_REQUEST}
    given = mapping(beside.get("options"))
    merged: dict[str, Json] = {**options, **given}  # type: ignore[dict-item]  # out of JSON
    return {**beside, "options": merged} if merged else beside


def _send(
    client: httpx.Client, model: ModelSpec, key: str, params: dict[str, Json], texts: Sequence[str]
) -> tuple[list[object], int]:
    """Send one request; a text that is too long is refused and not cut."""
    body = {"model": model.model, "input": list(texts), "truncate": False, **params}
    response = client.send(client.build_request("POST", "/api/embed", json=body), stream=True)
    with closing(response):
        answer = json_or_text(response.read().decode("utf-8", "replace"))
    if not response.is_success:
        fault = fault_of(answer, response.status_code, retry_after(response.headers))
        raise name_fault(model, fault, key)
    if isinstance(answer, str):
        if answer.lstrip().startswith("<"):
            raise named(model, "bad_request", f"{response.url} sent a web page, no embeddings")
        raise named(model, "truncated", "the answer is no JSON")
    vectors = mapping(answer).get("embeddings")
    if not isinstance(vectors, list):
        raise named(model, "bad_request", f"{response.url} sent no embeddings")
    return vectors, count(mapping(answer).get("prompt_eval_count"))
