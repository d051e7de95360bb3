"""Anthropic's Messages API, from Anthropic itself or any service that speaks it.

Thinking is sealed with what stood before it; a service refuses it once the prompt, the tools or an
earlier message has changed. That refusal costs nothing but time: the request is sent again with the
thinking of this turn alone, then with none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, get_args

from aosctl.messages import Origin
from aosctl.providers.anthropic_answer import AnthropicAnswer
from aosctl.providers.anthropic_format import SAMPLING, KeptThinking, messages_params
from aosctl.providers.base import EventStream, Finished, Line, ModelRequest, ModelSpec
from aosctl.providers.connection import (
    accepted,
    faults_named,
    fed,
    http_options,
    timeout_of,
)
from aosctl.providers.keys import read_key
from aosctl.providers.tool_names import ToolNames

if TYPE_CHECKING:
    from anthropic import Anthropic, Stream
    from anthropic.types import RawMessageStreamEvent

_WITH_SAMPLING = "2023-06-01"
"""The last version of the API that takes a temperature; the SDK's own refuses any."""
_SEAL_REFUSED = r"signature.{0,80}thinking|thinking.{0,80}signature"


class AnthropicProvider:
    """Speak the Messages API through the official SDK."""

    name = "anthropic"

    def __init__(self, max_retries: int = 2) -> None:
        self.max_retries = max_retries

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Ask the model and stream its answer."""
        spec = request.model
        key = read_key(spec, "ANTHROPIC_API_KEY")
        names = ToolNames(request.tools)
        with faults_named(spec, key), _client(spec, key, line) as client:
            endpoint = str(client.base_url).rstrip("/")
            answer = AnthropicAnswer(spec, names)
            yield from fed(answer, self._open(client, request, key, names), key)
            origin = Origin("anthropic", "messages", answer.model, endpoint, answer.response_id)
            yield Finished(answer.message(origin))

    def _open(
        self, client: Anthropic, request: ModelRequest, key: str, names: ToolNames
    ) -> Stream[RawMessageStreamEvent]:
        """Send the request; again with less of the earlier thinking if its seals are refused."""
        import anthropic

        endpoint = str(client.base_url).rstrip("/")

        def seal_refused(err: Exception) -> bool:
            refused = re.search(_SEAL_REFUSED, str(err), re.IGNORECASE | re.DOTALL)
            return isinstance(err, anthropic.BadRequestError) and refused is not None

        requests = (
            messages_params(request, endpoint, names, kept) for kept in get_args(KeptThinking)
        )
        send = partial(_send, client)
        return accepted(request.model, key, self.max_retries, requests, send, seal_refused)


def _send(client: Anthropic, params: Mapping[str, Any]) -> Stream[RawMessageStreamEvent]:
    # All goes as extra_body: a parameter the SDK doesn't know is no TypeError.
    samples = any(name in params for name in SAMPLING)
    return client.messages.create(
        model=params["model"],
        max_tokens=params["max_tokens"],
        messages=[],
        stream=True,
        extra_body=params,
        extra_headers={"anthropic-version": _WITH_SAMPLING} if samples else None,
    )


@contextmanager
def _client(spec: ModelSpec, key: str, line: Line | None) -> Iterator[Anthropic]:
    """Open a client of its own for one answer: when it closes, so does its connection."""
    import anthropic

    # A redirect would take the key of a gateway along in a header that no client strips.
    http = anthropic.DefaultHttpxClient(**http_options(spec, line), follow_redirects=False)
    with (
        http,
        anthropic.Anthropic(
            api_key=key,
            base_url=spec.base_url and spec.base_url.rstrip("/").removesuffix("/v1"),
            timeout=timeout_of(spec),
            max_retries=0,
            http_client=http,
            open_telemetry=False,
        ) as client,
    ):
        if spec.base_url:  # the headers that the environment adds are for Anthropic alone
            client._custom_headers = {"x-api-key": key}  # as gateways of older versions read it
        yield client
