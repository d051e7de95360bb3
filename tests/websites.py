"""Web servers on real sockets that answer as they are told, and misbehave on order."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aosctl.domain.tools.web.client import HttpClient
from aosctl.domain.tools.web.home import Home
from aosctl.domain.tools.web.resolving import Resolve, ask_system
from aosctl.domain.tools.web.wire import Tls, trusted_tls


@dataclass(frozen=True)
class Seen:
    """A request as it came."""

    method: str
    target: str
    lines: list[tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return a header by its name, if it came."""
        return next((value for key, value in self.lines if key.lower() == name.lower()), None)

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Pieces = bytes | Iterable[bytes]
Answer = Callable[[Seen], Pieces]


def reply(
    body: bytes | str = b"",
    status: int = 200,
    kind: str = "text/plain",
    reason: str = "OK",
    **headers: str,
) -> bytes:
    """Return the bytes of a whole answer; `X_Name` is the header X-Name."""
    data = body.encode() if isinstance(body, str) else body
    fields = {"Content-Type": kind, "Content-Length": str(len(data)), **headers}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} {reason}\r\n{lines}\r\n".encode() + data


def json_reply(value: Any, status: int = 200, **headers: str) -> bytes:
    """Return the bytes of an answer in JSON."""
    return reply(json.dumps(value), status, "application/json", **headers)


def to(location: str, status: int = 302) -> bytes:
    """Return a redirect."""
    return reply(b"", status, Location=location)


@dataclass
class Site:
    """A server at one address of this machine; `answer` says what each request gets.

    `greets` False: it takes connections and never says a word, not even of TLS.
    """

    answer: Answer
    ip: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None
    greets: bool = True
    port: int = 0
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    gone: threading.Event = field(default_factory=threading.Event)
    """A client has gone away before all was said."""

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.ip else socket.AF_INET
        self._listener = socket.socket(family, socket.SOCK_STREAM)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind((self.ip, self.port))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def url(self) -> str:
        """Its address by number."""
        host = f"[{self.ip}]" if ":" in self.ip else self.ip
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def at(self, host: str) -> str:
        """Its address by a name."""
        return f"{'https' if self.tls else 'http'}://{host}:{self.port}"

    def _serve(self) -> None:
        while not self.closing.is_set():
            try:
                connected, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connected,), daemon=True).start()

    def _talk(self, connected: socket.socket) -> None:
        with connected:
            if not self.greets:
                self.closing.wait()
                return
            try:
                if self.tls is not None:
                    connected = self.tls.wrap_socket(connected, server_side=True)
                with connected:
                    request = _read(connected)
                    if request is not None:
                        self.seen.append(request)
                        self._say(connected, self.answer(request))
            except (OSError, ssl.SSLError):
                self.gone.set()

    def _say(self, connected: socket.socket, pieces: Pieces) -> None:
        for piece in [pieces] if isinstance(pieces, bytes) else pieces:
            connected.sendall(piece)
        if self.tls is not None:
            with suppress(OSError):
                connected.unwrap()  # type: ignore[attr-defined]

    def drip(self, head: bytes, piece: bytes = b"x") -> Iterator[bytes]:
        """Say `head`, then a piece now and then, without end."""
        yield head
        while not self.closing.wait(0.01):
            yield piece

    def flood(self, head: bytes, piece: bytes) -> Iterator[bytes]:
        """Say `head`, then pieces as fast as they are taken, without end."""
        yield head
        while not self.closing.is_set():
            yield piece

    def stall(self, head: bytes) -> Iterator[bytes]:
        """Say `head`, then nothing until the end of the test."""
        yield head
        self.closing.wait()


def _read(connected: socket.socket) -> Seen | None:
    stream = connected.makefile("rb")
    first = stream.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    lines = []
    while line := stream.readline().decode("latin-1").rstrip("\r\n"):
        name, _, value = line.partition(":")
        lines.append((name, value.strip()))
    length = next((int(value) for name, value in lines if name.lower() == "content-length"), 0)
    return Seen(first[0], first[1], lines, stream.read(length))


@dataclass
class Names:
    """A resolver: each name has answers, one for each time it is asked, the last for ever."""

    answers: dict[str, list[list[str]]]
    asked: list[str] = field(default_factory=list)

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        left = self.answers.get(host)
        if not left:
            raise OSError("no such name")
        return left.pop(0) if len(left) > 1 else left[0]


def names(**answers: str) -> Names:
    """Return a resolver; `a_test="127.0.0.1"` is the host a.test."""
    return Names({host.replace("_", "."): [[ip]] for host, ip in answers.items()})


def open_client(resolve: Resolve = ask_system, tls: Tls = trusted_tls) -> HttpClient:
    """Return a client on a host that lets manifests reach its own networks."""
    return HttpClient(Home(allows_all=True), resolve, tls)


@dataclass(frozen=True)
class Authority:
    """A certificate authority of a test's own."""

    folder: Path
    client: ssl.SSLContext

    def server(self, *hosts: str) -> ssl.SSLContext:
        """Return what a server of these names shows."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{hosts[0]}.pem")
        return context


def authority(folder: Path, *servers: tuple[str, ...]) -> Authority:
    """Make an authority and a certificate for each server, of all its names."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

    begin = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    ours = ec.generate_private_key(ec.SECP256R1())

    def made(subject: str, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType) -> bytes:
        known = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(ours.public_key())
        builder = x509.CertificateBuilder(
            name("test authority"), name(subject), key.public_key(), x509.random_serial_number(),
            begin, begin + datetime.timedelta(days=30),
        )  # fmt: skip
        signed = builder.add_extension(extension, critical=True)
        for each in (known, issuer):
            signed = signed.add_extension(each, critical=False)
        return signed.sign(ours, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root = folder / "authority.pem"
    root.write_bytes(made("test authority", ours, x509.BasicConstraints(ca=True, path_length=0)))
    for hosts in servers:
        key = ec.generate_private_key(ec.SECP256R1())
        listed = x509.SubjectAlternativeName([x509.DNSName(host) for host in hosts])
        private = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / f"{hosts[0]}.pem").write_bytes(private + made(hosts[0], key, listed))
    return Authority(folder, ssl.create_default_context(cafile=root))
