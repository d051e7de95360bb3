"""The skill web_fetch: a page of the web, as Markdown that a model reads."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aosctl.domain.tools.base import Call, ToolResult
from aosctl.domain.tools.web.charsets import text_of
from aosctl.domain.tools.web.client import HttpClient, HttpRequest, HttpResponse
from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.tools.web.readable import readable
from aosctl.domain.tools.web.values import acted, reach_from, refusal
from aosctl.domain.web_addresses import parse

_MOST_BYTES = 5_000_000
_REDIRECTS = 5
_ACCEPT = "text/html, application/xhtml+xml, text/*;q=0.9, application/json;q=0.8, */*;q=0.1"
_PAGES = ("text/html", "application/xhtml+xml")
_TEXTS = ("text/", "application/json", "application/xml", "application/javascript")
_LIKE_TEXTS = ("+json", "+xml", "yaml", "ndjson")


class WebFetch:
    """Fetches a page from a public host, or from those in `config.allowHosts` alone."""

    name = "web_fetch"

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Return {"url", "title", "text", …}; of a long text the part from `start` on."""
        return acted(lambda: self._run(args, call), changes=False)

    def _run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        deadline = Deadline(call.timeout_seconds, call.stop)
        request = HttpRequest(
            "GET",
            parse(str(args["url"]).strip()),
            reach_from(call.settings, ["*"]),
            {"Accept": _ACCEPT},
            redirects=_REDIRECTS,
            most_bytes=_MOST_BYTES,
        )
        response = self._client.send(request, call.timeout_seconds, call.stop)
        page = _page(response, deadline)
        if response.answer.status >= 300:
            return refusal(response.address, response.answer, page["text"])
        cut = response.answer.is_cut
        return ToolResult(True, _part(page, response, args.get("start") or 0, call.max_bytes, cut))


def _page(response: HttpResponse, deadline: Deadline) -> dict[str, str]:
    answer = response.answer
    kind = answer.headers.get("content-type", "").lower()
    plain = kind.partition(";")[0].strip()
    if plain in _PAGES or (not plain and answer.body.lstrip()[:1] == b"<"):
        return readable(text_of(answer.body, kind), str(response.address), deadline)
    if plain and not plain.startswith(_TEXTS) and not plain.endswith(_LIKE_TEXTS):
        raise RequestFailed(f"{response.address.authority} sent {plain[:100]}, which is no text")
    return {"title": "", "text": text_of(answer.body, kind)}


def _part(
    page: Mapping[str, str], response: HttpResponse, start: int, most_bytes: int, cut: bool
) -> dict[str, Any]:
    """Return the part of a text that fits, and where the next one begins."""
    text = page["text"]
    start = max(0, int(start))
    shown = text[start:].encode("utf-8", "replace")[:most_bytes].decode("utf-8", "ignore")
    value: dict[str, Any] = {"url": str(response.address)}
    if page["title"]:
        value["title"] = page["title"]
    value["text"] = shown
    end = start + len(shown)
    if end < len(text):
        value |= {"truncated": True, "characters": len(text), "next_start": end}
    elif cut:
        value |= {"truncated": True, "note": f"only {_MOST_BYTES:,} bytes of the page were read"}
    return value
