"""The guarded client, against servers that misbehave and names that change where they lead.

E57 of the attacks is here, with `test_web_addresses.py`: metadata, loopback, rebinding, redirects.
"""

from __future__ import annotations

import gzip
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from aosctl.domain.tools.web.client import HttpRequest, HttpResponse
from aosctl.domain.tools.web.faults import RequestFailed, Stopped, TimeIsUp
from aosctl.domain.web_addresses import Refused, parse, reach_of
from websites import (
    Answer,
    Authority,
    Names,
    Pieces,
    Seen,
    Site,
    authority,
    names,
    open_client,
    reply,
    to,
)

PATIENT = 30.0
"""More than any answer takes that comes at all."""
SHORT = 0.3
HOME = ("127.0.0.1/32",)
ELSEWHERE = "127.0.0.2"
"""An address of this machine, too, that nobody has allowed."""


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("authority")
    return authority(folder, ("shop.test", "other.test"), ("stranger.test",))


def plain(body: str = "hello") -> Answer:
    return lambda seen: reply(body)


def wanted(url: str, *hosts: str, **more: object) -> HttpRequest:
    """Return a GET of one URL whose host is allowed, with the address of this machine."""
    address = parse(url)
    reach = reach_of(hosts or [address.authority], networks=HOME)
    return replace(HttpRequest("GET", address, reach, redirects=5), **more)  # type: ignore[arg-type]


def fetch(
    request: HttpRequest,
    resolve: Names | None = None,
    *,
    seconds: float = PATIENT,
    stop: threading.Event | None = None,
    ca: Authority | None = None,
) -> HttpResponse:
    client = open_client(resolve or names(), (lambda: ca.client) if ca else _no_tls)
    return client.send(request, seconds, stop or threading.Event())


def _no_tls() -> object:
    raise AssertionError("no TLS in this test")


def test_a_page_is_fetched_by_its_name() -> None:
    with Site(plain()) as site:
        resolve = names(shop_test="127.0.0.1")
        response = fetch(wanted(site.at("shop.test") + "/a?b=c"), resolve)
    assert (response.answer.status, response.answer.body) == (200, b"hello")
    (seen,) = site.seen
    assert (seen.method, seen.target) == ("GET", "/a?b=c")
    assert seen.header("host") == f"shop.test:{site.port}"
    assert seen.header("accept-encoding") == "gzip"
    assert str(seen.header("user-agent")).startswith("aosctl/")


# What is refused before anything is sent; a server listens there and would be met.


@pytest.mark.parametrize("private", [False, True])
@pytest.mark.parametrize(
    "ip", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "100.100.100.200", "ff02::1"]
)
def test_an_address_that_is_not_allowed_is_never_connected_to(ip: str, private: bool) -> None:
    own = ip in ("127.0.0.1", "::1")
    with Site(plain(), ip="::1" if ip == "::1" else "127.0.0.1") as site:
        for url in (site.at("shop.test"), f"http://{f'[{ip}]' if ':' in ip else ip}:{site.port}/"):
            reach = reach_of([parse(url).authority], private=private)
            request = HttpRequest("GET", parse(url), reach)
            if own and private:
                assert fetch(request, names(shop_test=ip)).answer.body == b"hello"
            else:
                with pytest.raises(Refused, match="private"):
                    fetch(request, names(shop_test=ip))
    assert site.connections == (2 if own and private else 0)


def test_a_name_that_leads_elsewhere_the_second_time_is_asked_once() -> None:
    """DNS rebinding: the check and the connection use one and the same answer."""
    with Site(plain("home")) as home, Site(plain("secret"), ELSEWHERE, port=home.port) as trap:
        resolve = Names({"shop.test": [["127.0.0.1"], [ELSEWHERE]]})
        request = wanted(home.at("shop.test"))
        assert fetch(request, resolve).answer.body == b"home"
        assert (resolve.asked, trap.connections) == (["shop.test"], 0)
        with pytest.raises(Refused):
            fetch(request, resolve)  # now it leads to the trap
        # The control: the trap answers whoever connects to it.
        open_reach = reach_of([request.address.authority], networks=["127.0.0.2/32"])
        opened = replace(request, reach=open_reach)
        assert fetch(opened, Names({"shop.test": [[ELSEWHERE]]})).answer.body == b"secret"
    assert trap.connections == 1


