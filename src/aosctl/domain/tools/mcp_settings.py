"""An McpServer as its manifest says it, with its secrets opened: what a connection is made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aosctl.errors import InvalidInput

CONNECT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class OAuth:
    """Where an access token comes from; `refresh_token` is absent for client credentials."""

    token_url: str
    client_id: str
    client_secret: str | None = field(default=None, repr=False)
    refresh_token: str | None = field(default=None, repr=False)
    scope: str | None = None
    resource: str | None = None


@dataclass(frozen=True, slots=True)
class Stdio:
    """A server that is a process of its own; `env` is its whole environment."""

    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    connect_seconds: float = CONNECT_SECONDS


@dataclass(frozen=True, slots=True)
class Http:
    """A server behind a URL, over streamable HTTP."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    oauth: OAuth | None = None
    connect_seconds: float = CONNECT_SECONDS


Server = Stdio | Http


def server_of(spec: Mapping[str, Any], secret: Callable[[str], str]) -> Server:
    """Read the spec of an McpServer and open the secrets it names.

    Raises InvalidInput for a spec without a server, whatever `secret` raises.
    """
    opened = _Opener(secret)
    seconds = float(spec.get("timeoutSeconds", CONNECT_SECONDS))
    if "command" in spec:
        env = {name: opened.text(value) for name, value in spec.get("env", {}).items()}
        return Stdio(tuple(spec["command"]), env, spec.get("cwd"), seconds)
    if "url" not in spec:
        raise InvalidInput("the McpServer has neither a command nor a url")
    headers = {name: opened.text(value) for name, value in spec.get("headers", {}).items()}
    auth = spec.get("auth", {})
    if "bearer" in auth:
        headers["Authorization"] = f"Bearer {opened.text(auth['bearer'])}"
    oauth = opened.oauth(auth["oauth"]) if "oauth" in auth else None
    return Http(spec["url"], headers, oauth, seconds)


def digest_of(server: Server) -> str:
    """Return what is the same exactly for connections that may be shared."""
    kept = {name: getattr(server, name) for name in server.__slots__}
    oauth = kept.get("oauth")
    if oauth is not None:
        kept["oauth"] = {name: getattr(oauth, name) for name in oauth.__slots__}
    text = json.dumps([type(server).__name__, kept], sort_keys=True, default=dict)
    return hashlib.sha256(text.encode()).hexdigest()


class _Opener:
    """Opens what may be a text or the reference of a secret."""

    def __init__(self, secret: Callable[[str], str]) -> None:
        self._secret = secret

    def text(self, given: Any) -> str:
        if isinstance(given, str):
            return given
        return f"{given.get('prefix', '')}{self._secret(given['secretRef'])}"

    def oauth(self, given: Mapping[str, Any]) -> OAuth:
        def optional(name: str) -> str | None:
            return self.text(given[name]) if name in given else None

        return OAuth(
            given["tokenUrl"],
            self.text(given["clientId"]),
            optional("clientSecret"),
            optional("refreshToken"),
            " ".join(given.get("scopes", [])) or None,
            given.get("resource"),
        )
