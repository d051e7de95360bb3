"""A transaction pooler at its barest: one session of the server for all, one after another.

What a client has set stays for the next one, as with PgBouncer and `pool_mode = transaction`.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from typing import Self

from psycopg import conninfo

_PROTOCOL_3, _PASSWORDLESS = 3 << 16, b"R" + struct.pack("!II", 8, 0)
_READY = b"Z" + struct.pack("!I", 5) + b"I"


class Pooler:
    """Listens in a thread as long as the block lasts."""

    def __init__(self, dsn: str) -> None:
        given = conninfo.conninfo_to_dict(dsn)
        self._user, self._database = str(given["user"]), str(given["dbname"])
        self._server = socket.socket(socket.AF_UNIX)
        self._server.connect(f"{given['host']}/.s.PGSQL.{given.get('port', 5432)}")
        self._parameters = self._log_in()
        self._listener = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def dsn(self) -> str:
        port = self._listener.getsockname()[1]
        return f"postgresql://{self._user}@127.0.0.1:{port}/{self._database}?sslmode=disable"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._server.close()

    def _log_in(self) -> bytes:
        """Begin the server's session; return its parameters, as every client is told them."""
        words = ("user", self._user, "database", self._database, "")
        text = struct.pack("!I", _PROTOCOL_3) + b"".join(w.encode() + b"\0" for w in words)
        self._server.sendall(struct.pack("!I", len(text) + 4) + text)
        told = b""
        while (message := _message(self._server))[:1] != b"Z":
            assert message[:1] != b"E", message
            told += message if message[:1] == b"S" else b""
        return told

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            with client:
                self._relay(client)

    def _relay(self, client: socket.socket) -> None:
        (size,) = struct.unpack("!I", _exactly(client, 4))
        assert struct.unpack("!I", _exactly(client, size - 4)[:4]) == (_PROTOCOL_3,)
        key = b"K" + struct.pack("!III", 12, 4711, 4711)
        client.sendall(_PASSWORDLESS + self._parameters + key + _READY)
        while True:
            for ready in select.select([client, self._server], [], [])[0]:
                if ready is self._server:
                    client.sendall(self._server.recv(65536))
                elif (message := _message(client))[:1] in (b"X", b""):
                    return
                else:
                    self._server.sendall(message)


def _message(peer: socket.socket) -> bytes:
    """Read one message; empty at the end."""
    if not (head := _exactly(peer, 5)):
        return b""
    return head + _exactly(peer, struct.unpack("!I", head[1:])[0] - 4)


def _exactly(peer: socket.socket, size: int) -> bytes:
    read = b""
    while len(read) < size and (more := peer.recv(size - len(read))):
        read += more
    return read
