"""What ingesting needs of the tools: they fetch, and read what strangers wrote."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event
from typing import NamedTuple, Protocol


class Unreadable(Exception):
    """A document that can't be taken in; its text says why, behind the document's name."""


class Fetched(NamedTuple):
    """What a URL led to; `content_type` as the server said it."""

    url: str
    data: bytes
    content_type: str


class Page(NamedTuple):
    """A page of the web as Markdown."""

    title: str
    text: str


class Pages(NamedTuple):
    """A PDF's text, page by page."""

    title: str
    pages: Sequence[str]


class Readers(Protocol):
    """What turns bytes into text. Each raises Unreadable, and ends soon after `stop` is set."""

    def fetch(self, url: str, stop: Event, *, private: bool) -> Fetched:
        """Fetch a URL; with `private` also in networks of one's own."""
        ...

    def text(self, data: bytes, content_type: str) -> str:
        """Decode text in the character set that it says, or most likely has."""
        ...

    def page(self, html: str, url: str, stop: Event) -> Page:
        """Turn HTML into Markdown."""
        ...

    def pdf(self, data: bytes, stop: Event) -> Pages:
        """Read a PDF."""
        ...
