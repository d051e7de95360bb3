"""The one HTTP client of tools: where it may go is checked on every way there.

The host is checked on the URL and on every redirect, the addresses after the name was looked up,
and the connection goes to those addresses and no others: a name that leads elsewhere the second
time is never asked a second time. No proxy, no cookies, no stored credentials, a connection a
request.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import Event

from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.exchange import Answer, exchange
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.tools.web.home import Home
from aosctl.domain.tools.web.resolving import Resolve, addresses_of, ask_system
from aosctl.domain.tools.web.wire import Tls, Wire, trusted_tls
from aosctl.domain.web_addresses import Reach, Refused, WebAddress

_REDIRECTS = (301, 302, 303, 307, 308)
_SAFE = ("GET", "HEAD")
_GOES_ANYWHERE = ("accept", "accept-language", "user-agent")
"""The headers that may go to another origin than the one they were written for."""


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What to ask whom. `most_bytes` of an answer are read, on the wire and unpacked."""

    method: str
    address: WebAddress
    reach: Reach
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    redirects: int = 0
    most_bytes: int = 1_000_000


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """An answer, and where it came from in the end."""

    address: WebAddress
    answer: Answer


class HttpClient:
    """Sends requests; one object for all threads. `home`: what this host lets manifests reach."""

    def __init__(
        self, home: Home | None = None, resolve: Resolve = ask_system, tls: Tls = trusted_tls
    ) -> None:
        self._home = home or Home()
        self._resolve = resolve
        self._tls = tls

    def send(self, request: HttpRequest, seconds: float, stop: Event) -> HttpResponse:
        """Send a request and follow where it leads. Raises Refused, RequestFailed."""
        deadline = Deadline(seconds, stop)
        left = request.redirects
        while True:
            answer = self._ask(request, deadline)
            location = answer.headers.get("location")
            if answer.status not in _REDIRECTS or location is None or not request.redirects:
                return HttpResponse(request.address, answer)
            if not left:
                raise RequestFailed(f"more than {request.redirects} redirects in a row", sent=True)
            left -= 1
            request = _redirected(request, answer.status, location)

    def _ask(self, request: HttpRequest, deadline: Deadline) -> Answer:
        ips = addresses_of(request.address, request.reach, self._home, self._resolve, deadline)
        with Wire(request.address, ips, self._tls, deadline) as wire:
            return exchange(
                wire,
                request.method,
                request.address,
                request.headers,
                request.body,
                request.most_bytes,
            )


def _redirected(request: HttpRequest, status: int, location: str) -> HttpRequest:
    """Return the request that a redirect asks for. Raises Refused."""
    try:
        address = request.address.joined(location)
        request.reach.check(address)
    except (Refused, ValueError) as error:
        words = str(error) if isinstance(error, Refused) else "it is no URL"
        raise Refused(f"the redirect of {request.address.authority} is refused: {words}") from None
    if request.address.scheme == "https" and address.scheme == "http":
        raise Refused(f"{request.address.authority} redirects from https to http")
    same = address.origin == request.address.origin
    headers = {
        name: value
        for name, value in request.headers.items()
        if same or name.lower() in _GOES_ANYWHERE
    }
    if request.method in _SAFE:
        return replace(request, address=address, headers=headers)
    if status in (307, 308):
        if not same:
            raise Refused(f"{request.address.authority} sends the request on to another server")
        return replace(request, address=address, headers=headers)
    kept = {name: value for name, value in headers.items() if name.lower() != "content-type"}
    return replace(request, method="GET", address=address, headers=kept, body=b"")
