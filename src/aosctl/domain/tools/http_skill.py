"""Skills of kind http: the request that a manifest describes, with a call's arguments in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from aosctl.domain import traceparent
from aosctl.domain.names import quoted
from aosctl.domain.request_headers import why_not
from aosctl.domain.tools.base import Call, ToolResult, opened
from aosctl.domain.tools.web.charsets import text_of
from aosctl.domain.tools.web.client import HttpClient, HttpRequest, HttpResponse
from aosctl.domain.tools.web.exchange import Answer
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.tools.web.values import (
    acted,
    check_not_in_clear,
    is_secret,
    parsed_json,
    reach_from,
    refusal,
    without_secrets,
)
from aosctl.domain.url_templates import (
    ABSENT,
    Misfit,
    as_text,
    fill_path,
    fill_query,
    fill_text,
    fill_value,
    split_url,
)
from aosctl.domain.web_addresses import parse
from aosctl.redaction import redact

MOST_BYTES = 1_000_000
REDIRECTS = 5
IDEMPOTENCY_HEADER = "Idempotency-Key"
_TEXTS = ("text/", "application/xml", "application/javascript", "application/x-ndjson")


class HttpSkill:
    """Sends one request, once, and returns what the manifest picks of its answer."""

    name = "http"

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Send the request; a status of 300 or more is a failed result."""
        section = call.settings
        changes = section.get("method", "GET") not in ("GET", "HEAD")
        return acted(lambda: self._run(section, args, call), changes=changes)

    def _run(self, section: Mapping[str, Any], args: Mapping[str, Any], call: Call) -> ToolResult:
        request = request_of(section, args, call)
        response = self._client.send(request, call.timeout_seconds, call.stop)
        return result_of(section, request, response, call)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise Misfit for a header that is the connection's, or none: its value may be a secret's."""
    for name, value in headers.items():
        if (reason := why_not(name, value)) is not None:
            raise Misfit(f"the header {quoted(name)} {reason}")


@dataclass(frozen=True, slots=True)
class _Body:
    data: bytes
    kind: str | None


def request_of(section: Mapping[str, Any], args: Mapping[str, Any], call: Call) -> HttpRequest:
    """Return the request for these arguments. Raises Misfit, Refused, AosError."""
    address = parse(url_of(section, args, call))
    reach = reach_from(section, [address.authority])
    check_not_in_clear(address, reach, "secretRef" in json.dumps(section))
    body = _body(section.get("body") or {}, args, call)
    headers = {name: opened(value, call) for name, value in section.get("headers", {}).items()}
    check_headers(headers)
    if body.kind and "content-type" not in {name.lower() for name in headers}:
        headers["Content-Type"] = body.kind
    if call.effect == "idempotent":
        headers[section.get("idempotencyHeader") or IDEMPOTENCY_HEADER] = call.key
    for name, value in traceparent.carried().items():
        headers.setdefault(name, value)
    return HttpRequest(
        section.get("method", "GET"),
        address,
        reach,
        headers,
        body.data,
        REDIRECTS if section.get("followRedirects") else 0,
        section.get("maxResponseBytes") or MOST_BYTES,
    )


def url_of(section: Mapping[str, Any], args: Mapping[str, Any], call: Call) -> str:
    """Return the URL for these arguments. Raises Misfit, AosError."""
    origin, path, query = split_url(section["url"])
    pairs = [fill_query(query, args)] if query else []
    for key, value in section.get("query", {}).items():
        pairs += [
            f"{quote(key, safe='')}={quote(text, safe='')}" for text in _texts(value, args, call)
        ]
    wanted = [pair for pair in pairs if pair]
    return f"{origin}{fill_path(path, args)}" + (f"?{'&'.join(wanted)}" if wanted else "")


def _texts(value: Any, args: Mapping[str, Any], call: Call) -> list[str]:
    """Return the values of a key of the query: none for an argument that is absent."""
    if is_secret(value):
        return [opened(value, call)]
    filled = fill_value(value, args)
    if filled is ABSENT or filled is None:
        return []
    several = filled if isinstance(filled, list) else [filled]
    return [as_text("query", each) for each in several]


def _body(body: Mapping[str, Any], args: Mapping[str, Any], call: Call) -> _Body:
    if "json" in body:
        filled = _filled(body["json"], args, call)
        text = "" if filled is ABSENT else json.dumps(filled, ensure_ascii=False, allow_nan=False)
        return _Body(_bytes(text), "application/json")
    if "form" in body:
        pairs = [
            (key, text) for key, value in body["form"].items() for text in _texts(value, args, call)
        ]
        return _Body(_bytes(urlencode(pairs)), "application/x-www-form-urlencoded")
    if "text" in body:
        kind = body.get("contentType") or "text/plain; charset=utf-8"
        return _Body(_bytes(fill_text(body["text"], args)), kind)
    return _Body(b"", None)


def _filled(template: Any, args: Mapping[str, Any], call: Call) -> Any:
    """Fill a JSON template, then its own secrets: an argument that looks like one is none."""
    if is_secret(template):
        return opened(template, call)
    if isinstance(template, Mapping):
        made = {key: _filled(value, args, call) for key, value in template.items()}
        return {key: value for key, value in made.items() if value is not ABSENT}
    if isinstance(template, list):
        return [made for value in template if (made := _filled(value, args, call)) is not ABSENT]
    return fill_value(template, args)


def _bytes(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise Misfit("an argument holds half a character") from None


def result_of(
    section: Mapping[str, Any], request: HttpRequest, response: HttpResponse, call: Call
) -> ToolResult:
    """Return what the manifest picks of an answer. Raises RequestFailed."""
    answer = response.answer
    pick = section.get("result") or {}
    kind = answer.headers.get("content-type", "").lower()
    if answer.status >= 300:
        return refusal(response.address, answer, text_of(answer.body, kind))
    content = _content(pick, answer, kind, call)
    if pick.get("bare", call.output is not None) and "truncated" not in content:
        return ToolResult(True, content.get("json", content.get("text")))
    value: dict[str, Any] = {"status": answer.status}
    if pick.get("headers"):
        value["headers"] = _headers(pick["headers"], answer)
    if response.address != request.address:
        value["url"] = str(response.address)
    return ToolResult(True, value | content)


def _headers(names: list[str], answer: Answer) -> dict[str, str]:
    return {name: answer.headers[name.lower()] for name in names if name.lower() in answer.headers}


def _content(pick: Mapping[str, Any], answer: Answer, kind: str, call: Call) -> dict[str, Any]:
    wanted = pick.get("body", "auto")
    if wanted == "none" or (wanted == "auto" and not answer.body):
        return {}
    if wanted == "json" or (wanted == "auto" and "json" in kind.partition(";")[0]):
        return _json(pick.get("pointer", ""), answer, kind, call.max_bytes)
    if wanted == "auto" and kind and not kind.startswith(_TEXTS):
        raise RequestFailed(f"the answer is {kind.partition(';')[0][:100]}, neither JSON nor text")
    text = redact(text_of(answer.body, kind))  # before it is cut, which may go through a secret
    shown = text.encode()[: call.max_bytes].decode("utf-8", "ignore")
    cut = answer.is_cut or len(shown) < len(text)
    return {"text": shown, **({"truncated": True} if cut else {})}


def _json(pointer: str, answer: Answer, kind: str, most_bytes: int) -> dict[str, Any]:
    if answer.is_cut:
        raise RequestFailed("the answer is larger than maxResponseBytes, and half a JSON is none")
    picked = without_secrets(pointed_at(parsed_json(text_of(answer.body, kind)), pointer))
    data = json.dumps(picked, ensure_ascii=False).encode("utf-8", "replace")
    if len(data) <= most_bytes:
        return {"json": picked}
    beginning = data[:most_bytes].decode("utf-8", "ignore")
    return {"truncated": True, "bytes": len(data), "beginning": beginning}


def pointed_at(value: Any, pointer: str) -> Any:
    """Return what a JSON Pointer (RFC 6901) leads to. Raises RequestFailed."""
    for part in pointer.split("/")[1:]:
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(value, Mapping) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            raise RequestFailed(f'the answer has nothing at "{pointer}"')
    return value
