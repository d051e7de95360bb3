"""Web addresses as agents may use them: read strictly, and held against what is allowed.

One parser for all: what is checked is the very text that is connected to, so that no two readings
of a URL can differ (https://www.rfc-editor.org/rfc/rfc3986, and the spellings of hosts that
browsers and C libraries admit beside it, which are all refused).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urljoin

from aosctl.domain.names import quoted

PORTS = {"http": 80, "https": 443}
_LONGEST_URL = 8_192
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_PARTS = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]*)://([^/?#]*)([^?#]*)(?:\?([^#]*))?(?:#.*)?", re.DOTALL
)
_AUTHORITY = re.compile(r"(\[[^\]]*\]|[^:]*)(?::([0-9]{1,5}))?")
_KEPT_IN_PATH = "/:@!$&'()*+,;=~%-._"
_KEPT_IN_QUERY = _KEPT_IN_PATH + "?"

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ipaddress.ip_network(text) for text in texts)


# https://www.iana.org/assignments/iana-ipv4-special-registry and its sibling for IPv6. Written out
# and not `is_global`, whose answer differs between the versions of Python (CVE-2024-4032).
_NOT_PUBLIC = _networks(
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15",
    "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
    "168.63.129.16/32",  # public by its number, but what Azure tells its own machines by
    "2001::/23", "2001:db8::/32", "2002::/16", "3ffe::/16", "3fff::/20",
)  # fmt: skip
_UNICAST_6 = ipaddress.IPv6Network("2000::/3")
"""All else of IPv6 is local, multicast, or holds an address of IPv4 (mapped, NAT64)."""
_PRIVATE = _networks(
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "127.0.0.0/8", "100.64.0.0/10",
    "::1/128", "fc00::/7",
)  # fmt: skip
_NEVER_BY_PRIVATE = _networks("100.100.100.200/32", "fd00:ec2::254/128", "fd20:ce::254/128")
"""What clouds tell their machines by: credentials too. 169.254.169.254 is no private one anyway."""


class Refused(Exception):
    """An address that is not allowed; its text says why, without what may be secret in a URL."""


@dataclass(frozen=True, slots=True)
class WebAddress:
    """A URL in its one spelling: a host in ASCII and lower case, a port, a target to ask for."""

    scheme: str
    host: str
    port: int
    target: str

    @property
    def origin(self) -> tuple[str, str, int]:
        """What decides whether another address is the same server's."""
        return self.scheme, self.host, self.port

    @property
    def authority(self) -> str:
        """Return the host as the header Host has it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    def __str__(self) -> str:
        return f"{self.scheme}://{self.authority}{self.target}"

    def joined(self, location: str) -> WebAddress:
        """Return where a redirect leads. Raises Refused."""
        _check_characters(location)
        return parse(urljoin(str(self), location))


def parse(url: str) -> WebAddress:
    """Read an absolute URL of http or https. Raises Refused for every odd spelling."""
    _check_characters(url)
    found = _PARTS.fullmatch(url)
    if found is None:
        raise Refused("the URL is not absolute: it begins with https://")
    scheme = found[1].lower()
    if scheme not in PORTS:
        raise Refused(f"the URL's scheme is {quoted(scheme)}, not http or https")
    host, port = _authority(found[2], scheme)
    target = quote(found[3], safe=_KEPT_IN_PATH) or "/"
    if found[4] is not None:
        target += "?" + quote(found[4], safe=_KEPT_IN_QUERY)
    return WebAddress(scheme, host, port, target)


def _check_characters(url: str) -> None:
    if len(url) > _LONGEST_URL:
        raise Refused(f"the URL is longer than {_LONGEST_URL:,} characters")
    if "\\" in url or not url.isprintable() or url != url.strip():
        raise Refused("the URL holds a backslash, a control character, or white space around it")


def _authority(text: str, scheme: str) -> tuple[str, int]:
    if "@" in text:
        raise Refused("the URL holds a user name or password before its host")
    found = _AUTHORITY.fullmatch(text)
    if found is None:
        raise Refused(f"{quoted(text)} is no host with an optional port")
    port = int(found[2]) if found[2] else PORTS[scheme]
    if not 1 <= port <= 65_535:
        raise Refused(f"{port} is no port")
    return host_of(found[1]), port


def host_of(text: str) -> str:
    """Return a host in its one spelling. Raises Refused."""
    if text.startswith("["):
        return str(_literal_6(text[1:-1]))
    host = (text if text.isascii() else _idna(text)).lower()
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise Refused(f"{quoted(text)} is no host name in its plain spelling")
    if labels[-1].isdigit() or re.fullmatch("0x[0-9a-f]*", labels[-1]):
        try:
            return str(ipaddress.IPv4Address(text))  # four decimal numbers, and nothing else
        except ValueError:
            raise Refused(f"{quoted(text)} is an IP address in an odd spelling") from None
    return host


def _literal_6(text: str) -> ipaddress.IPv6Address:
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise Refused(f"{quoted(text)} is no IPv6 address") from None
    if address.scope_id is not None:
        raise Refused(f"{quoted(text)} names an interface of this machine")
    return address


def _idna(host: str) -> str:
    import idna

    try:
        return idna.encode(host, uts46=True).decode("ascii")
    except idna.IDNAError:
        raise Refused(f"{quoted(host)} is no host name") from None


def ip_of(host: str) -> _Address | None:
    """Return the IP address that a host in its one spelling is, if it is one."""
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class HostPattern:
    """An entry of a host allow-list: `example.com`, `*.example.com`, `example.com:8443` or `*`.

    `port` None admits the usual ones of http and https alone.
    """

    name: str
    port: int | None = None

    def admits(self, address: WebAddress) -> bool:
        """Tell whether the entry admits the address."""
        if address.port != (self.port or PORTS[address.scheme]):
            return False
        if self.name.startswith("*."):
            return address.host.endswith(self.name[1:]) and ip_of(address.host) is None
        return self.name in ("*", address.host)


def host_pattern(text: str) -> HostPattern:
    """Read an entry of a host allow-list. Raises Refused."""
    found = _AUTHORITY.fullmatch(text)
    if found is None or "@" in text:
        raise Refused(f"{quoted(text)} is no host, such as api.example.com or *.example.com:8443")
    port = int(found[2]) if found[2] else None
    if port is not None and not 1 <= port <= 65_535:
        raise Refused(f"{port} is no port")
    name = found[1]
    if name == "*":
        return HostPattern(name, port)
    if name.startswith("*."):
        parent = host_of(name[2:])
        if ip_of(parent) is not None:
            raise Refused(f"{quoted(text)} is a pattern of an IP address")
        return HostPattern(f"*.{parent}", port)
    return HostPattern(host_of(name), port)


def network_of(text: str) -> Network:
    """Read a network such as 10.20.0.0/16. Raises Refused."""
    try:
        return ipaddress.ip_network(text)
    except ValueError:
        raise Refused(f"{quoted(text)} is no network such as 10.20.0.0/16 or fd12::/32") from None


@dataclass(frozen=True, slots=True)
class Reach:
    """Where requests may go: to which hosts, and to which addresses that are not public.

    `private` admits one's own networks (RFC 1918, loopback, ULA, CGNAT), never link-local ones nor
    those by which clouds tell their machines credentials: they have to stand in `networks`.
    """

    hosts: tuple[HostPattern, ...]
    private: bool = False
    networks: tuple[Network, ...] = ()

    def check(self, address: WebAddress) -> None:
        """Raise Refused unless the host is on the list."""
        if not any(pattern.admits(address) for pattern in self.hosts):
            raise Refused(
                f"{address.authority} is not among the hosts that the skill's allowHosts admits"
            )

    def admits(self, ip: str) -> bool:
        """Tell whether an address that a host's name has led to may be connected to."""
        address = ip_of(ip)
        if address is None or getattr(address, "scope_id", None) is not None:
            return False
        if _within(address, self.networks) or _is_public(address):
            return True
        return (
            self.private and _within(address, _PRIVATE) and not _within(address, _NEVER_BY_PRIVATE)
        )


def reach_of(hosts: Iterable[str], *, private: bool = False, networks: Sequence[str] = ()) -> Reach:
    """Return what the words of a manifest allow. Raises Refused."""
    listed = tuple(host_pattern(host) for host in hosts)
    return Reach(listed, private, tuple(network_of(network) for network in networks))


def _is_public(address: _Address) -> bool:
    if isinstance(address, ipaddress.IPv6Address) and address not in _UNICAST_6:
        return False
    return not _within(address, _NOT_PUBLIC)


def _within(address: _Address, networks: Iterable[Network]) -> bool:
    return any(address.version == network.version and address in network for network in networks)
