"""The skill http_request: any request to the hosts that its configuration lists."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aosctl.domain.names import quoted
from aosctl.domain.tools.base import Call, ToolResult, opened
from aosctl.domain.tools.http_skill import (
    IDEMPOTENCY_HEADER,
    MOST_BYTES,
    check_headers,
    result_of,
)
from aosctl.domain.tools.web.client import HttpClient, HttpRequest
from aosctl.domain.tools.web.values import (
    acted,
    check_not_in_clear,
    failed,
    reach_from,
)
from aosctl.domain.url_templates import Misfit
from aosctl.domain.web_addresses import Refused, parse


class HttpRequestTool:
    """Sends what the model asks for; to no host unless `config.allowHosts` names it."""

    name = "http_request"

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Send the request; a status of 300 or more is a failed result."""
        changes = args.get("method", "GET") not in ("GET", "HEAD")
        return acted(lambda: self._run(args, call), changes=changes)

    def _run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        if not call.settings.get("allowHosts"):
            return failed(
                "http_request is not configured: no host is allowed",
                hint="a person lists the hosts in the skill's spec.config.allowHosts",
            )
        request = _request(args, call)
        response = self._client.send(request, call.timeout_seconds, call.stop)
        return result_of({}, request, response, call)


def _request(args: Mapping[str, Any], call: Call) -> HttpRequest:
    address = parse(str(args["url"]).strip())
    reach = reach_from(call.settings, [])
    own = call.settings.get("headers") or {}
    has_secrets = "secretRef" in json.dumps(own)
    check_not_in_clear(address, reach, has_secrets)
    if has_secrets and any(pattern.name == "*" for pattern in reach.hosts):
        raise Refused('secrets in config.headers go with hosts by name in allowHosts, not with "*"')
    headers = _headers(args.get("headers") or {}, own)
    body, kind = _body(args.get("body"))
    if kind and not any(name.lower() == "content-type" for name in headers):
        headers["Content-Type"] = kind
    secret = {name: opened(value, call) for name, value in own.items()}
    check_headers(secret)
    headers |= secret
    if call.effect == "idempotent":
        headers[IDEMPOTENCY_HEADER] = call.key
    return HttpRequest(
        str(args.get("method", "GET")),
        address,
        reach,
        headers,
        body,
        most_bytes=MOST_BYTES,
    )


def _headers(given: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, str]:
    """Return the headers that the model asks for. Raises Misfit."""
    taken = {name.lower() for name in own} | {IDEMPOTENCY_HEADER.lower()}
    headers = {name: str(value) for name, value in given.items()}
    check_headers(headers)
    for name in headers:
        if name.lower() in taken:
            raise Misfit(f"the header {quoted(name)} is set by the skill")
    return headers


def _body(body: Any) -> tuple[bytes, str | None]:
    """Return the bytes and type of a body: a text as it is, anything else as JSON."""
    if body is None:
        return b"", None
    text = body if isinstance(body, str) else json.dumps(body, ensure_ascii=False)
    kind = "text/plain; charset=utf-8" if isinstance(body, str) else "application/json"
    try:
        return text.encode(), kind
    except UnicodeEncodeError:
        raise Misfit("the body holds half a character") from None
