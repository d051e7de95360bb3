"""Ollama's own chat API, which tells thinking apart and takes options that chat completions lack.

The SDK's client carries the request: address, headers, connection. Its `chat` is not used: it drops
the ids of calls, the `Retry-After` of a refusal and most of a tool's JSON Schema, takes a picture's
text for the path of a file to send, and breaks a line at characters that JSON allows in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from aosctl.messages import Origin
from aosctl.providers.base import EventStream, Finished, Line, ModelRequest, ModelSpec
from aosctl.providers.connection import check_it_streams, faults_named, http_options, retried
from aosctl.providers.faults import name_fault, retry_after
from aosctl.providers.keys import NO_KEY_NEEDED, read_key
from aosctl.providers.ollama_answer import OllamaAnswer, fault_of
from aosctl.providers.ollama_format import ollama_params
from aosctl.providers.tool_names import ToolNames

if TYPE_CHECKING:
    import httpx

_BASES = ("/v1", "/api")  # what other clients want at the address's end


class OllamaProvider:
    """Speak Ollama's API over the official SDK's client."""

    name = "ollama"

    def __init__(self, max_retries: int = 2) -> None:
        self.max_retries = max_retries

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Ask the model and stream its answer."""
        spec = request.model
        key = read_key(spec, None)
        names = ToolNames(request.tools)
        with faults_named(spec, key), open_client(spec, key, line) as client:
            endpoint = str(client.base_url).rstrip("/")
            answer = OllamaAnswer(spec, names)
            params = ollama_params(request, endpoint, names)
            send = partial(_send, client, spec, key, params)
            with closing(retried(spec, key, self.max_retries, send)) as response:
                check_it_streams(spec, response, key)
                for piece in _lines(response):
                    yield from answer.add(piece)
                    if answer.finished:
                        break
            yield from answer.end()
            yield Finished(answer.message(Origin("ollama", "chat", answer.model, endpoint)))


def _send(
    client: httpx.Client, spec: ModelSpec, key: str, params: dict[str, Any]
) -> httpx.Response:
    response = client.send(client.build_request("POST", "/api/chat", json=params), stream=True)
    if response.is_success:
        return response
    with closing(response):
        body = response.read().decode("utf-8", "replace")
        fault = fault_of(json_or_text(body), response.status_code, retry_after(response.headers))
        raise name_fault(spec, fault, key)


def _lines(response: httpx.Response) -> Iterator[dict[str, object]]:
    """Yield the objects, one a line; httpx's own lines end at U+0085 and U+2028 too."""
    rest = b""
    for part in response.iter_bytes():
        *whole, rest = (rest + part).split(b"\n")
        yield from (found for line in whole for found in _object(line))
    yield from _object(rest)


def _object(line: bytes) -> Iterator[dict[str, object]]:
    if line.strip():
        value = json.loads(line)
        if isinstance(value, dict):
            yield value


def json_or_text(text: str) -> object:
    """Read JSON; what is none is returned as it came."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@contextmanager
def open_client(spec: ModelSpec, key: str, line: Line | None) -> Iterator[httpx.Client]:
    """Open a client of its own for one answer: when it closes, so does its connection."""
    import ollama

    address = spec.base_url and spec.base_url.rstrip("/")
    for base in _BASES:
        address = address and address.removesuffix(base)
    client: httpx.Client = ollama.Client(
        address, follow_redirects=False, **http_options(spec, line)
    )._client
    if key == NO_KEY_NEEDED:  # the environment's is for Ollama's own hosts
        client.headers.pop("authorization", None)
    else:
        client.headers["authorization"] = f"Bearer {key}"
    with client:
        yield client
