"""Web addresses: one spelling is taken, every other is refused, and no private network is met."""

from __future__ import annotations

import pytest

from aosctl.domain.web_addresses import Refused, host_pattern, parse, reach_of

READ = {
    "https://example.com": "https://example.com/",
    "HTTPS://EXAMPLE.com:443/a?b=c#d": "https://example.com/a?b=c",
    "http://example.com:8080/%41": "http://example.com:8080/%41",
    "https://münchen.de/straße?q=ü": "https://xn--mnchen-3ya.de/stra%C3%9Fe?q=%C3%BC",
    "https://example.com/a b": "https://example.com/a%20b",
    "http://93.184.216.34/": "http://93.184.216.34/",
    "http://[2606:2800:0220:0001::1]:81/": "http://[2606:2800:220:1::1]:81/",
    "https://my_service.example.com/": "https://my_service.example.com/",
    "https://example.com?x={y}": "https://example.com/?x=%7By%7D",
}

ODD = [
    "http://2130706433/",  # 127.0.0.1, as one number
    "http://0x7f000001/",
    "http://0x7f.0.0.1/",
    "http://0177.0.0.1/",
    "http://127.1/",
    "http://127.0.0.01/",
    "http://127.0.0.1./",
    "http://１２７.０.０.1/",  # noqa: RUF001 - fullwidth, which becomes 127.0.0.1
    "http://example.com./",
    "http://example.com%00.evil.test/",
    "http://example.com%2eevil.test/",
    "http://user@example.com/",
    "http://example.com@127.0.0.1/",
    "http://example.com:80@evil.test/",
    "http://user:password@example.com/",
    "http://example.com\\@evil.test/",
    "http:\\\\evil.test/",
    "http://exa mple.com/",
    "http://example.com\n.evil.test/",
    "http://example.com/\r\nX-Injected: 1",
    "http://example.com/\x00",
    " http://example.com/",
    "http://example.com:0/",
    "http://example.com:99999/",
    "http://example.com:80:81/",
    "http://example.com:8a/",
    "http://[::1",
    "http://::1/",
    "http://[fe80::1%25eth0]/",
    "http://[fe80::1%eth0]/",
    "http://[127.0.0.1]/",
    "http://-example.com/",
    "http://exa..mple.com/",
    "http:///etc/passwd",
    "http://",
    "//example.com/",
    "/relative",
    "example.com",
    "file:///etc/passwd",
    "gopher://example.com/",
    "ftp://example.com/",
    "javascript:alert(1)",
    "data:text/html,x",
    "http://" + "a" * 64 + ".test/",
    "http://example.com/" + "a" * 9_000,
    "",
]

NOT_PUBLIC = [
    "0.0.0.0",  # noqa: S104 - nothing is bound to it
    "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.1.2",
    "168.63.129.16", "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1",
    "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.250", "240.0.0.1", "255.255.255.255",
    "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:8.8.8.8",
    "64:ff9b::7f00:1", "64:ff9b::808:808", "64:ff9b:1::1", "100::1", "2001::1", "2001:10::1",
    "2001:db8::1", "2002:7f00:1::", "2002:a9fe:a9fe::", "3ffe::1", "3fff::1", "5f00::1",
    "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    "4000::1", "", "example.com", "127.1",
]  # fmt: skip
PUBLIC = ["8.8.8.8", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:2800:220:1::1", "2a00::1"]
OWN = [
    "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.255.1.2", "172.16.0.1", "172.31.255.255",
    "192.168.1.1", "::1", "fc00::1",
]  # fmt: skip


@pytest.mark.parametrize(("given", "meant"), READ.items())
def test_a_url_has_one_spelling(given: str, meant: str) -> None:
    assert str(parse(given)) == meant
    assert str(parse(meant)) == meant


@pytest.mark.parametrize("given", ODD)
def test_odd_spellings_are_refused(given: str) -> None:
    with pytest.raises(Refused):
        parse(given)


@pytest.mark.parametrize("ip", NOT_PUBLIC)
def test_nothing_but_public_addresses_is_admitted(ip: str) -> None:
    assert not reach_of(["*"]).admits(ip)


@pytest.mark.parametrize("ip", PUBLIC)
def test_public_addresses_are_admitted(ip: str) -> None:
    assert reach_of(["*"]).admits(ip)


@pytest.mark.parametrize("ip", NOT_PUBLIC)
def test_allow_private_admits_networks_of_ones_own_and_no_more(ip: str) -> None:
    assert reach_of(["*"], private=True).admits(ip) == (ip in OWN)


@pytest.mark.parametrize("ip", [ip for ip in NOT_PUBLIC if ":" in ip or ip.count(".") == 3])
def test_a_network_by_its_numbers_admits_exactly_that(ip: str) -> None:
    if "%" in ip:
        return
    exactly = reach_of(["*"], networks=[ip])
    assert exactly.admits(ip)
    assert [other for other in NOT_PUBLIC if exactly.admits(other)] == [ip]


@pytest.mark.parametrize(
    ("pattern", "admitted", "refused"),
    [
        ("example.com", ["https://example.com", "http://EXAMPLE.com"],
         ["https://a.example.com", "https://example.com:8443", "https://example.com.evil.test",
          "https://notexample.com", "http://example.com:443"]),
        ("*.example.com", ["https://a.example.com", "https://a.b.example.com"],
         ["https://example.com", "https://evilexample.com", "https://a.example.com:444"]),
        ("example.com:8443", ["https://example.com:8443", "http://example.com:8443"],
         ["https://example.com"]),
        ("münchen.de", ["https://xn--mnchen-3ya.de", "https://MÜNCHEN.de"],
         ["https://munchen.de"]),
        ("*", ["https://example.com", "http://93.184.216.34"], ["https://example.com:22"]),
        ("10.0.0.1", ["http://10.0.0.1"], ["http://10.0.0.2"]),
        ("[::1]:8080", ["http://[0::1]:8080"], ["http://[::1]"]),
        # Looks like the one on the list, in another alphabet.
        ("apple.com", ["https://apple.com"], ["https://аpple.com"]),  # noqa: RUF001
    ],
)  # fmt: skip
def test_a_host_is_on_the_list_or_not(
    pattern: str, admitted: list[str], refused: list[str]
) -> None:
    listed = host_pattern(pattern)
    assert [url for url in [*admitted, *refused] if listed.admits(parse(url))] == admitted


@pytest.mark.parametrize(
    "pattern", ["", "a b", "http://x", "*.*", "a.*", "*.10.0.0.1", "x:0", "a/"]
)
def test_what_is_no_pattern_is_refused(pattern: str) -> None:
    with pytest.raises(Refused):
        host_pattern(pattern)


@pytest.mark.parametrize(
    "location",
    ["//evil.test/", "http://user@example.com/", "/\r\nX: y", "\\\\evil.test", "file:///x"],
)
def test_where_a_redirect_leads_is_read_as_strictly(location: str) -> None:
    here = parse("https://example.com/a/b")
    try:
        there = here.joined(location)
    except Refused:
        return
    assert there.host == "evil.test"  # and so it is no host on the list
    assert not host_pattern("example.com").admits(there)


def test_a_relative_redirect_stays() -> None:
    assert str(parse("https://example.com/a/b?c").joined("../d?e")) == "https://example.com/d?e"
