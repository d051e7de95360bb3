"""OpenAI's chat completions, from OpenAI itself or any service that speaks them.

Retries: only until the answer begins, at most `max_retries`, and only after faults that pass by
themselves. They are ours and not the SDK's, because the SDK also repeats time-outs, each paid for
and waited for, and sleeps up to two minutes unseen when told to. A service that asks for more
than `PATIENCE_SECONDS` is reported with its `retry_after`.
Times: `timeout_seconds` is the longest silence, before the first byte and between two pieces.
"""

from __future__ import annotations

import json
import os
import random
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, cast

from aosctl.errors import AosError, ProviderError
from aosctl.messages import Json, Origin
from aosctl.providers.base import EventStream, Finished, Line, ModelRequest, ModelSpec
from aosctl.providers.chat_answer import ChatAnswer
from aosctl.providers.chat_format import ToolNames, chat_params
from aosctl.providers.faults import fault_in_stream, name_exception, name_fault, named
from aosctl.redaction import may_be_named, remember

if TYPE_CHECKING:
    import ssl

    import httpcore2
    import httpx2
    from openai import OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

PATIENCE_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_NO_KEY_NEEDED = "none"


class OpenAIProvider:
    """Speak chat completions through the official SDK."""

    name = "openai"

    def __init__(self, max_retries: int = 2) -> None:
        self.max_retries = max_retries

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Ask the model and stream its answer."""
        spec = request.model
        _check_it_speaks(request)
        key = _key(spec)
        names = ToolNames(request.tools)
        with _faults_named(spec, key), _client(spec, key, line) as client:
            endpoint = str(client.base_url).rstrip("/")
            answer = ChatAnswer(spec, names)
            params = chat_params(request, endpoint, names)
            chunks = self._open(client, spec, key, params)
            try:
                _check_it_streams(spec, chunks, key)
                with _whole_once_finished(answer):
                    for chunk in chunks:
                        yield from answer.add(_as_dict(chunk))
            finally:
                chunks.close()
            yield from answer.end()
            origin = Origin("openai", "chat", answer.model, endpoint, answer.response_id)
            yield Finished(answer.message(origin))

    def _open(
        self, client: OpenAI, spec: ModelSpec, key: str, params: dict[str, Json]
    ) -> Stream[ChatCompletionChunk]:
        """Send the request, again if the service asks for it or the connection failed."""
        import openai

        for attempt in range(self.max_retries + 1):
            try:
                return _send(client, params)
            except openai.OpenAIError as err:
                error = name_exception(spec, err, key)
                wait = _wait_seconds(error, attempt)
                if wait is None or attempt == self.max_retries:
                    raise
                time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")


def _check_it_speaks(request: ModelRequest) -> None:
    """Refuse a model that takes tools through the Responses API only; it would answer 400."""
    spec = request.model
    if request.tools and spec.capabilities.get("responses") and spec.base_url is None:
        raise ProviderError(
            f'model "{spec.name}" takes tools only through the Responses API,'
            " which this version does not speak",
            hint="set spec.model of the persona to another one, such as gpt-6-sol",
            kind="bad_request",
        )


def _send(client: OpenAI, params: dict[str, Json]) -> Stream[ChatCompletionChunk]:
    # All but the transcript goes as extra_body: a parameter the SDK doesn't know is no TypeError.
    rest = {name: value for name, value in params.items() if name != "messages"}
    messages = cast("list[ChatCompletionMessageParam]", params["messages"])
    return client.chat.completions.create(
        model=str(params["model"]), messages=messages, stream=True, extra_body=rest
    )


def _wait_seconds(error: ProviderError | None, attempt: int) -> float | None:
    """Say how long to wait before another attempt; None if there should be none."""
    if error is None or not error.retryable or error.kind in ("timeout", "truncated"):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= PATIENCE_SECONDS else None
    return 0.5 * 2.0**attempt * random.uniform(0.75, 1)  # noqa: S311 (spreads load, no secret)


@contextmanager
def _client(spec: ModelSpec, key: str, line: Line | None) -> Iterator[OpenAI]:
    """Open a client of its own for one answer: when it closes, so does its connection."""
    import openai

    silence = spec.timeout_seconds
    timeout = openai.Timeout(silence, connect=min(silence, _CONNECT_SECONDS))
    hooks = {"request": [partial(_report_socket, line)]} if line else {}
    http = openai.DefaultHttpx2Client(verify=_tls(), timeout=timeout, event_hooks=hooks)
    with (
        http,
        openai.OpenAI(
            api_key=key, base_url=spec.base_url, timeout=timeout, max_retries=0, http_client=http
        ) as client,
    ):
        if spec.base_url:  # the account that the environment names is OpenAI's alone
            client.organization = client.project = None
        yield client


def _report_socket(line: Line, request: httpx2.Request) -> None:
    """Let `line` shut the request's socket, as soon as there is one, from another thread."""

    def trace(event: str, info: dict[str, object]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream = cast("httpcore2.NetworkStream", info["return_value"])
            line.opened(partial(_shut, stream.get_extra_info("socket")))

    request.extensions["trace"] = trace


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connected.shutdown(socket.SHUT_RDWR)


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    """Load the certificates once; it takes 50 ms."""
    import httpx2

    return httpx2.create_ssl_context()


def _key(spec: ModelSpec) -> str:
    """Read the key from where the model says; a server of one's own may need none."""
    if spec.open_key is not None:
        return _usable(spec, spec.open_key().strip(), f'the secret "{spec.api_key_secret}"')
    if spec.base_url and not spec.api_key_env:
        return _NO_KEY_NEEDED
    variable = spec.api_key_env or "OPENAI_API_KEY"
    if not may_be_named(variable):
        raise ProviderError(
            f'model "{spec.name}": the environment variable {variable} is aosctl\'s own',
            hint="name another variable in spec.apiKeyEnv of the Model",
            kind="no_key",
        )
    key = remember(os.environ.get(variable, "").strip())
    if not key:
        raise ProviderError(
            f'model "{spec.name}" needs an API key: the environment variable {variable} is not set',
            hint=f"export {variable}=..., or name another variable in spec.apiKeyEnv of the Model",
            kind="no_key",
        )
    return _usable(spec, key, variable)


def _usable(spec: ModelSpec, key: str, where: str) -> str:
    if not (key and key.isascii() and key.isprintable()):
        raise named(spec, "auth", f"{where} holds characters that no key has")
    return key


@contextmanager
def _faults_named(spec: ModelSpec, key: str) -> Iterator[None]:
    """Turn whatever the SDK and the HTTP library raise into a ProviderError."""
    try:
        yield
    except AosError:
        raise
    except Exception as err:
        error = name_exception(spec, err, key)
        if error is None:
            raise
        raise error from err


@contextmanager
def _whole_once_finished(answer: ChatAnswer) -> Iterator[None]:
    """Let the connection fail after the finish reason: only the token count is lost."""
    try:
        yield
    except Exception as err:
        lost = name_exception(answer.spec, err, None)
        if not answer.finished or lost is None or lost.kind not in ("network", "timeout"):
            raise


def _check_it_streams(spec: ModelSpec, chunks: Stream[ChatCompletionChunk], key: str) -> None:
    """Refuse a success that is no event stream: a web page, or one JSON value."""
    kind = chunks.response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("text/html", "application/json"):
        return
    body = chunks.response.read()
    error = None
    if kind == "application/json":
        value = json.loads(body)
        error = value.get("error") if isinstance(value, dict) else None
    if error:
        raise name_fault(spec, fault_in_stream(error), key)
    what = "a web page" if kind == "text/html" else "JSON in one piece"
    raise named(spec, "bad_request", f"{chunks.response.url} sent {what}, not a stream of answers")


def _as_dict(chunk: object) -> dict[str, object]:
    """Read a piece as it came; services send fields and types that the SDK's models lack."""
    import openai

    return chunk.to_dict(warnings=False) if isinstance(chunk, openai.BaseModel) else {}
