"""Skills of kind http against real servers: what is sent, what comes back, what never does."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from aosctl.domain.tools.base import Call, ToolResult, act
from aosctl.domain.tools.http_skill import HttpSkill
from aosctl.errors import NotFound
from aosctl.redaction import remember
from websites import Answer, Names, Seen, Site, authority, json_reply, names, open_client, reply, to

KEY = "sk-l1ve-0123456789"
SECRETS = {"shop/key": KEY, "shop/other": "an0ther-0ne"}


def secret(reference: str) -> str:
    if reference not in SECRETS:
        raise NotFound(f'no secret "{reference}"')
    return remember(SECRETS[reference])


def use(
    section: dict[str, Any],
    args: dict[str, Any] | None = None,
    *,
    resolve: Names | None = None,
    **more: Any,
) -> ToolResult:
    """Call a skill of this section, whose host is one of this machine."""
    settings = {"allowNetworks": ["127.0.0.1/32"], **section}
    call = Call("orders", "call-1", settings=settings, secret=secret, **more)
    return act(HttpSkill(open_client(resolve or names())), args or {}, call)


def echo(seen: Seen) -> bytes:
    """Answer with all that came, as httpbin does."""
    return json_reply(
        {"target": seen.target, "headers": dict(seen.lines), "body": seen.body.decode()}
    )


REQUESTS: list[tuple[dict[str, Any], dict[str, Any], str, dict[str, str], bytes]] = [
    ({"url": "/orders/{id}"}, {"id": 17}, "GET /orders/17", {}, b""),
    ({"url": "/orders/{id}?full=true"}, {"id": "a b"}, "GET /orders/a%20b?full=true", {}, b""),
    (
        {"url": "/find?v=2&page={page}", "query": {"q": "{words}", "tag": "{tags}", "n": 5}},
        {"words": "a&b=c", "tags": ["x", "y"]},
        "GET /find?v=2&q=a%26b%3Dc&tag=x&tag=y&n=5", {}, b"",
    ),
    (
        {"url": "/o", "query": {"key": {"secretRef": "shop/key"}}},
        {}, f"GET /o?key={KEY}", {}, b"",
    ),
    (
        {"url": "/o", "method": "DELETE", "headers": {"X-Why": "clean up", "A": {
            "secretRef": "shop/key", "prefix": "Bearer "}}},
        {}, "DELETE /o", {"X-Why": "clean up", "A": f"Bearer {KEY}"}, b"",
    ),
    (
        {"url": "/o", "method": "POST", "body": {"json": {
            "id": "{id}", "note": "no. {id}", "maybe": "{maybe}", "lines": ["{line}"], "n": 1,
            "key": {"secretRef": "shop/key"}}}},
        {"id": 7, "line": {"sku": "x"}},
        "POST /o", {"Content-Type": "application/json"},
        json.dumps({"id": 7, "note": "no. 7", "lines": [{"sku": "x"}], "n": 1, "key": KEY})
        .encode(),
    ),
    (
        {"url": "/o", "method": "POST", "body": {"json": "{order}"}}, {"order": [1, {"ü": None}]},
        "POST /o", {"Content-Type": "application/json"}, '[1, {"ü": null}]'.encode(),
    ),
    (
        {"url": "/o", "method": "PUT", "body": {"form": {"a": "{a}", "b": "{b}", "c": "{c}"}}},
        {"a": "1&2=3", "c": ["x", "y"]},
        "PUT /o", {"Content-Type": "application/x-www-form-urlencoded"}, b"a=1%262%3D3&c=x&c=y",
    ),
    (
        {"url": "/o", "method": "PATCH", "body": {
            "text": "<id>{id}</id>", "contentType": "text/xml"}},
        {"id": 3}, "PATCH /o", {"Content-Type": "text/xml"}, b"<id>3</id>",
    ),
    ({"url": "/o", "method": "POST"}, {}, "POST /o", {"Content-Length": "0"}, b""),
]  # fmt: skip


@pytest.mark.parametrize(("section", "args", "line", "headers", "body"), REQUESTS)
def test_the_request_is_the_manifests_with_the_arguments_in_it(
    section: dict[str, Any], args: dict[str, Any], line: str, headers: dict[str, str], body: bytes
) -> None:
    with Site(lambda seen: json_reply({"ok": True})) as site:
        result = use({**section, "url": site.url + section["url"]}, args)
    assert result == ToolResult(True, {"status": 200, "json": {"ok": True}})
    (seen,) = site.seen
    assert f"{seen.method} {seen.target}" == line
    assert {name: seen.header(name) for name in headers} == headers
    assert seen.body == body


@pytest.mark.parametrize(
    ("url", "args"),
    [
        ("/orders/{id}", {"id": "../admin"}),
        ("/orders/{id}", {"id": ".."}),
        ("/orders/{id}", {"id": "1/refund"}),
        ("/orders/{id}", {"id": ""}),
        ("/orders/{id}", {}),
        ("/orders/{id}", {"id": ["1"]}),
        ("/orders/{id}?x={x}", {"id": "1", "x": {}}),
        ("/orders/{id}", {"id": "\ud800"}),
    ],
)
def test_arguments_that_would_lead_elsewhere_send_nothing(url: str, args: dict[str, Any]) -> None:
    with Site(echo) as site:
        result = use({"url": site.url + url}, args)
        assert not result.ok
        assert "argument" in result.value["error"]
        assert use({"url": site.url + url}, {"id": "1"}).ok
    assert len(site.seen) == 1


@pytest.mark.parametrize("argument", ["@evil.test/", ".evil.test/", ":80@evil.test", "\\evil.test"])
def test_an_argument_after_the_host_is_no_part_of_it(argument: str) -> None:
    with Site(echo) as site:
        result = use({"url": site.url + "/{id}"}, {"id": argument})
    assert all(seen.header("host") == f"127.0.0.1:{site.port}" for seen in site.seen)
    assert result.ok or "argument" in result.value["error"]


def test_a_placeholder_in_the_host_is_refused_by_the_tool_too() -> None:
    result = use({"url": "http://{host}/"}, {"host": "127.0.0.1"})
    assert "placeholder in its host" in result.value["error"]


def test_an_argument_can_not_ask_for_a_secret() -> None:
    section = {"method": "POST", "body": {"json": {"a": "{a}"}}}
    with Site(echo) as site:
        use({**section, "url": site.url}, {"a": {"secretRef": "shop/key"}})
    assert site.seen[0].json == {"a": {"secretRef": "shop/key"}}


# What comes back.

ANSWERS: list[tuple[bytes, dict[str, Any], dict[str, Any]]] = [
    (json_reply([1]), {}, {"json": [1]}),
    (reply('{"a": 1}', kind="application/problem+json"), {}, {"json": {"a": 1}}),
    (reply("hello"), {}, {"text": "hello"}),
    (reply("hällo".encode("latin-1"), kind="text/plain; charset=latin1"), {}, {"text": "hällo"}),
    (reply(b"", 204, reason="No Content"), {}, {"status": 204}),
    (json_reply({"d": [{"x/y": 5}]}), {"pointer": "/d/0/x~1y"}, {"json": 5}),
    (reply("[2]"), {"body": "json"}, {"json": [2]}),
    (json_reply([3]), {"body": "text"}, {"text": "[3]"}),
    (json_reply([4]), {"body": "none"}, {}),
    (json_reply([5], X_Total="9"), {"headers": ["X-Total", "X-Absent"]},
     {"json": [5], "headers": {"X-Total": "9"}}),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "pick", "value"), ANSWERS)
def test_the_manifest_picks_of_the_answer(
    answer: bytes, pick: dict[str, Any], value: dict[str, Any]
) -> None:
    with Site(lambda seen: answer) as site:
        result = use({"url": site.url, "result": pick})
    assert result == ToolResult(True, {"status": 200, **value})


@pytest.mark.parametrize(
    ("answer", "pick", "why"),
    [
        (reply("<html>", kind="text/html"), {"body": "json"}, "no JSON"),
        (json_reply({"a": 1}), {"pointer": "/b"}, 'nothing at "/b"'),
        (reply(b"[NaN]", kind="application/json"), {}, "no JSON"),
        (reply("[" * 200_000, kind="application/json"), {}, "no JSON"),
        (reply("1" * 5_000, kind="application/json"), {}, "no JSON"),
        (reply(b"\x89PNG", kind="image/png"), {}, "image/png, neither"),
        (json_reply("x" * 2_000_000), {}, "half a JSON"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_fails(
    answer: bytes, pick: dict[str, Any], why: str
) -> None:
    with Site(lambda seen: answer) as site:
        result = use({"url": site.url, "result": pick})
    assert not result.ok
    assert why in result.value["error"]


def test_an_output_schema_is_of_what_comes_back_bare() -> None:
    output = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    for value, ok in (({"id": 1}, True), ({"id": "1"}, False), ({}, False)):
        with Site(lambda seen, value=value: json_reply(value)) as site:  # type: ignore[misc]
            result = use({"url": site.url}, output=output)
        assert result.ok == ok
        assert (result.value == value) if ok else ("does not fit" in result.value["error"])


def test_a_large_result_is_cut_and_says_so() -> None:
    with Site(lambda seen: json_reply(["x" * 5_000])) as site:
        value = use({"url": site.url}, max_bytes=1_000).value
    assert (value["truncated"], value["bytes"], len(value["beginning"])) == (True, 5_004, 1_000)
    with Site(lambda seen: reply("ü" * 5_000)) as site:
        value = use({"url": site.url}, max_bytes=1_001).value
    assert value == {"status": 200, "text": "ü" * 500, "truncated": True}


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_a_status_of_an_error_is_a_failure_with_the_beginning(status: int) -> None:
    answer = json_reply({"why": "x" * 5_000}, status, Retry_After="7")
    with Site(lambda seen: answer) as site:
        result = use({"url": site.url})
    assert not result.ok
    assert result.value["error"] == f"127.0.0.1:{site.port} answered {status} OK"
    assert (result.value["status"], result.value["retry_after_seconds"]) == (status, 7)
    assert result.value["body"] == ('{"why": "' + "x" * 5_000)[:2_000]


def test_a_date_to_retry_after_is_told_in_seconds() -> None:
    answer = reply(
        b"", 503, Retry_After="Mon, 23 Nov 2026 10:01:30 GMT", Date="Mon, 23 Nov 2026 10:00:00 GMT"
    )
    with Site(lambda seen: answer) as site:
        assert use({"url": site.url}).value["retry_after_seconds"] == 90


def test_redirects_are_followed_where_the_manifest_says_so() -> None:
    with Site(lambda seen: to("/b") if seen.target == "/a" else json_reply(1)) as site:
        section = {"url": f"{site.url}/a"}
        refused = use(section)
        assert "a redirect that is not followed" in refused.value["error"]
        followed = use({**section, "followRedirects": True})
    assert followed.value == {"status": 200, "url": f"{site.url}/b", "json": 1}


def test_a_redirect_leads_to_no_host_but_those_of_the_manifest() -> None:
    with Site(echo) as there, Site(lambda seen: to(there.at("b.test"))) as here:
        resolve = names(a_test="127.0.0.1", b_test="127.0.0.1")
        section = {"url": here.at("a.test"), "followRedirects": True}
        assert "is refused" in use(section, resolve=resolve).value["error"]
        assert there.connections == 0
        section["allowHosts"] = [f"*.test:{here.port}", f"b.test:{there.port}"]
        section["headers"] = {"X-Api-Key": {"secretRef": "shop/key"}}
        assert use(section, resolve=resolve).ok
    assert here.seen[-1].header("x-api-key") == KEY
    assert KEY not in str(there.seen)


@pytest.mark.parametrize(("effect", "key"), [("idempotent", "call-1"), ("unsafe", None)])
def test_an_idempotent_call_tells_its_key(effect: str, key: str | None) -> None:
    with Site(echo) as site:
        use({"url": site.url, "method": "POST"}, effect=effect)
        use({"url": site.url, "method": "POST", "idempotencyHeader": "X-Once"}, effect=effect)
    first, second = site.seen
    assert (first.header("idempotency-key"), second.header("idempotency-key")) == (key, None)
    assert second.header("x-once") == key


# No secret comes back: not from a server that repeats it, not in a failure, not in an error.

SAYS_IT: dict[str, Answer] = {
    "as it came": echo,
    "in a header": lambda seen: reply("x", X_Echo=str(seen.header("authorization"))),
    "in a text": lambda seen: reply(f"you sent {seen.header('authorization')}!"),
    "in an error": lambda seen: reply(f"bad key {KEY}", 401),
    "as a key": lambda seen: json_reply({KEY: {f"x{KEY}": [KEY]}}),
    "as a reason": lambda seen: reply(b"", 403, reason=f"no {KEY}"),
    "in a redirect": lambda seen: to(f"http://evil.test/{KEY}"),
    "where it leads": lambda seen: to(f"/{KEY}") if seen.target == "/" else reply("x"),
    "in broken JSON": lambda seen: reply(f'{{"{KEY}', kind="application/json"),
    "as a type": lambda seen: reply("x", kind=f"image/{KEY}"),
    "as an encoding": lambda seen: reply("x", Content_Encoding=KEY),
    "at the cut": lambda seen: reply("x" * 985 + KEY),
    "at the cut of JSON": lambda seen: json_reply("x" * 985 + KEY),
    "at the cut of an error": lambda seen: reply("x" * 1_985 + KEY, 500),
    "at the cut of what is no JSON": lambda seen: reply("x" * 185 + KEY, kind="application/json"),
}


@pytest.mark.parametrize("how", SAYS_IT)
def test_no_secret_comes_back(how: str) -> None:
    with Site(SAYS_IT[how]) as site:
        section = {
            "url": site.url,
            "followRedirects": True,
            "headers": {"Authorization": {"secretRef": "shop/key", "prefix": "Bearer "}},
            "result": {"headers": ["X-Echo"]},
        }
        result = use(section, max_bytes=1_000)
    assert site.seen[0].header("authorization") == f"Bearer {KEY}"
    text = json.dumps(result.value)
    assert KEY not in text
    assert KEY[:8] not in text
    assert result.value["error" if not result.ok else "status"]


def test_a_secret_in_a_query_is_in_no_failure() -> None:
    for url in ("http://127.0.0.1:1/", "http://unknown.test/", "http://169.254.169.254/"):
        result = use({"url": url, "query": {"k": {"secretRef": "shop/key"}}})
        assert not result.ok
        assert KEY not in json.dumps(result.value)


def test_a_secret_that_is_not_there_sends_nothing() -> None:
    with Site(echo) as site:
        result = use({"url": site.url, "headers": {"A": {"secretRef": "shop/gone"}}})
    assert (result.value, site.connections) == ({"error": 'no secret "shop/gone"'}, 0)


def test_a_secret_with_a_line_break_brings_no_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECRETS, "shop/key", "one\r\nX-Two: injected")
    with Site(echo) as site:
        result = use({"url": site.url, "headers": {"A": {"secretRef": "shop/key"}}})
    assert (site.seen, result.ok) == ([], False)
    assert "injected" not in json.dumps(result.value)


def test_a_secret_is_not_sent_in_the_clear_to_strangers(tmp_path: Path) -> None:
    section: dict[str, Any] = {"headers": {"A": {"secretRef": "shop/key"}}, "allowNetworks": []}
    result = use({**section, "url": "http://shop.test/"}, resolve=names(shop_test="127.0.0.1"))
    assert "not sent over http" in result.value["error"]
    ca = authority(tmp_path, ("shop.test",))
    with Site(echo, tls=ca.server("shop.test")) as site:
        settings = {**section, "url": site.at("shop.test"), "allowNetworks": ["127.0.0.1"]}
        client = open_client(names(shop_test="127.0.0.1"), lambda: ca.client)
        assert act(HttpSkill(client), {}, Call("s", "k", settings=settings, secret=secret)).ok


@pytest.mark.parametrize(("method", "unknown"), [("GET", False), ("POST", True)])
def test_what_broke_off_after_it_was_sent_may_have_acted(method: str, unknown: bool) -> None:
    with Site(lambda seen: site.stall(b"HTTP/1.1 2")) as site:
        error = use({"url": site.url, "method": method}, timeout_seconds=0.2).value["error"]
    assert ("whether it was carried out is not known" in error) == unknown
    error = use({"url": "http://127.0.0.1:1/", "method": method}).value["error"]
    assert "whether" not in error


def test_a_call_that_is_stopped_is_a_failure() -> None:
    stop = threading.Event()
    stop.set()
    with Site(echo) as site:
        assert "stopped" in use({"url": site.url}, stop=stop).value["error"]
    assert site.seen == []


def test_one_tool_serves_many_calls_at_once() -> None:
    tool = HttpSkill(open_client(names()))
    together = threading.Barrier(16)

    def answer(seen: Seen) -> bytes:
        together.wait(30)  # every request is there before the first is answered
        return echo(seen)

    results: dict[int, Any] = {}

    def one(number: int) -> None:
        settings = {
            "url": f"{site.url}/{{n}}", "allowPrivate": True,
            "headers": {"A": {"secretRef": str(number)}},
        }  # fmt: skip
        call = Call("s", "k", settings=settings, secret=lambda reference: f"secret-{reference}")
        results[number] = act(tool, {"n": number}, call).value["json"]["target"]

    with Site(answer) as site:
        threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
    assert results == {number: f"/{number}" for number in range(16)}
    assert {seen.target[1:]: seen.header("a") for seen in site.seen} == {
        str(number): f"secret-{number}" for number in range(16)
    }
