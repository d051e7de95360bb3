"""Documents of people: fetched through the guarded client, and read in processes of their own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event

from aosctl.domain.ingest.base import Fetched, Page, Pages, Unreadable
from aosctl.domain.tools.pdf_text import pdf_text
from aosctl.domain.tools.web.charsets import text_of
from aosctl.domain.tools.web.client import HttpClient, HttpRequest
from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import RequestFailed, Stopped
from aosctl.domain.tools.web.readable import readable
from aosctl.domain.web_addresses import HostPattern, Reach, Refused, parse

FETCH_SECONDS = 60.0
READ_SECONDS = 120.0
_REDIRECTS = 5
_ACCEPT = "text/html, text/markdown, text/plain, application/pdf, text/*;q=0.9, */*;q=0.1"


class Documents:
    """Fetches and reads; one object for all threads."""

    def __init__(self, client: HttpClient, most_bytes: int) -> None:
        self._client = client
        self._most_bytes = most_bytes

    def fetch(self, url: str, stop: Event, *, private: bool) -> Fetched:
        """Fetch a URL; with `private` also in networks of one's own. Raises Unreadable."""
        with _in_words(private=private):
            address = parse(url)
            # The port that the person has typed, too; a redirect leads to the usual ones alone.
            hosts = (HostPattern("*"), HostPattern(address.host, address.port))
            request = HttpRequest(
                "GET",
                address,
                Reach(hosts, private),
                {"Accept": _ACCEPT},
                redirects=_REDIRECTS,
                most_bytes=self._most_bytes,
            )
            response = self._client.send(request, FETCH_SECONDS, stop)
        answer = response.answer
        if answer.status >= 300:
            said = f"{answer.status} {answer.reason}".strip()
            raise Unreadable(f"can't be fetched: {response.address.authority} answered {said}")
        if answer.is_cut:
            raise Unreadable(f"is larger than {self._most_bytes:,} bytes")
        kind = answer.headers.get("content-type", "")
        return Fetched(str(response.address), answer.body, kind)

    def text(self, data: bytes, content_type: str) -> str:
        """Decode text in the character set that it says, or most likely has."""
        return text_of(data, content_type)

    def page(self, html: str, url: str, stop: Event) -> Page:
        """Turn HTML into Markdown. Raises Unreadable."""
        with _in_words():
            made = readable(html, url, Deadline(READ_SECONDS, stop))
        return Page(made["title"], made["text"])

    def pdf(self, data: bytes, stop: Event) -> Pages:
        """Read a PDF. Raises Unreadable."""
        with _in_words():
            found = pdf_text(data, Deadline(READ_SECONDS, stop))
        if "reason" in found:
            raise Unreadable(found["reason"])
        return Pages(found["title"], found["pages"])


@contextmanager
def _in_words(*, private: bool = True) -> Iterator[None]:
    try:
        yield
    except Stopped:
        raise Unreadable("was not read to its end") from None
    except Refused as error:
        advice = "" if private else " (--allow-private admits one's own networks)"
        raise Unreadable(f"can't be read: {error}{advice}") from None
    except RequestFailed as error:
        raise Unreadable(f"can't be read: {error}") from None