def test_a_redirect_to_the_same_name_is_looked_up_and_checked_again() -> None:
    with Site(lambda seen: to("/again") if seen.target == "/" else reply("x")) as site:
        resolve = Names({"shop.test": [["127.0.0.1"], [ELSEWHERE]]})
        with Site(plain("secret"), ELSEWHERE, port=site.port) as trap, pytest.raises(Refused):
            fetch(wanted(site.at("shop.test")), resolve)
        assert trap.connections == 0
        still = Names({"shop.test": [["127.0.0.1"]]})
        assert fetch(wanted(site.at("shop.test")), still).answer.body == b"x"


def test_of_several_addresses_only_those_that_are_allowed_are_tried() -> None:
    with Site(plain("home")) as home, Site(plain("secret"), ELSEWHERE, port=home.port) as trap:
        resolve = Names({"shop.test": [["169.254.169.254", ELSEWHERE, "127.0.0.1"]]})
        assert fetch(wanted(home.at("shop.test")), resolve).answer.body == b"home"
    assert trap.connections == 0


def test_where_nobody_listens_the_next_address_is_tried() -> None:
    with Site(plain("home")) as home:
        reach = reach_of([f"shop.test:{home.port}"], networks=["127.0.0.0/8", "::1/128"])
        request = replace(wanted(home.at("shop.test")), reach=reach)
        resolve = Names({"shop.test": [["127.0.0.9", "::1", "127.0.0.1"]]})
        assert fetch(request, resolve).answer.body == b"home"


