"""OpenAI's chat completions, from OpenAI itself or any service that speaks them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, cast

from aosctl.messages import Json, Origin
from aosctl.providers.base import EventStream, Finished, Line, ModelRequest, ModelSpec
from aosctl.providers.chat_answer import ChatAnswer
from aosctl.providers.chat_format import chat_params
from aosctl.providers.connection import (
    as_dict,
    check_it_streams,
    faults_named,
    hang_up,
    http_options,
    retried,
    timeout_of,
    whole_once_finished,
)
from aosctl.providers.keys import read_key
from aosctl.providers.tool_names import ToolNames

if TYPE_CHECKING:
    from openai import OpenAI, Stream
    from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam


class OpenAIProvider:
    """Speak chat completions through the official SDK."""

    name = "openai"
    usual_key = "OPENAI_API_KEY"
    address: str | None = None
    """Where a model without a `base_url` is; None for the SDK's own."""

    def __init__(self, max_retries: int = 2) -> None:
        self.max_retries = max_retries

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Ask the model and stream its answer."""
        spec = request.model
        key = read_key(spec, self.usual_key)
        address = spec.base_url or self.address
        names = ToolNames(request.tools)
        with faults_named(spec, key), open_client(spec, key, address, line) as client:
            endpoint = str(client.base_url).rstrip("/")
            answer = ChatAnswer(spec, names)
            params = chat_params(request, endpoint, names)
            chunks = retried(spec, key, self.max_retries, partial(_send, client, params))
            try:
                check_it_streams(spec, chunks.response, key)
                with whole_once_finished(answer):
                    for chunk in chunks:
                        yield from answer.add(as_dict(chunk))
            finally:
                hang_up(chunks)
            yield from answer.end()
            origin = Origin(self.name, "chat", answer.model, endpoint, answer.response_id)
            yield Finished(answer.message(origin))


def _send(client: OpenAI, params: dict[str, Json]) -> Stream[ChatCompletionChunk]:
    # All but the transcript goes as extra_body: a parameter the SDK doesn't know is no TypeError.
    rest = {name: value for name, value in params.items() if name != "messages"}
    messages = cast("list[ChatCompletionMessageParam]", params["messages"])
    return client.chat.completions.create(
        model=str(params["model"]), messages=messages, stream=True, extra_body=rest
    )


@contextmanager
def open_client(
    spec: ModelSpec, key: str, address: str | None, line: Line | None
) -> Iterator[OpenAI]:
    """Open a client of its own for one answer: when it closes, so does its connection."""
    import openai

    http = openai.DefaultHttpx2Client(**http_options(spec, line))
    with (
        http,
        openai.OpenAI(
            api_key=key,
            base_url=address,
            timeout=timeout_of(spec),
            max_retries=0,
            http_client=http,
        ) as client,
    ):
        if address:  # the account that the environment names is OpenAI's alone
            client.organization = client.project = None
            client._custom_headers = {}
        yield client
