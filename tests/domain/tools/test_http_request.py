"""http_request: to no host that nobody has listed, and without a word of its secrets."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aosctl.domain.tools.base import Call, ToolResult, act
from aosctl.domain.tools.http_request import HttpRequestTool
from aosctl.redaction import remember
from websites import Names, Site, json_reply, names, open_client, reply, to

KEY = "k3y-of-the-shop"


def ask(
    args: dict[str, Any], settings: dict[str, Any], resolve: Names | None = None, **more: Any
) -> ToolResult:
    call = Call(
        "http_request", "call-7", settings=settings, secret=lambda reference: remember(KEY), **more
    )
    return act(HttpRequestTool(open_client(resolve or names())), args, call)


def at(site: Site, **more: Any) -> dict[str, Any]:
    """The settings that allow one server."""
    return {"allowHosts": [f"127.0.0.1:{site.port}"], "allowPrivate": True, **more}


def test_without_a_list_of_hosts_nothing_is_asked() -> None:
    result = ask({"method": "GET", "url": "https://example.com/"}, {})
    assert result.value == {
        "error": "http_request is not configured: no host is allowed",
        "hint": "a person lists the hosts in the skill's spec.config.allowHosts",
    }


@pytest.mark.parametrize(
    ("args", "headers", "body"),
    [
        ({"method": "GET"}, {"Content-Length": None}, b""),
        ({"method": "POST", "body": "words"}, {"Content-Type": "text/plain; charset=utf-8"},
         b"words"),
        ({"method": "PUT", "body": {"a": "ü"}}, {"Content-Type": "application/json"},
         '{"a": "ü"}'.encode()),
        ({"method": "PATCH", "body": "<a/>", "headers": {"content-type": "text/xml", "X-A": "1"}},
         {"Content-Type": "text/xml", "X-A": "1"}, b"<a/>"),
        ({"method": "DELETE"}, {}, b""),
    ],
)  # fmt: skip
def test_the_request_is_what_the_model_asks_for(
    args: dict[str, Any], headers: dict[str, str | None], body: bytes
) -> None:
    with Site(lambda seen: json_reply({"done": True})) as site:
        result = ask({**args, "url": f"{site.url}/a?b=c"}, at(site))
    assert result == ToolResult(True, {"status": 200, "json": {"done": True}})
    (seen,) = site.seen
    assert (seen.method, seen.target, seen.body) == (args["method"], "/a?b=c", body)
    assert {name: seen.header(name) for name in headers} == headers


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:{port}/", "http://evil.test:{port}/", "http://127.0.0.1/"]
)
def test_other_hosts_are_refused(url: str) -> None:
    with Site(lambda seen: reply("x")) as site:
        result = ask({"url": url.format(port=site.port)}, at(site), names(evil_test="127.0.0.1"))
    assert "not among the hosts" in result.value["error"]
    assert site.connections == 0


def test_a_redirect_is_told_and_not_followed() -> None:
    with Site(lambda seen: to("/elsewhere")) as site:
        assert "not followed" in ask({"url": site.url}, at(site)).value["error"]
    assert len(site.seen) == 1


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.test"}, {"Content-Length": "0"}, {"Transfer-Encoding": "chunked"},
        {"Connection": "x"}, {"Upgrade": "h2c"}, {"Expect": "100-continue"}, {"X": "a\r\nY: b"},
        {"X\n": "a"}, {"": "a"}, {"X": "a\x00"}, {"Accept-Encoding": "br"}, {"x-api-key": "mine"},
        {"idempotency-key": "mine"}, {"X": "y" * 9_000}, {"X": "\ud800"}, {"Ü": "x"},
    ],
)  # fmt: skip
def test_the_model_sets_no_header_that_is_not_its_own(headers: dict[str, str]) -> None:
    with Site(lambda seen: reply("x")) as site:
        settings = at(site, headers={"X-Api-Key": {"secretRef": "shop/key"}})
        result = ask({"url": site.url, "headers": headers}, settings)
        assert "the header" in result.value["error"]
        assert ask({"url": site.url, "headers": {"X-Mine": "1"}}, settings).ok
    assert [seen.header("x-api-key") for seen in site.seen] == [KEY]


def test_no_secret_comes_back() -> None:
    for status in (200, 401):
        with Site(lambda s, status=status: json_reply(dict(s.lines), status)) as site:  # type: ignore[misc]
            headers = {"A": {"secretRef": "shop/key", "prefix": "Key "}}
            result = ask({"url": site.url}, at(site, headers=headers))
        assert site.seen[0].header("a") == f"Key {KEY}"
        assert KEY not in json.dumps(result.value)
        assert "Key [redacted]" in json.dumps(result.value)


def test_a_secret_goes_to_no_host_that_is_not_named() -> None:
    settings = {"allowHosts": ["*"], "headers": {"A": {"secretRef": "shop/key"}}}
    assert "by name" in ask({"url": "https://evil.test/"}, settings).value["error"]


def test_an_idempotent_call_tells_its_key() -> None:
    with Site(lambda seen: reply("x")) as site:
        ask({"url": site.url, "method": "POST"}, at(site), effect="idempotent")
        ask({"url": site.url, "method": "POST"}, at(site))
    assert [seen.header("idempotency-key") for seen in site.seen] == ["call-7", None]
