"""web_fetch: pages as Markdown, in any character set, cut where they are long, and no hanging."""

from __future__ import annotations

import gzip
import signal
import subprocess
import threading
from typing import Any

import pytest

from aosctl.domain.tools.base import Call, ToolResult, act
from aosctl.domain.tools.web_fetch import WebFetch
from websites import Answer, Names, Site, names, open_client, reply, to

PAGE = """<!doctype html><html><head><title> The  menu &amp; more </title>
<meta http-equiv="refresh" content="0; url=http://169.254.169.254/">
<link rel="stylesheet" href="/style.css"><script src="/script.js"></script>
<style>p { color: red }</style></head><body>
<nav><a href="/home">Home</a></nav>
<main><h1>Menu</h1><p>Soup is <b>hot</b>. <a href="/soup?x=1">More</a>
<a href="next.html">Next</a> <a href="javascript:alert(1)">Click</a>
<a href="data:text/html,x">Data</a> <a href="http://[">Broken</a></p>
<img src="/track.png?id=1" alt="a pixel"><iframe src="/frame"></iframe>
<ul><li>One</li><li>Two</li></ul><pre>a  b
c</pre><table><tr><th>Dish</th><th>Price</th></tr><tr><td>Soup</td><td>4</td></tr></table>
<noscript>no script</noscript></main><footer>All rights</footer></body></html>"""


def fetch(url: str, resolve: Names | None = None, start: int = 0, **more: Any) -> ToolResult:
    settings = {"allowNetworks": ["127.0.0.1/32"], **more.pop("settings", {})}
    call = Call("web_fetch", "k", settings=settings, effect="read", **more)
    args = {"url": url, **({"start": start} if start else {})}
    return act(WebFetch(open_client(resolve or names())), args, call)


def on(site: Site) -> dict[str, Any]:
    """The settings that let a test reach a port that is no usual one."""
    return {"allowHosts": [f"127.0.0.1:{site.port}"]}


def read(answer: bytes | Answer, **more: Any) -> Any:
    """Fetch the page of a server with one answer; return the result's value."""
    respond: Answer = (lambda seen: answer) if isinstance(answer, bytes) else answer
    with Site(respond) as site:
        return fetch(site.url, settings=on(site), **more).value


def test_a_page_is_markdown_with_its_title_and_address() -> None:
    with Site(lambda s: to("/menu") if s.target == "/" else reply(PAGE, kind="text/html")) as site:
        result = fetch(site.url, settings=on(site))
    base = site.url
    assert result == ToolResult(
        True,
        {
            "url": f"{base}/menu",
            "title": "The menu & more",
            "text": f"""# Menu

Soup is **hot**. [More]({base}/soup?x=1)
[Next]({base}/next.html) Click
Data Broken

- One
- Two

```
a  b
c
```

| Dish | Price |
| --- | --- |
| Soup | 4 |""",
        },
    )
    # Nothing that the page names was fetched: no picture tells anybody what was read.
    assert [seen.target for seen in site.seen] == ["/", "/menu"]


@pytest.mark.parametrize(
    ("data", "kind", "text"),
    [
        ("grün".encode(), "text/html; charset=utf-8", "grün"),
        ("grün".encode("latin-1"), "text/html; charset=ISO-8859-1", "grün"),
        ("“grün” €".encode("cp1252"), "text/html; charset=iso-8859-1", "“grün” €"),
        ("грибы".encode("koi8-r"), 'text/html; charset="KOI8-R"', "грибы"),
        ("日本".encode("shift_jis"), "text/html;charset=Shift_JIS", "日本"),
        ("汉字".encode("gbk"), "text/plain;charset=gb2312", "汉字"),
        ("한국".encode("euc-kr"), "text/plain;charset=euc-kr", "한국"),
        (b"\xef\xbb\xbf" + "grün".encode(), "text/plain; charset=latin1", "grün"),
        (b"\xff\xfe" + "grün".encode("utf-16-le"), "text/plain", "grün"),
        (b"<meta charset=windows-1251>" + "мир".encode("cp1251"), "text/html", "мир"),
        (
            b'<meta http-equiv="Content-Type" content="text/html; charset=big5">'
            + "中文".encode("big5"),
            "text/html",
            "中文",
        ),
        ("grün".encode(), "text/html", "grün"),
        ("grün".encode("latin-1"), "text/html", "grün"),
        ("grün".encode(), "text/html; charset=nonsense", "grün"),
        # Codecs of Python that are no character sets of pages.
        (b"\\u0041", "text/plain; charset=unicode_escape", "\\u0041"),
        (b"abc", "text/plain; charset=rot13", "abc"),
        (b"+AGE-", "text/plain; charset=utf-7", "+AGE-"),
        (b"616263", "text/plain; charset=hex", "616263"),
        (b"<p>no type</p>", "", "no type"),
        (b"{}", "application/json", "{}"),
        (b"<a/>", "application/atom+xml", "<a/>"),
    ],
)
def test_a_text_is_read_in_its_character_set(data: bytes, kind: str, text: str) -> None:
    assert read(reply(data, kind=kind))["text"] == text


