"""The skill web_search: the search service that `config.provider` names, all in one form."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlencode

from aosctl.domain.names import quoted
from aosctl.domain.tools.base import Call, ToolResult, opened
from aosctl.domain.tools.web.charsets import text_of
from aosctl.domain.tools.web.client import HttpClient, HttpRequest
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.tools.web.values import (
    acted,
    check_not_in_clear,
    failed,
    from_environment,
    parsed_json,
    reach_from,
    refusal,
)
from aosctl.domain.web_addresses import WebAddress, parse

_MOST_BYTES = 2_000_000
_MOST_RESULTS = 20
_EXCERPT = 1_000
_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")


class _Query(NamedTuple):
    words: str
    most: int
    language: str | None


class _Asked(NamedTuple):
    method: str
    path: str
    headers: dict[str, str]
    body: bytes = b""


class _Service(NamedTuple):
    """A search service: how it is asked, where its results stand, and under which names."""

    base_url: str | None
    ask: Callable[[_Query, str], _Asked]
    results: tuple[str, ...]
    excerpt: str
    published: tuple[str, ...]


class WebSearch:
    """Asks the service; without one it says so plainly, and the model goes on without."""

    name = "web_search"

    def __init__(self, client: HttpClient | None = None) -> None:
        """Without a client: one that reaches no network of this host's own."""
        self._client = client or HttpClient()

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        """Return {"results": [{"title", "url", "excerpt", …}, …]}."""
        return acted(lambda: self._run(args, call), changes=False)

    def _run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        provider = call.settings.get("provider")
        if provider is None:
            return failed(
                "web_search is not configured: no search service is set up",
                hint="answer from what you know or from rag_search, and say so",
            )
        service = _SERVICES.get(str(provider))
        if service is None:
            return failed(f"web_search knows no service {quoted(str(provider))}")
        count = min(int(call.settings.get("maxResults") or 5), _MOST_RESULTS)
        query = _Query(str(args["query"]), count, call.settings.get("language"))
        return self._ask(service, query, call)

    def _ask(self, service: _Service, query: _Query, call: Call) -> ToolResult:
        base = call.settings.get("baseUrl") or service.base_url
        if not base:
            return failed("web_search is not configured: spec.config.baseUrl is missing")
        key = _key(call)
        if not key and service.base_url:
            return failed("web_search is not configured: spec.config has no apiKey or apiKeyEnv")
        asked = service.ask(query, key)
        address = parse(str(base).rstrip("/") + asked.path)
        request = _request(address, asked, call, has_key=bool(key))
        answer = self._client.send(request, call.timeout_seconds, call.stop).answer
        text = text_of(answer.body, answer.headers.get("content-type", "").lower())
        if answer.status >= 300:
            result = refusal(address, answer, text)
            if answer.status == 403 and service is _SERVICES["searxng"]:
                result.value["hint"] = "SearXNG: settings.yml has to list json in search.formats"
            return result
        return ToolResult(True, _found(service, parsed_json(text), query.most))


def _request(address: WebAddress, asked: _Asked, call: Call, *, has_key: bool) -> HttpRequest:
    reach = reach_from({**call.settings, "allowHosts": None}, [address.authority])
    check_not_in_clear(address, reach, has_key)
    headers = {"Accept": "application/json", **asked.headers}
    return HttpRequest(asked.method, address, reach, headers, asked.body, most_bytes=_MOST_BYTES)


def _key(call: Call) -> str:
    if "apiKeyEnv" in call.settings:
        # A variable is the worker's, not the tenant's: it goes to no address of their choice.
        if "baseUrl" in call.settings:
            raise RequestFailed("apiKeyEnv goes to the service's own address; with baseUrl, apiKey")
        return from_environment(str(call.settings["apiKeyEnv"]))
    return opened(call.settings["apiKey"], call) if "apiKey" in call.settings else ""


def _found(service: _Service, answer: Any, most: int) -> dict[str, Any]:
    """Return the results of any service in one form; what is none is left out."""
    listed = answer
    for name in service.results:
        listed = listed.get(name) if isinstance(listed, Mapping) else None
    rows = [row for row in listed or () if isinstance(row, Mapping)] if listed else []
    made = [_row(service, row) for row in rows]
    kept = [row for row in made if row["url"].startswith(("https://", "http://"))]
    return {"results": kept[:most]}


def _row(service: _Service, row: Mapping[str, Any]) -> dict[str, str]:
    made = {
        "title": _plain(row.get("title")),
        "url": str(row.get("url") or ""),
        "excerpt": _plain(row.get(service.excerpt))[:_EXCERPT],
    }
    published = next((row[name] for name in service.published if row.get(name)), None)
    return made | ({"published": _plain(published)} if published else {})


def _plain(text: Any) -> str:
    """Return a text without the marks that services put around what was found."""
    return " ".join(html.unescape(_TAG.sub("", str(text or ""))).split())


def _ask_searxng(query: _Query, key: str) -> _Asked:
    said = {"q": query.words, "format": "json", "language": query.language}
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    return _Asked("GET", f"/search?{_pairs(said)}", headers)


def _ask_brave(query: _Query, key: str) -> _Asked:
    said = {
        "q": query.words[:400],  # the most it takes
        "count": query.most,
        "search_lang": query.language,
        "text_decorations": "false",
        "result_filter": "web",
    }
    return _Asked("GET", f"/res/v1/web/search?{_pairs(said)}", {"X-Subscription-Token": key})


def _ask_tavily(query: _Query, key: str) -> _Asked:
    body = {"query": query.words, "max_results": query.most, "search_depth": "basic"}
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    return _Asked("POST", "/search", headers, json.dumps(body).encode())


def _pairs(said: Mapping[str, Any]) -> str:
    return urlencode({key: value for key, value in said.items() if value is not None})


# https://docs.searxng.org/dev/search_api.html · https://api-dashboard.search.brave.com
# https://docs.tavily.com/documentation/api-reference/endpoint/search
_SERVICES: Mapping[str, _Service] = {
    "searxng": _Service(None, _ask_searxng, ("results",), "content", ("publishedDate",)),
    "brave": _Service(
        "https://api.search.brave.com",
        _ask_brave,
        ("web", "results"),
        "description",
        ("page_age", "age"),
    ),
    "tavily": _Service(
        "https://api.tavily.com", _ask_tavily, ("results",), "content", ("published_date",)
    ),
}
