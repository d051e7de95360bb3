"""Tell tenants' webhooks what waits for people: signed, one at a time, at least once.

The requests follow Standard Webhooks (https://www.standardwebhooks.com), which libraries of
many languages verify.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Self, cast
from urllib.error import HTTPError, URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPHandler,
    HTTPRedirectHandler,
    HTTPSHandler,
    Request,
    build_opener,
)
from uuid import UUID

from aosctl import __version__
from aosctl.db import notifications
from aosctl.db.notifications import Notification
from aosctl.domain.chore import Chore
from aosctl.errors import AosError, LeaseLost
from aosctl.redaction import may_be_named

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

SECONDS = 10.0
"""How long a webhook may take to answer, from the connection to the last line of its headers."""

POLL_SECONDS = 1.0


class Undelivered(Exception):
    """Why a request was not taken."""


class Courier(Chore):
    """Tells webhooks."""

    name = "webhooks"
    pause_seconds = POLL_SECONDS
    grace_seconds = SECONDS

    def __init__(
        self,
        connect: Callable[[], Connection],
        environment: Mapping[str, str],
        note: Callable[[str], None],
        tenant: UUID | None = None,
    ) -> None:
        """`tenant` alone is served when one is given."""
        super().__init__(connect, note)
        self._environment = environment
        self._tenant = tenant

    def make_round(self, connection: Connection) -> None:
        """Tell what is due."""
        deliver_all(connection, self._environment, self._note, self._ended.is_set, self._tenant)


def deliver_all(
    connection: Connection,
    environment: Mapping[str, str],
    note: Callable[[str], None] = lambda line: None,
    stopped: Callable[[], bool] = lambda: False,
    only: UUID | None = None,
) -> int:
    """Tell every webhook what is due, each tenant's in order; return how many were told.

    What fails is left for later and holds up its tenant's others, so that their order stays.
    """
    told = 0
    for tenant in [only] if only else notifications.waiting_tenants(connection):
        while not stopped() and (one := notifications.take(connection, tenant)) is not None:
            failure = _deliver(one, environment)
            try:
                notifications.settle(connection, one, failure)
            except LeaseLost:
                break  # it took too long; another worker tells it again
            if failure is not None:
                note(f"webhook of {one.body['tenant']}: {failure} (attempt {one.attempt})")
                break
            told += 1
    return told


def _deliver(one: Notification, environment: Mapping[str, str]) -> str | None:
    """Send one; return why it did not arrive, in words without the URL's secrets."""
    try:
        url = one.url or _variable(environment, one.url_env or "")
        secret = _secret(one, environment)
        body = json.dumps(one.body, ensure_ascii=False, separators=(",", ":")).encode()
        post(url, body, headers(str(one.id), int(time.time()), body, secret))
    except Undelivered as reason:
        return str(reason)
    return None


def _secret(one: Notification, environment: Mapping[str, str]) -> str:
    """Return what signs a request, opened now where it is sealed. Raises Undelivered."""
    if one.fault is not None:
        raise Undelivered(one.fault)
    if one.secret is None:
        return _variable(environment, one.secret_env or "")
    from aosctl.domain.secrets import key_opener

    try:
        return key_opener(str(one.tenant), one.secret)()
    except AosError as error:
        raise Undelivered(error.message) from None


def headers(message_id: str, timestamp: int, body: bytes, secret: str) -> dict[str, str]:
    """Return the headers that sign a body: HMAC-SHA-256 over id, time and body."""
    signed = b"%s.%d.%s" % (message_id.encode(), timestamp, body)
    digest = hmac.new(_key(secret), signed, hashlib.sha256).digest()
    return {
        "content-type": "application/json",
        "user-agent": f"aosctl/{__version__}",
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": "v1," + base64.b64encode(digest).decode(),
    }


def post(url: str, body: bytes, fields: Mapping[str, str]) -> None:
    """Send a request and see that it is answered with 2xx. Raises Undelivered; follows nowhere."""
    try:
        if urlsplit(url).scheme not in ("http", "https"):
            raise Undelivered("its URL is neither http nor https")
        request = Request(url, body, dict(fields), method="POST")  # noqa: S310 - checked above
        with _Deadline(SECONDS) as deadline:
            opener = build_opener(_NoRedirect, _Http(deadline), _Https(deadline))
            with opener.open(request, timeout=SECONDS):
                deadline.require()
    except HTTPError as error:
        error.close()
        raise Undelivered(f"it answered {error.code}") from error
    except URLError as error:
        raise Undelivered(f"no answer: {error.reason}") from error
    except (OSError, ValueError, HTTPException) as error:  # HTTPException: what is no HTTP
        raise Undelivered(f"no answer: {type(error).__name__}") from error


class _Deadline:
    """Ends the connections of a block after some time, however often a byte still comes.

    The timeout of a socket begins anew with each byte, and one slow receiver would hold up all
    tenants' webhooks.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timer = threading.Timer(seconds, self._end)
        self._sockets: list[socket.socket] = []
        self._is_over = False

    def watch(self, connected: socket.socket) -> None:
        """End this connection too; TLS may wrap it meanwhile."""
        self._sockets.append(connected.dup())

    def require(self) -> None:
        """Raise Undelivered when the time is over."""
        if self._is_over:
            raise Undelivered(f"no answer: none within {self._seconds:g} s")

    def _end(self) -> None:
        self._is_over = True
        for watched in self._sockets:
            with suppress(OSError):
                watched.shutdown(socket.SHUT_RDWR)

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        for watched in self._sockets:
            watched.close()
        if kind is not None:
            self.require()


class _Http(HTTPHandler):
    """Opens connections that a deadline watches."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        self.connection = _watched(deadline)

    def http_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self.connection, req)


class _Https(HTTPSHandler):
    """As _Http; the handshake is watched as well."""

    def __init__(self, deadline: _Deadline) -> None:
        super().__init__()
        tls = type("_Tls", (HTTPSConnection, _watched(deadline)), {})
        self.connection = cast("type[HTTPSConnection]", tls)

    def https_open(self, req: Request) -> HTTPResponse:
        return self.do_open(self.connection, req)


def _watched(deadline: _Deadline) -> type[HTTPConnection]:
    class Watched(HTTPConnection):
        def connect(self) -> None:
            super().connect()
            deadline.watch(self.sock)

    return Watched


class _NoRedirect(HTTPRedirectHandler):
    """Take a redirect for a failure: a signed request goes where the manifest says, or nowhere."""

    def redirect_request(self, *_: object) -> None:
        return None


def _variable(environment: Mapping[str, str], name: str) -> str:
    if not may_be_named(name):
        raise Undelivered(f"the variable {name} is aosctl's own")
    value = environment.get(name, "")
    if not value:
        raise Undelivered(f"the worker's environment has no variable {name}")
    return value


def _key(secret: str) -> bytes:
    """Return the bytes of a secret: `whsec_` and Base64 as the standard has it, else as it is."""
    if secret.startswith("whsec_"):
        try:
            return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
        except binascii.Error as error:
            raise Undelivered("its secret is no Base64 after whsec_") from error
    return secret.encode()