def test_a_long_page_is_read_on_from_where_it_was_cut() -> None:
    words = " ".join(f"wörd{number}" for number in range(500))
    answer = reply(f"<p>{words}</p>", kind="text/html")
    parts, start = [], 0
    while True:
        value = read(answer, start=start, max_bytes=1_001)
        parts.append(value["text"])
        assert len(value["text"].encode()) <= 1_001
        if "next_start" not in value:
            break
        assert (value["truncated"], value["characters"]) == (True, len(words))
        start = value["next_start"]
    assert len(parts) == 5
    assert "".join(parts) == words
    assert "truncated" not in read(answer, max_bytes=10_000)


def test_of_a_page_without_end_as_much_is_read_as_fits() -> None:
    with Site(lambda s: site.flood(b"HTTP/1.1 200 OK\r\n\r\n", b"word " * 10_000)) as site:
        value = fetch(site.url, settings=on(site), start=4_999_990).value
    assert value["text"] == "word word "
    assert (value["truncated"], value["note"]) == (
        True,
        "only 5,000,000 bytes of the page were read",
    )


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (reply(b"%PDF-1.7", kind="application/pdf"), "application/pdf, which is no text"),
        (reply(b"\x89PNG", kind="image/png"), "image/png"),
        (reply(b"PK", kind="application/zip"), "application/zip"),
        (reply("<h1>Not here</h1>", 404, "text/html", "Not Found"), "answered 404 Not Found"),
        (reply(b"x", Content_Encoding="br"), "not asked for"),
    ],
)
def test_what_is_no_page_says_so(answer: bytes, why: str) -> None:
    value = read(answer)
    assert why in value["error"]
    if "404" in why:
        assert value["body"] == "# Not here"


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://[::1]/", "http://localhost/", "http://169.254.169.254/latest/",
        "http://metadata.test/", "http://10.0.0.1/", "http://0x7f000001/", "http://2130706433/",
        "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "file:///etc/passwd",
        "http://user:password@8.8.8.8/", "http://8.8.8.8:22/", "http://8.8.8.8:6379/",
    ],
)  # fmt: skip
def test_without_a_word_in_the_manifest_only_public_hosts_are_reached(url: str) -> None:
    resolve = Names({"localhost": [["127.0.0.1"]], "metadata.test": [["169.254.169.254"]]})
    call = Call("web_fetch", "k", effect="read")
    result = act(WebFetch(open_client(resolve)), {"url": url}, call)
    assert not result.ok
    assert any(w in result.value["error"] for w in ("private", "allowHosts", "spelling", "URL"))


def test_a_page_is_fetched_from_the_hosts_on_the_list_alone() -> None:
    with Site(lambda s: reply("page")) as site:
        resolve = names(docs_test="127.0.0.1", evil_test="127.0.0.1")
        allowed = {"allowHosts": [f"docs.test:{site.port}"]}
        assert fetch(site.at("docs.test"), resolve, settings=allowed).ok
        refused = fetch(site.at("evil.test") + "/?q=all+that+i+know", resolve, settings=allowed)
    assert "not among the hosts" in refused.value["error"]
    assert len(site.seen) == 1


def hanging(size: int) -> dict[str, str]:
    return {
        "deep": "<div>" * size,
        "deep and closed": "<b>" * size + "x" + "</b>" * size,
        "half tags": "<a " * size,
        "half comments": "<!--" * size,
        "half entities": "&#" * size,
        "attributes": "<a " + "x=y " * size + ">",
        "lists in lists": "<ul><li>" * size,
        "tables in tables": "<table><tr><td>" * size,
        "quotes": "<blockquote>" * size + "x",
        "title": "<title>" * size,
    }


@pytest.mark.parametrize("how", hanging(1))
def test_a_page_that_would_hang_its_reader_is_read_or_given_up(how: str) -> None:
    """Whatever it does it does in a process of its own, which the deadline ends."""
    answer = reply(hanging(60_000)[how] + "<p>end</p>", kind="text/html")
    with Site(lambda s: answer) as site:
        result = fetch(site.url, settings=on(site), timeout_seconds=2)
    if not result.ok:
        assert "within 2 s" in result.value["error"] or "tangled" in result.value["error"]


@pytest.fixture
def readers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The processes that were started to read pages; each has its `options`."""
    started: list[Any] = []

    class Noting(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, command: list[str], **options: Any) -> None:
            self.options = options
            started.append(self)
            super().__init__(command, **options)

    monkeypatch.setattr("aosctl.domain.tools.apart.subprocess.Popen", Noting)
    return started


def test_a_page_is_given_up_when_the_call_is_stopped(readers: list[Any]) -> None:
    stop = threading.Event()

    def answer(seen: object) -> bytes:
        threading.Timer(0.5, stop.set).start()
        return reply(hanging(400_000)["half tags"], kind="text/html")

    with Site(answer) as site:
        result = fetch(site.url, settings=on(site), timeout_seconds=3_600, stop=stop)
    assert result.value == {"error": "the call was stopped"}
    assert [reader.returncode for reader in readers] == [-signal.SIGKILL]


def test_what_reads_a_page_knows_nothing(
    readers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No variable of the worker, and no file of it beyond its code."""
    monkeypatch.setenv("AOSCTL_MASTER_KEY", "canary-of-the-key")
    assert read(reply("<p>x</p>", kind="text/html"))["text"] == "x"
    (reader,) = readers
    assert reader.options["env"] == {}
    assert reader.options["close_fds"] is True
    assert "-P" in reader.args


def test_a_packed_page_is_unpacked() -> None:
    packed = reply(gzip.compress(b"<p>small</p>"), kind="text/html", Content_Encoding="gzip")
    assert read(packed)["text"] == "small"
