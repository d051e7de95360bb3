"""A connection to one checked address, whose every wait ends with the call's deadline."""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from types import TracebackType
from typing import Self, TypeVar

from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import RequestFailed
from aosctl.domain.web_addresses import WebAddress
from aosctl.once import once

_PIECE_BYTES = 65_536
_FIRST_TRIES_SECONDS = 5.0
"""How long an address may take to connect while there are others to try."""
_Done = TypeVar("_Done")

Tls = Callable[[], ssl.SSLContext]


@once
def trusted_tls() -> ssl.SSLContext:
    """Load the certificates of the system, or of SSL_CERT_FILE; it takes 50 ms."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not paths.cafile and not paths.capath:
        import certifi

        context.load_verify_locations(certifi.where())
    return context


class Wire:
    """Bytes to a server and back; never to another address than one of those it was given."""

    def __init__(
        self, address: WebAddress, ips: Sequence[str], tls: Tls, deadline: Deadline
    ) -> None:
        self._deadline = deadline
        self._socket = _connected(address, ips, deadline)
        if address.scheme == "https":
            try:
                self._socket = self._secured(address.host, tls())
            except BaseException:
                self._socket.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Send all of it."""
        rest = memoryview(data)
        while rest:
            piece = rest[:_PIECE_BYTES]
            rest = rest[self._patiently(partial(self._socket.send, piece), select.POLLOUT) :]

    def receive(self) -> bytes:
        """Return what has come, b"" at the end."""
        return self._patiently(partial(self._socket.recv, _PIECE_BYTES), select.POLLIN)

    def _secured(self, host: str, context: ssl.SSLContext) -> ssl.SSLSocket:
        """Do the handshake: the certificate has to be the host's, whatever the address."""
        secured = context.wrap_socket(
            self._socket,
            server_hostname=host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        self._socket = secured
        try:
            self._patiently(secured.do_handshake, select.POLLIN)
        except OSError as error:  # of TLS, or the connection's
            raise RequestFailed(f"TLS with {host} failed: {_tls_words(error)}") from None
        return secured

    def _patiently(self, act: Callable[[], _Done], events: int) -> _Done:
        while True:
            try:
                self._deadline.left()
                return act()
            except (BlockingIOError, ssl.SSLWantReadError):
                waited = events
            except ssl.SSLWantWriteError:
                waited = select.POLLOUT
            self._deadline.wait_for_socket(self._socket, waited)


def _tls_words(error: OSError) -> str:
    known = (getattr(error, name, None) for name in ("verify_message", "reason", "strerror"))
    return str(next((words for words in known if words), "no handshake"))


def _connected(address: WebAddress, ips: Sequence[str], deadline: Deadline) -> socket.socket:
    failed = "no address"
    for place, ip in enumerate(ips):
        until = time.monotonic() + _FIRST_TRIES_SECONDS if place + 1 < len(ips) else None
        tried = socket.socket(socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM)
        try:
            fault = _connect(tried, ip, address.port, deadline, until)
        except BaseException:
            tried.close()
            raise
        if fault is None:
            with suppress(OSError):
                tried.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return tried
        tried.close()
        failed = fault
    raise RequestFailed(f"no connection to {address.authority}: {failed}")


def _connect(
    tried: socket.socket, ip: str, port: int, deadline: Deadline, until: float | None
) -> str | None:
    """Connect without blocking; return why it failed."""
    tried.setblocking(False)
    try:
        number = tried.connect_ex((ip, port))
    except OSError as error:  # no such family here
        return error.strerror or str(error)
    if number in (errno.EINPROGRESS, errno.EWOULDBLOCK):
        if not deadline.wait_for_socket(tried, select.POLLOUT, until):
            return "it does not answer"
        number = tried.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return os.strerror(number) if number else None
