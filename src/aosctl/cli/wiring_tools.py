"""The composition root's tools: what carries out skills, and what documents are read with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING

from aosctl.once import once

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.domain.ingest.base import Readers
    from aosctl.domain.tools.base import Tool
    from aosctl.domain.tools.mcp_sessions import Sessions
    from aosctl.domain.tools.web.client import HttpClient


def tools(*, embedded: bool = False) -> Mapping[str, Tool]:
    """Return what carries out the skills outside the database, by built-in or kind.

    On the embedded database, which is one user's, this host runs what manifests name.
    """
    return _Tools(
        {
            "http": partial(_http, embedded=embedded),
            "http_request": partial(_http_request, embedded=embedded),
            "mcp": partial(_mcp, embedded=embedded),
            "now": _now,
            "python": partial(_python, embedded=embedded),
            "web_fetch": partial(_web_fetch, embedded=embedded),
            "web_search": partial(_web_search, embedded=embedded),
        }
    )


class _Tools(Mapping[str, "Tool"]):
    """The tools by name, each made, and its module imported, when one is called."""

    def __init__(self, make: Mapping[str, Callable[[], Tool]]) -> None:
        self._make = make
        self._made: dict[str, Tool] = {}

    def __getitem__(self, name: str) -> Tool:
        if name not in self._made:
            self._made[name] = self._make[name]()
        return self._made[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._make)

    def __len__(self) -> int:
        return len(self._make)


def _http(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.http_skill import HttpSkill

    return HttpSkill(_http_client(embedded=embedded))


def _http_request(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.http_request import HttpRequestTool

    return HttpRequestTool(_http_client(embedded=embedded))


def _http_client(*, embedded: bool) -> HttpClient:
    from aosctl.domain.tools.web.client import HttpClient
    from aosctl.domain.tools.web.home import Home

    return HttpClient(Home.of(os.environ, embedded=embedded))


def _mcp(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.host import Host
    from aosctl.domain.tools.mcp import McpTool

    return McpTool(Host.of(os.environ, embedded=embedded), _mcp_sessions(embedded=embedded))


@once
def _mcp_sessions(*, embedded: bool) -> Sessions:
    """Return the connections to MCP servers, which all runs of this process share."""
    from aosctl.domain.tools.mcp_sessions import Sessions
    from aosctl.domain.tools.web.home import Home

    return Sessions(Home.of(os.environ, embedded=embedded))


def _now() -> Tool:
    from aosctl.domain.tools.now import Now

    return Now()


def _python(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.host import Host
    from aosctl.domain.tools.python import Python

    return Python(Host.of(os.environ, embedded=embedded))


def _web_fetch(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.web_fetch import WebFetch

    return WebFetch(_http_client(embedded=embedded))


def _web_search(*, embedded: bool) -> Tool:
    from aosctl.domain.tools.web_search import WebSearch

    return WebSearch(_http_client(embedded=embedded))


def document_readers(most_bytes: int) -> Readers:
    """Return what fetches and reads documents for the person at this machine."""
    from aosctl.domain.tools.documents import Documents
    from aosctl.domain.tools.web.client import HttpClient
    from aosctl.domain.tools.web.home import Home

    return Documents(HttpClient(Home(allows_all=True)), most_bytes)
