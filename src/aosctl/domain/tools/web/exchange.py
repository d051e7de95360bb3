"""One request and its answer, in HTTP/1.1."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aosctl import __version__
from aosctl.domain.tools.web.bodies import ACCEPTED, Body
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.tools.web.wire import Wire
from aosctl.domain.web_addresses import WebAddress

if TYPE_CHECKING:
    import h11

_MOST_HEADER_BYTES = 65_536
_MOST_INTERIM = 10
"""How many answers of 1xx may come before the real one."""
_FRAMING_BYTES = 65_536
"""What chunks and their like may add to a body on the wire."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server has answered: headers by lower-case name, of several the first.

    `is_cut` tells that the body went on.
    """

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    is_cut: bool


def exchange(
    wire: Wire,
    method: str,
    address: WebAddress,
    headers: Mapping[str, str],
    body: bytes,
    most_bytes: int,
) -> Answer:
    """Send one request and read its answer. Raises RequestFailed."""
    import h11

    state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEADER_BYTES)
    try:
        request = _packed(state, method, address, headers, body)
    except (h11.LocalProtocolError, UnicodeError):
        raise RequestFailed("a header or the URL is not fit to be sent") from None
    try:
        wire.send(request)
        return _receive(wire, state, most_bytes)
    except RequestFailed as error:
        error.sent = True
        raise
    except ssl.SSLEOFError:
        raise RequestFailed("the answer ended in the middle", sent=True) from None
    except OSError as error:
        raise RequestFailed(f"the connection broke: {error.strerror}", sent=True) from None


def _packed(
    state: h11.Connection,
    method: str,
    address: WebAddress,
    headers: Mapping[str, str],
    body: bytes,
) -> bytes:
    """Return the bytes of a request."""
    import h11

    given = {name.lower() for name in headers}
    own = {
        "Host": address.authority,
        "Connection": "close",
        "Accept-Encoding": ACCEPTED,
        "User-Agent": f"aosctl/{__version__}",
        "Accept": "*/*",
    }
    fields = [(name, value) for name, value in own.items() if name.lower() not in given]
    fields += [(name, value) for name, value in headers.items()]
    if body or method not in ("GET", "HEAD", "DELETE", "OPTIONS"):
        fields.append(("Content-Length", str(len(body))))
    lines = [(name.encode("ascii"), value.encode("utf-8")) for name, value in fields]
    request = h11.Request(method=method, target=address.target, headers=lines)
    pieces = [state.send(request)]
    if body:
        pieces.append(state.send(h11.Data(data=body)))
    pieces.append(state.send(h11.EndOfMessage()))
    return b"".join(piece for piece in pieces if piece)


def _receive(wire: Wire, state: h11.Connection, most_bytes: int) -> Answer:
    import h11

    interim = 0
    head: h11.Response | None = None
    body: Body | None = None
    fields: dict[str, str] = {}
    for event in _events(wire, state, most_bytes):
        if isinstance(event, h11.InformationalResponse):
            interim += 1
            if interim > _MOST_INTERIM:
                raise RequestFailed("the server goes on with answers before its answer")
        elif isinstance(event, h11.Response):
            head, fields = event, _fields(event)
            body = Body(fields.get("content-encoding", ""), most_bytes)
        elif isinstance(event, h11.Data) and body is not None:
            body.add(bytes(event.data))
            if body.is_cut:
                break
    if head is None or body is None:
        raise RequestFailed("the connection ended without an answer")
    reason = bytes(head.reason).decode("latin-1")
    return Answer(head.status_code, reason, fields, body.end(), body.is_cut)


def _events(wire: Wire, state: h11.Connection, most_bytes: int) -> Iterator[Any]:
    """Yield what comes, up to the end of the answer. Raises RequestFailed for too many bytes."""
    import h11

    came = 0
    ended = False
    while True:
        try:
            event = state.next_event()
        except h11.RemoteProtocolError:
            raise RequestFailed(_fault(came, ended)) from None
        if event is h11.NEED_DATA:
            data = wire.receive()
            came += len(data)
            ended = not data
            if came > most_bytes * 4 + _MOST_HEADER_BYTES + _FRAMING_BYTES:
                raise RequestFailed("the answer is far larger than what it holds")
            state.receive_data(data)
            continue
        if isinstance(event, h11.EndOfMessage | h11.ConnectionClosed):
            return
        yield event


def _fields(head: h11.Response) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in head.headers:
        found.setdefault(name.decode("ascii").lower(), value.decode("utf-8", "replace"))
    return found


def _fault(came: int, ended: bool) -> str:
    if not ended:
        return "the server does not speak HTTP as it is written"
    return "the answer ended in the middle" if came else "the connection ended without an answer"
