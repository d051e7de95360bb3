"""Access tokens for MCP servers: fetched from the manifest's URL alone, kept while they last."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator
from functools import cache
from typing import TYPE_CHECKING, Any

from aosctl.domain.tools.mcp_settings import OAuth
from aosctl.errors import AosError

if TYPE_CHECKING:
    import httpx2

_EARLY_SECONDS = 30.0
"""A token is fetched anew so long before it runs out."""

_USUAL_SECONDS = 300.0
"""How long one lasts that does not say."""


class Tokens:
    """The token of one connection, and how the next is asked for."""

    def __init__(self, oauth: OAuth, url: str) -> None:
        self.url = oauth.token_url
        self._oauth = oauth
        self._resource = oauth.resource or url
        self._refresh = oauth.refresh_token
        self._token: str | None = None
        self._until = 0.0

    @property
    def header(self) -> str | None:
        """Return the value for Authorization, None when a new token is needed."""
        if self._token is None or time.monotonic() > self._until:
            return None
        return f"Bearer {self._token}"

    def forget(self) -> None:
        """Have the next request fetch a new one."""
        self._token = None

    def form(self) -> dict[str, str]:
        """Return the fields of the request for one (RFC 6749, RFC 8707)."""
        grant = (
            {"grant_type": "refresh_token", "refresh_token": self._refresh}
            if self._refresh
            else {"grant_type": "client_credentials"}
        )
        return {
            **grant,
            "client_id": self._oauth.client_id,
            "resource": self._resource,
            **({"client_secret": self._oauth.client_secret} if self._oauth.client_secret else {}),
            **({"scope": self._oauth.scope} if self._oauth.scope else {}),
        }

    def take(self, status: int, body: bytes) -> None:
        """Keep what the endpoint answered. Raises AosError when that is no token."""
        given = _json_object(body)
        token = given.get("access_token")
        if status != 200 or not isinstance(token, str):
            word = given.get("error") if isinstance(given.get("error"), str) else ""
            raise AosError(
                f"the token endpoint answered {status} {word}".strip()[:200],
                "look at spec.auth.oauth of the McpServer and at its secrets",
            )
        self._token = token
        seconds = given.get("expires_in")
        lasting = float(seconds) if isinstance(seconds, int | float) else _USUAL_SECONDS
        self._until = time.monotonic() + max(lasting - _EARLY_SECONDS, 1.0)
        if isinstance(given.get("refresh_token"), str):
            self._refresh = given["refresh_token"]


@cache
def token_auth() -> type[Any]:
    """Return what puts a token on each request; defined where httpx2 is loaded."""
    import anyio
    import httpx2

    class TokenAuth(httpx2.Auth):
        def __init__(self, tokens: Tokens) -> None:
            self._tokens = tokens
            self._lock = anyio.Lock()

        async def async_auth_flow(
            self, request: httpx2.Request
        ) -> AsyncGenerator[httpx2.Request, httpx2.Response]:
            tokens = self._tokens
            for attempt in (1, 2):
                async with self._lock:
                    if tokens.header is None:
                        accepted = {"Accept": "application/json"}
                        asked = httpx2.Request(
                            "POST", tokens.url, data=tokens.form(), headers=accepted
                        )
                        answer = yield asked
                        tokens.take(answer.status_code, await answer.aread())
                request.headers["Authorization"] = tokens.header or ""
                response = yield request
                if response.status_code != 401 or attempt == 2:
                    return
                tokens.forget()

    return TokenAuth


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