@pytest.mark.parametrize(
    "variable", ["http_proxy", "https_proxy", "all_proxy", "HTTP_PROXY", "ALL_PROXY"]
)
def test_a_proxy_of_the_environment_sees_nothing(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Site(plain("proxy")) as proxy, Site(plain("home")) as home:
        monkeypatch.setenv(variable, proxy.url)
        assert fetch(wanted(home.url)).answer.body == b"home"
    assert proxy.connections == 0


# Redirects.


def redirecting(location: Callable[[], str], status: int = 302) -> Answer:
    return lambda seen: to(location(), status) if seen.target == "/" else reply("there")


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_to_a_host_on_the_list_is_followed(status: int) -> None:
    with Site(plain("there")) as there, Site(lambda s: to(there.at("b.test"), status)) as here:
        resolve = names(a_test="127.0.0.1", b_test="127.0.0.1")
        hosts = [f"a.test:{here.port}", f"b.test:{there.port}"]
        response = fetch(wanted(here.at("a.test"), *hosts), resolve)
        assert (response.answer.body, response.address.host) == (b"there", "b.test")


@pytest.mark.parametrize(
    "location",
    [
        "http://b.test:{port}/", "//b.test:{port}/", "http://127.0.0.1:{port}/",
        "http://169.254.169.254/latest/meta-data/", "http://[::1]:{port}/", "http://2130706433/",
        "http://a.test@b.test:{port}/", "http://a.test:{port}@127.0.0.2:{port}/",
        "http://user:pw@a.test:{here}/x", "http://a.test.:{here}/x", "file:///etc/passwd",
        "gopher://b.test/", "http://a.test:{here}\\@b.test:{port}/", "http://[",
        "http://a.test:{port}/",
    ],
)  # fmt: skip
def test_a_redirect_elsewhere_is_refused(location: str) -> None:
    with Site(plain("secret")) as trap, Site(lambda s: to(where(s))) as here:

        def where(seen: Seen) -> str:
            return location.format(port=trap.port, here=here.port)

        resolve = names(a_test="127.0.0.1", b_test="127.0.0.1")
        with pytest.raises(Refused, match="redirect of a"):
            fetch(wanted(here.at("a.test")), resolve)
        assert (trap.connections, here.connections) == (0, 1)


def test_a_circle_of_redirects_ends() -> None:
    with Site(lambda seen: to("/round")) as site, pytest.raises(RequestFailed, match="5 redirects"):
        fetch(wanted(site.url))
    assert len(site.seen) == 6


def test_a_redirect_is_an_answer_where_none_is_followed() -> None:
    with Site(lambda seen: to("/elsewhere")) as site:
        assert fetch(wanted(site.url, redirects=0)).answer.status == 302
    assert len(site.seen) == 1


SECRETS = {"Authorization": "Bearer s3cr3t", "X-Api-Key": "s3cr3t", "Accept": "text/html"}


def test_credentials_stay_with_their_origin() -> None:
    """The same name on another port is another origin too; the same origin gets them again."""
    with Site(plain("there")) as there:
        with Site(lambda s: to("/x") if s.target == "/" else to(there.at("a.test"))) as here:
            hosts = [f"a.test:{here.port}", f"a.test:{there.port}"]
            request = wanted(here.at("a.test"), *hosts, headers=SECRETS)
            fetch(request, names(a_test="127.0.0.1"))
            assert [one.header("x-api-key") for one in here.seen] == ["s3cr3t", "s3cr3t"]
        (far,) = there.seen
        assert (far.header("authorization"), far.header("x-api-key")) == (None, None)
        assert far.header("accept") == "text/html"
        assert "s3cr3t" not in str(far)


@pytest.mark.parametrize("status", [307, 308])
def test_a_body_is_not_sent_on_to_another_origin(status: int) -> None:
    with Site(plain()) as there, Site(lambda s: to(there.url, status)) as here:
        hosts = [parse(here.url).authority, parse(there.url).authority]
        with pytest.raises(Refused, match="another server"):
            fetch(wanted(here.url, *hosts, method="POST", body=b"order"))
        assert there.connections == 0


@pytest.mark.parametrize(("status", "method", "body"), [(303, "GET", b""), (307, "POST", b"order")])
def test_what_was_posted_is_asked_for_or_posted_again(
    status: int, method: str, body: bytes
) -> None:
    with Site(lambda s: to("/done", status) if s.target == "/" else reply("x")) as site:
        fetch(wanted(site.url, method="POST", body=b"order", headers={"Content-Type": "a/b"}))
    last = site.seen[-1]
    assert (last.method, last.target, last.body) == (method, "/done", body)
    assert last.header("content-type") == ("a/b" if body else None)


def test_no_way_leads_from_https_to_http(ca: Authority) -> None:
    with Site(plain("open")) as there:
        with Site(lambda s: to(there.at("other.test")), tls=ca.server("shop.test")) as here:
            resolve = names(shop_test="127.0.0.1", other_test="127.0.0.1")
            hosts = [f"shop.test:{here.port}", f"other.test:{there.port}"]
            with pytest.raises(Refused, match="from https to http"):
                fetch(wanted(here.at("shop.test"), *hosts), resolve, ca=ca)
        assert there.connections == 0


def test_cookies_are_not_kept() -> None:
    with Site(lambda s: reply("x", 302, Location="/b", Set_Cookie="id=1; Path=/")) as site:
        with pytest.raises(RequestFailed):
            fetch(wanted(site.url))
        client = open_client(names())
        client.send(wanted(site.url, redirects=0), PATIENT, threading.Event())
        client.send(wanted(site.url, redirects=0), PATIENT, threading.Event())
    assert len(site.seen) == 8
    assert [one.header("cookie") for one in site.seen] == [None] * 8


# TLS: the connection goes to the address that was checked, the certificate has to be the name's.


def test_the_certificate_is_checked_against_the_name(ca: Authority) -> None:
    resolve = names(shop_test="127.0.0.1", stranger_test="127.0.0.1")
    with Site(plain("safe"), tls=ca.server("shop.test")) as site:
        assert fetch(wanted(site.at("shop.test")), resolve, ca=ca).answer.body == b"safe"
        assert site.seen[0].header("host") == f"shop.test:{site.port}"
        with pytest.raises(
            RequestFailed, match=r"TLS with stranger\.test failed: Hostname mismatch"
        ):
            fetch(wanted(site.at("stranger.test")), resolve, ca=ca)
        with pytest.raises(RequestFailed, match="IP address mismatch"):
            fetch(wanted(site.url), resolve, ca=ca)
    assert len(site.seen) == 1


def test_a_certificate_of_nobody_is_refused(ca: Authority) -> None:
    import ssl

    with Site(plain(), tls=ca.server("shop.test")) as site:
        client = open_client(names(shop_test="127.0.0.1"), ssl.create_default_context)
        with pytest.raises(RequestFailed, match="TLS with shop"):
            client.send(wanted(site.at("shop.test")), PATIENT, threading.Event())
    assert site.seen == []


def test_a_port_without_tls_is_named(ca: Authority) -> None:
    with Site(lambda s: b"not TLS at all\r\n") as site, pytest.raises(RequestFailed, match="TLS"):
        fetch(wanted(f"https://shop.test:{site.port}"), names(shop_test="127.0.0.1"), ca=ca)


def test_a_connection_that_is_reset_in_the_handshake_is_a_failure(ca: Authority) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def reset() -> None:
            connected, _ = listener.accept()
            connected.recv(1)
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connected.close()

        threading.Thread(target=reset, daemon=True).start()
        url = f"https://shop.test:{listener.getsockname()[1]}/"
        with pytest.raises(RequestFailed, match="TLS with shop"):
            fetch(wanted(url), names(shop_test="127.0.0.1"), ca=ca)


# Time: one deadline for all of it; and an end at once when nobody wants it any more.

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
ENDLESS: dict[str, Callable[[Site], Pieces]] = {
    "no answer": lambda site: site.stall(b""),
    "half a status": lambda site: site.stall(b"HTTP/1.1 2"),
    "half the headers": lambda site: site.stall(HEAD),
    "half the body": lambda site: site.stall(HEAD + b"Content-Length: 99\r\n\r\nhalf"),
    "a header now and then": lambda site: site.drip(HEAD, b"X: y\r\n"),
    "a byte now and then": lambda site: site.drip(HEAD + b"Content-Length: 999999\r\n\r\n"),
    "a chunk now and then": lambda site: site.drip(
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\nx\r\n"
    ),
    "no end said": lambda site: site.drip(HEAD + b"\r\n"),
    "an empty gzip": lambda site: site.drip(
        HEAD + b"Content-Encoding: gzip\r\n\r\n", gzip.compress(b"")
    ),
}


@pytest.mark.parametrize("how", ENDLESS)
def test_what_does_not_end_is_ended_at_the_deadline(how: str) -> None:
    with Site(lambda seen: ENDLESS[how](site)) as site, pytest.raises(TimeIsUp, match=r"0\.3 s"):
        fetch(wanted(site.url), seconds=SHORT)


@pytest.mark.parametrize("how", [*ENDLESS, "no greeting", "no name"])
def test_a_call_that_is_stopped_ends_at_once(how: str) -> None:
    """It would go on for `PATIENT` seconds: the test hangs where nothing looks at `stop`."""
    stop, ended = threading.Event(), threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        if how == "no name":
            stop.set()
            ended.wait()
        return ["127.0.0.1"]

    def answer(seen: Seen) -> Pieces:
        stop.set()
        return ENDLESS[how](site)

    with Site(answer, greets=how != "no greeting") as site:
        if how == "no greeting":
            threading.Timer(0.1, stop.set).start()
        with pytest.raises(Stopped):
            open_client(resolve).send(wanted(site.at("shop.test")), 3_600, stop)
    ended.set()


def test_the_deadline_holds_for_the_name_too() -> None:
    ended = threading.Event()

    def resolve(host: str, port: int) -> list[str]:
        ended.wait()
        return []

    with pytest.raises(TimeIsUp):
        open_client(resolve).send(wanted("http://shop.test/"), SHORT, threading.Event())
    ended.set()


def test_the_deadline_holds_for_the_handshake_too(ca: Authority) -> None:
    with Site(plain(), greets=False, tls=ca.server("shop.test")) as site, pytest.raises(TimeIsUp):
        fetch(wanted(site.at("shop.test")), names(shop_test="127.0.0.1"), seconds=SHORT, ca=ca)


def test_the_deadline_holds_for_the_connection_too() -> None:
    """A listener whose queue is full answers no one."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        waiting = [socket.socket() for _ in range(4)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(("127.0.0.1", port))
        with pytest.raises(TimeIsUp):
            fetch(wanted(f"http://127.0.0.1:{port}/"), seconds=SHORT)
        for each in waiting:
            each.close()


def test_the_deadline_holds_over_redirects() -> None:
    def answer(seen: Seen) -> Iterator[bytes]:
        if not site.closing.wait(SHORT / 2):
            yield to("/next")

    with Site(answer) as site, pytest.raises(TimeIsUp):
        fetch(wanted(site.url), seconds=SHORT)


def test_the_deadline_holds_while_a_body_is_sent() -> None:
    with Site(plain(), greets=False) as site, pytest.raises(TimeIsUp):
        fetch(wanted(site.url, method="POST", body=b"x" * 50_000_000), seconds=SHORT)


# Size: on the wire and unpacked.


def packed(data: bytes, **headers: str) -> bytes:
    return reply(gzip.compress(data), Content_Encoding="gzip", **headers)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (reply(b"x" * 1_000), b"x" * 1_000),
        (packed(b"x" * 1_000), b"x" * 1_000),
        (reply(gzip.compress(b"ab") + gzip.compress(b"cd"), Content_Encoding="gzip"), b"abcd"),
        (reply(b"", Content_Encoding="gzip"), b""),
        (HEAD + b"\r\nup to the end", b"up to the end"),
        (
            HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
            b"abcde",
        ),
        (b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + reply(b"late"), b"late"),
        (reply(b"identity", Content_Encoding="identity"), b"identity"),
    ],
)
def test_bodies_that_fit_come_whole(answer: bytes, body: bytes) -> None:
    with Site(lambda seen: answer) as site:
        got = fetch(wanted(site.url, most_bytes=1_000)).answer
    assert (got.body, got.is_cut) == (body, False)


@pytest.mark.parametrize(
    "answer",
    [
        reply(b"x" * 1_001),
        packed(b"x" * 1_001),
        packed(b"x" * 50_000_000),
        reply(gzip.compress(b"x" * 600) * 2, Content_Encoding="gzip"),
        HEAD + b"\r\n" + b"x" * 100_000,
    ],
)
def test_bodies_that_do_not_fit_are_cut_and_say_so(answer: bytes) -> None:
    with Site(lambda seen: answer) as site:
        got = fetch(wanted(site.url, most_bytes=1_000)).answer
    assert (got.body, got.is_cut) == (b"x" * 1_000, True)


def test_a_stream_without_end_is_read_as_far_as_it_fits() -> None:
    with Site(lambda seen: site.flood(HEAD + b"\r\n", b"x" * 65_536)) as site:
        assert fetch(wanted(site.url, most_bytes=1_000)).answer.is_cut
        assert site.gone.wait(PATIENT)  # the connection is closed, not left to run


def test_a_bomb_takes_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A gigabyte in a megabyte: at no moment is more unpacked than fits."""
    made: list[int] = []
    real = zlib.decompressobj

    class Counting:
        def __init__(self, bits: int) -> None:
            self._real = real(bits)

        def decompress(self, data: bytes, most: int) -> bytes:
            out = self._real.decompress(data, most)
            made.append(len(out))
            return out

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    monkeypatch.setattr("aosctl.domain.tools.web.bodies.zlib.decompressobj", Counting)
    piece = zlib.compressobj(9, wbits=31)
    bomb = b"".join(piece.compress(bytes(1 << 20)) for _ in range(1_024)) + piece.flush()
    with Site(lambda seen: reply(bomb, Content_Encoding="gzip")) as site:
        assert fetch(wanted(site.url, most_bytes=10_000)).answer.is_cut
    assert sum(made) == 10_001


GZIP = HEAD + b"Content-Encoding: gzip\r\n\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WRONG: dict[str, tuple[Callable[[Site], Pieces], str]] = {
    "headers without end": (lambda s: s.flood(HEAD, b"X-More: " + b"y" * 500 + b"\r\n"), "HTTP"),
    "one header without end": (lambda s: s.flood(HEAD + b"X: ", b"y" * 500), "HTTP"),
    "a status without end": (lambda s: s.flood(b"HTTP/1.1 200 ", b"y" * 500), "HTTP"),
    "answers before the answer": (
        lambda s: s.flood(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n"),
        "before its answer",
    ),
    "trailers without end": (lambda s: s.flood(CHUNKED + b"0\r\n", b"X: y\r\n"), "HTTP"),
    "chunks that are mostly frame": (
        lambda s: s.flood(CHUNKED, b"1;" + b"y" * 9_000 + b"\r\nx\r\n"),
        "far larger",
    ),
    "gzip without content": (lambda s: s.flood(GZIP, gzip.compress(b"") * 99), "far larger"),
    "brotli, unasked": (lambda s: reply(b"x", Content_Encoding="br"), "not asked for"),
    "zstd, unasked": (lambda s: reply(b"x", Content_Encoding="zstd"), "not asked for"),
    "packed twice": (lambda s: reply(b"x", Content_Encoding="gzip, gzip"), "not asked for"),
    "not packed as it says": (lambda s: GZIP + b"plain", "not packed"),
    "half a gzip": (lambda s: GZIP + gzip.compress(b"x" * 99)[:-9], "middle"),
    "half a body": (lambda s: HEAD + b"Content-Length: 99\r\n\r\nhalf", "middle"),
    "half a chunk": (lambda s: CHUNKED + b"9\r\nhal", "middle"),
    "no last chunk": (lambda s: CHUNKED + b"3\r\nabc\r\n", "middle"),
    "two lengths": (lambda s: reply(b"ab", content_length="1"), "HTTP"),
    "a length that is none": (lambda s: HEAD + b"Content-Length: -1\r\n\r\nab", "HTTP"),
    "no HTTP": (lambda s: b"220 mail.test ESMTP\r\n\r\n", "HTTP"),
    "nothing": (lambda s: b"", "without an answer"),
    "half of no HTTP": (lambda s: b"SSH-2.0-OpenSSH_9.9\r\n", "middle"),
}


@pytest.mark.parametrize("how", WRONG)
def test_what_is_no_whole_answer_is_a_failure(how: str) -> None:
    answer, why = WRONG[how]
    with Site(lambda seen: answer(site)) as site:
        with pytest.raises(RequestFailed, match=why) as caught:
            fetch(wanted(site.url, most_bytes=20_000))
        assert caught.value.sent


def test_a_cut_inside_tls_is_no_end(ca: Authority) -> None:
    """A body that ends with the connection ends with TLS's own word for it, or in the middle."""

    def answer(seen: Seen) -> Iterator[bytes]:
        yield HEAD + b"\r\nhalf"
        raise OSError("the connection is dropped")

    with (
        Site(answer, tls=ca.server("shop.test")) as site,
        pytest.raises(RequestFailed, match="mid"),
    ):
        fetch(wanted(site.at("shop.test")), names(shop_test="127.0.0.1"), ca=ca)
    whole = HEAD + b"\r\nall of it"
    with Site(lambda seen: whole, tls=ca.server("shop.test")) as site:
        got = fetch(wanted(site.at("shop.test")), names(shop_test="127.0.0.1"), ca=ca)
        assert got.answer.body == b"all of it"


@pytest.mark.parametrize(
    "headers",
    [{"X": "a\r\nY: b"}, {"X": "a\nb"}, {"X": "a\x00"}, {"X\r\nY": "z"}, {"X Y": "z"}, {"Ü": "x"}],
)
def test_a_header_can_not_bring_another(headers: dict[str, str]) -> None:
    with Site(plain()) as site:
        with pytest.raises(RequestFailed, match="not fit to be sent"):
            fetch(wanted(site.url, headers=headers))
        fetch(wanted(site.url, headers={"X": "fine"}))
    assert [one.header("x") for one in site.seen] == ["fine"]


def test_a_name_that_is_not_known_says_so() -> None:
    with pytest.raises(RequestFailed, match=r'"shop\.test" is not known'):
        fetch(wanted("http://shop.test/"))
    with pytest.raises(RequestFailed, match="is not known"):
        open_client().send(wanted("http://name.invalid/"), PATIENT, threading.Event())


def test_the_systems_resolver_is_asked_for_names_only() -> None:
    with Site(plain()) as site:
        request = replace(
            wanted(site.at("localhost")),
            reach=reach_of([f"localhost:{site.port}"], private=True),
        )
        answer = open_client().send(request, PATIENT, threading.Event()).answer
        assert answer.body == b"hello"


def test_every_failure_before_sending_says_that_nothing_was_sent(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        with pytest.raises(RequestFailed, match="no connection") as caught:
            fetch(wanted(f"http://127.0.0.1:{closed.getsockname()[1]}/"))
    assert not caught.value.sent
