"""web_search: each service is asked as its documentation says, and all answer in one form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aosctl.domain.tools.base import Call, ToolResult, act
from aosctl.domain.tools.web_search import WebSearch
from aosctl.redaction import remember
from websites import Answer, Site, json_reply, names, open_client, reply

KEY = "tvly-0123456789abcdef"

# As the services' documentation shows their answers, fields that nobody reads included.
SEARXNG = {
    "query": "hash join",
    "number_of_results": 0,
    "results": [
        {
            "url": "https://www.postgresql.org/docs/current/planner-optimizer.html",
            "title": "PostgreSQL: Planner/Optimizer",
            "content": "hash join: the right relation is first scanned &amp; loaded",
            "publishedDate": "2026-05-14T00:00:00",
            "thumbnail": "",
            "engine": "duckduckgo",
            "parsed_url": ["https", "www.postgresql.org", "/docs", "", "", ""],
            "template": "default.html",
            "img_src": "",
            "priority": "",
            "engines": ["duckduckgo", "brave"],
            "positions": [1, 2],
            "score": 3.0,
            "category": "general",
        },
        {"url": "https://example.com/", "title": "Example", "content": "", "publishedDate": None},
        {"url": "magnet:?xt=urn:btih:0", "title": "A torrent", "content": "x"},
    ],
    "answers": [],
    "corrections": [],
    "infoboxes": [],
    "suggestions": ["hash join vs merge join"],
    "unresponsive_engines": [["google", "timeout"]],
}
BRAVE = {
    "type": "search",
    "query": {"original": "hash join", "more_results_available": True, "country": "us"},
    "mixed": {"type": "mixed", "main": [{"type": "web", "index": 0, "all": False}]},
    "web": {
        "type": "search",
        "family_friendly": True,
        "results": [
            {
                "title": "PostgreSQL: Planner/Optimizer",
                "url": "https://www.postgresql.org/docs/current/planner-optimizer.html",
                "is_source_local": False,
                "is_source_both": False,
                "description": "<strong>hash join</strong>: the right relation is first scanned"
                " &amp; loaded",
                "page_age": "2026-05-14T00:00:00",
                "age": "May 14, 2026",
                "profile": {"name": "PostgreSQL", "url": "https://www.postgresql.org"},
                "language": "en",
                "family_friendly": True,
                "type": "search_result",
                "subtype": "generic",
                "meta_url": {"scheme": "https", "netloc": "postgresql.org"},
            },
            {"title": "Example", "url": "https://example.com/", "description": ""},
        ],
    },
}
TAVILY = {
    "query": "hash join",
    "follow_up_questions": None,
    "answer": None,
    "images": [],
    "results": [
        {
            "url": "https://www.postgresql.org/docs/current/planner-optimizer.html",
            "title": "PostgreSQL: Planner/Optimizer",
            "content": "hash join: the right relation is first scanned & loaded",
            "score": 0.95,
            "raw_content": None,
            "published_date": "2026-05-14T00:00:00",
        },
        {"url": "https://example.com/", "title": "Example", "content": "", "score": 0.1},
    ],
    "response_time": 1.09,
    "request_id": "123e4567-e89b-12d3-a456-426614174111",
}
FOUND = [
    {
        "title": "PostgreSQL: Planner/Optimizer",
        "url": "https://www.postgresql.org/docs/current/planner-optimizer.html",
        "excerpt": "hash join: the right relation is first scanned & loaded",
        "published": "2026-05-14T00:00:00",
    },
    {"title": "Example", "url": "https://example.com/", "excerpt": ""},
]
ASKED: dict[str, tuple[Any, str, dict[str, str], Any]] = {
    "searxng": (SEARXNG, "GET /search?q=hash+join&format=json", {}, None),
    "brave": (
        BRAVE,
        "GET /res/v1/web/search?q=hash+join&count=5&text_decorations=false&result_filter=web",
        {"X-Subscription-Token": KEY, "Accept": "application/json"},
        None,
    ),
    "tavily": (
        TAVILY,
        "POST /search",
        {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"},
        {"query": "hash join", "max_results": 5, "search_depth": "basic"},
    ),
}


def search(settings: dict[str, Any], query: str = "hash join", **more: Any) -> ToolResult:
    call = Call(
        "web_search",
        "k",
        settings=settings,
        effect="read",
        secret=lambda reference: remember(KEY),
        **more,
    )
    return act(WebSearch(open_client(names())), {"query": query}, call)


def settings_of(provider: str, site: Site, **more: Any) -> dict[str, Any]:
    key = {} if provider == "searxng" else {"apiKey": {"secretRef": "search/key"}}
    here = {"baseUrl": f"{site.url}/", "allowPrivate": True}
    return {"provider": provider, **here, **key, **more}


@pytest.mark.parametrize("provider", ASKED)
def test_a_service_is_asked_in_its_way_and_answers_in_ours(provider: str) -> None:
    answer, line, headers, body = ASKED[provider]
    with Site(lambda seen: json_reply(answer)) as site:
        result = search(settings_of(provider, site))
    assert result == ToolResult(True, {"results": FOUND})
    (seen,) = site.seen
    assert f"{seen.method} {seen.target}" == line
    assert {name: seen.header(name) for name in headers} == headers
    assert (json.loads(seen.body) if seen.body else None) == body


@pytest.mark.parametrize("provider", ASKED)
def test_no_more_results_than_the_manifest_wants(provider: str) -> None:
    with Site(lambda seen: json_reply(ASKED[provider][0])) as site:
        result = search(settings_of(provider, site, maxResults=1, language="de"))
    assert result.value == {"results": FOUND[:1]}
    if provider != "tavily":
        assert "=de" in site.seen[0].target


REFUSED: dict[str, tuple[str, Answer, str, dict[str, Any]]] = {
    "SearXNG without JSON": (
        "searxng",
        lambda seen: reply("<h1>Forbidden</h1>", 403, "text/html", "FORBIDDEN"),
        "answered 403 FORBIDDEN",
        {"hint": "SearXNG: settings.yml has to list json in search.formats"},
    ),
    "Brave, a wrong key": (
        "brave",
        lambda seen: json_reply(
            {
                "type": "ErrorResponse",
                "error": {
                    "id": "1", "status": 422, "code": "SUBSCRIPTION_TOKEN_INVALID",
                    "detail": "The provided subscription token is invalid.",
                },
                "time": 1,
            }, 422,
        ),
        "answered 422 OK",
        {"status": 422},
    ),
    "Brave, too often": (
        "brave",
        lambda seen: json_reply({"type": "ErrorResponse"}, 429, Retry_After="1"),
        "answered 429",
        {"retry_after_seconds": 1.0},
    ),
    "Tavily, a wrong key": (
        "tavily",
        lambda seen: json_reply({"detail": {"error": f"Unauthorized: invalid API key {KEY}"}}, 401),
        "answered 401",
        {"body": '{"detail": {"error": "Unauthorized: invalid API key [redacted]"}}'},
    ),
    "Tavily, all used up": (
        "tavily",
        lambda seen: json_reply({"detail": {"error": "This request exceeds your plan"}}, 432),
        "answered 432",
        {"status": 432},
    ),
    "a web page": ("tavily", lambda seen: reply("<html>", kind="text/html"), "no JSON", {}),
}  # fmt: skip


@pytest.mark.parametrize("how", REFUSED)
def test_a_service_that_refuses_is_a_failure(how: str) -> None:
    provider, answer, why, more = REFUSED[how]
    with Site(answer) as site:
        result = search(settings_of(provider, site))
    assert not result.ok
    assert why in result.value["error"]
    assert {name: result.value.get(name) for name in more} == more
    assert KEY not in json.dumps(result.value)


@pytest.mark.parametrize(
    "answer", [[], {}, None, "x", {"results": None, "web": None}, {"results": {}, "web": []},
               {"results": [1, None, {}], "web": {"results": [1, None, {}]}}],
)  # fmt: skip
@pytest.mark.parametrize("provider", ASKED)
def test_an_answer_of_another_form_has_no_results(provider: str, answer: Any) -> None:
    with Site(lambda seen: json_reply(answer)) as site:
        assert search(settings_of(provider, site)).value == {"results": []}


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({}, "web_search is not configured: no search service is set up"),
        ({"provider": "altavista"}, 'knows no service "altavista"'),
        ({"provider": "searxng"}, "baseUrl is missing"),
        ({"provider": "brave"}, "no apiKey or apiKeyEnv"),
        ({"provider": "brave", "apiKeyEnv": "NO_SUCH_KEY"}, "has no variable NO_SUCH_KEY"),
        ({"provider": "brave", "apiKeyEnv": "AOSCTL_MASTER_KEY"}, "aosctl's own"),
        ({"provider": "searxng", "baseUrl": "http://127.0.0.1:8888"}, "private"),
        ({"provider": "searxng", "baseUrl": "http://169.254.1.1", "allowPrivate": True}, "private"),
        ({"provider": "tavily", "baseUrl": "http://a.test", "apiKey": {"secretRef": "a"}}, "http,"),
    ],
)  # fmt: skip
def test_what_is_not_set_up_says_so(settings: dict[str, Any], why: str) -> None:
    result = search(settings)
    assert not result.ok
    assert why in result.value["error"]


def test_a_key_of_the_workers_environment_goes_to_the_service_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MY_SEARCH_KEY", KEY)
    with Site(lambda seen: json_reply(BRAVE)) as site:
        settings = settings_of("brave", site, apiKeyEnv="MY_SEARCH_KEY")
        assert "own address" in search(settings).value["error"]
    assert site.connections == 0
    asked: list[str] = []

    def resolve(host: str, port: int) -> list[str]:
        asked.append(f"{host}:{port}")
        return []

    call = Call("web_search", "k", settings={"provider": "brave", "apiKeyEnv": "MY_SEARCH_KEY"})
    assert not act(WebSearch(open_client(resolve)), {"query": "x"}, call).ok
    assert asked == ["api.search.brave.com:443"]
