"""What a worker's host lets manifests reach of its own networks: nothing, unless it says so."""

from __future__ import annotations

import threading

import pytest

from aosctl.domain.tools.web.client import HttpClient, HttpRequest
from aosctl.domain.tools.web.home import VARIABLE, Home
from aosctl.domain.web_addresses import Refused, parse, reach_of
from websites import Site, names, reply

METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    ("said", "embedded", "admitted"),
    [
        ("", False, ["8.8.8.8"]),
        ("private", False, ["127.0.0.1", "10.0.0.1", "fd12::1", "8.8.8.8"]),
        ("10.0.0.0/8, ::1", False, ["10.0.0.1", "::1", "8.8.8.8"]),
        ("169.254.0.0/16", False, [METADATA, "8.8.8.8"]),
        ("*", False, ["127.0.0.1", "10.0.0.1", "fd12::1", "::1", METADATA, "8.8.8.8"]),
        ("", True, ["127.0.0.1", "10.0.0.1", "fd12::1", "::1", METADATA, "8.8.8.8"]),
        ("10.0.0.1/8", False, ["8.8.8.8"]),
    ],
)
def test_the_environment_of_a_worker_says_what_is_reached(
    said: str, embedded: bool, admitted: list[str]
) -> None:
    home = Home.of({VARIABLE: said}, embedded=embedded)
    asked = ["127.0.0.1", "10.0.0.1", "fd12::1", "::1", METADATA, "8.8.8.8"]
    found = [ip for ip in asked if home.admits(ip)]
    assert found == [ip for ip in asked if ip in admitted or (said == "private" and ip == "::1")]


@pytest.mark.parametrize(
    ("said", "why"),
    [("", "AOSCTL_ALLOW_NETWORKS=private"), ("10.0.0.0/8", "lets no skill reach"),
     ("loopback", '"loopback", which is no network'), ("private", None), ("127.0.0.1", None)],
)  # fmt: skip
def test_what_a_manifest_admits_is_reached_where_the_host_does_too(
    said: str, why: str | None
) -> None:
    with Site(lambda seen: reply("x")) as site:
        client = HttpClient(Home.of({VARIABLE: said}, embedded=False), names(a_test="127.0.0.1"))
        address = parse(site.at("a.test"))
        request = HttpRequest("GET", address, reach_of([address.authority], private=True))
        if why is None:
            assert client.send(request, 30, threading.Event()).answer.body == b"x"
        else:
            with pytest.raises(Refused, match=why):
                client.send(request, 30, threading.Event())
    assert site.connections == (1 if why is None else 0)


def test_a_host_that_allows_all_admits_no_more_than_the_manifest() -> None:
    with Site(lambda seen: reply("x")) as site:
        client = HttpClient(Home(allows_all=True), names(a_test="127.0.0.1"))
        address = parse(site.at("a.test"))
        with pytest.raises(Refused, match="private, local or reserved"):
            client.send(
                HttpRequest("GET", address, reach_of([address.authority])), 30, threading.Event()
            )
    assert site.connections == 0
