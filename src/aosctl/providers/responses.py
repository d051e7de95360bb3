"""OpenAI's Responses API, from OpenAI itself or any service that speaks it.

Models that reason are asked through it at OpenAI: only there do they use tools and reason too, and
only there does their reasoning come back to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from aosctl.messages import Origin
from aosctl.providers.base import EventStream, Finished, Line, ModelRequest
from aosctl.providers.connection import accepted, faults_named, fed
from aosctl.providers.keys import read_key
from aosctl.providers.openai import OpenAIProvider, open_client
from aosctl.providers.responses_answer import ResponsesAnswer
from aosctl.providers.responses_format import API, responses_params
from aosctl.providers.tool_names import ToolNames

if TYPE_CHECKING:
    from openai import OpenAI, Stream
    from openai.types.responses import ResponseStreamEvent

_SEAL_REFUSED = r"encrypted.?content"


class ResponsesProvider(OpenAIProvider):
    """Speak the Responses API through the official SDK."""

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Ask the model and stream its answer."""
        spec = request.model
        key = read_key(spec, self.usual_key)
        address = spec.base_url or self.address
        names = ToolNames(request.tools)
        with faults_named(spec, key), open_client(spec, key, address, line) as client:
            endpoint = str(client.base_url).rstrip("/")
            answer = ResponsesAnswer(spec, names)
            yield from fed(answer, self._open(client, request, key, names), key)
            origin = Origin(self.name, API, answer.model, endpoint, answer.response_id)
            yield Finished(answer.message(origin))

    def _open(
        self, client: OpenAI, request: ModelRequest, key: str, names: ToolNames
    ) -> Stream[ResponseStreamEvent]:
        """Send the request; again without earlier reasoning if its seals are refused."""
        import openai

        endpoint = str(client.base_url).rstrip("/")

        def seal_refused(err: Exception) -> bool:
            refused = re.search(_SEAL_REFUSED, str(err), re.IGNORECASE)
            return isinstance(err, openai.BadRequestError) and refused is not None

        requests = (
            responses_params(request, self.name, endpoint, names, reasons=reasons)
            for reasons in (True, False)
        )
        send = partial(_send, client)
        return accepted(request.model, key, self.max_retries, requests, send, seal_refused)


def _send(client: OpenAI, params: Mapping[str, Any]) -> Stream[ResponseStreamEvent]:
    # All goes as extra_body: a parameter the SDK doesn't know is no TypeError.
    return client.responses.create(
        model=params["model"], input=[], stream=True, store=False, extra_body=params
    )
