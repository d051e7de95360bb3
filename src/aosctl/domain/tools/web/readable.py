"""HTML as Markdown, made in a process of its own: a page can be written to hang its reader.

`python -P -m aosctl.domain.tools.web.readable` reads {"html", "url"} and prints {"title", "text"};
it has no environment, opens no connection, and ends by itself when it takes too much time or
memory.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import RequestFailed

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

_CPU_SECONDS = 30
_MEMORY_BYTES = 1 << 30
_readers = threading.BoundedSemaphore(4)
"""How many pages are read at once: each may take that memory."""
_SLICE_SECONDS = 0.05
# What is about a page and not on it.
_LEFT_OUT = (
    "script", "style", "noscript", "template", "nav", "footer", "aside", "form", "button",
    "svg", "canvas", "iframe", "object", "video", "audio", "img", "picture", "dialog",
)  # fmt: skip


def readable(html: str, url: str, deadline: Deadline) -> dict[str, str]:
    """Return a page's title and its text as Markdown. Raises RequestFailed."""
    while not _readers.acquire(timeout=min(deadline.left(), _SLICE_SECONDS)):
        pass
    try:
        return _read(json.dumps({"html": html, "url": url}).encode(), deadline)
    finally:
        _readers.release()


def _read(page: bytes, deadline: Deadline) -> dict[str, str]:
    command = [sys.executable, "-P", "-m", __name__]
    pipe = subprocess.PIPE
    child = subprocess.Popen(  # noqa: S603 - our own module; the page comes on its input
        command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, env={}, close_fds=True
    )
    given: bytes | None = page
    with child:
        try:
            while True:
                with suppress(subprocess.TimeoutExpired):
                    out, _ = child.communicate(given, min(deadline.left(), _SLICE_SECONDS))
                    break
                given = None  # communicate keeps what is left of it
        except BaseException:
            child.kill()
            raise
    if child.returncode != 0:
        raise RequestFailed("the page is too large or too tangled to be read")
    made: dict[str, str] = json.loads(out)
    return made


def markdown(html: str, url: str) -> dict[str, str]:
    """Return a page's title, and what it says as Markdown; links lead from `url`."""
    from bs4 import BeautifulSoup

    page = BeautifulSoup(html, "html.parser")
    title = page.title.get_text(" ", strip=True) if page.title else ""
    for tag in page.find_all(_LEFT_OUT):
        tag.decompose()
    for tag in page.find_all(href=True):
        tag["href"] = _absolute(url, str(tag["href"]))
        if not tag["href"]:
            del tag["href"]
    return {"title": " ".join(title.split()), "text": _text(page)}


def _absolute(url: str, href: str) -> str:
    """Return where a link leads; nothing for javascript:, data: and their like."""
    try:
        link = urljoin(url, href.strip())
    except ValueError:
        return ""
    return link if link.startswith(("https://", "http://", "mailto:")) else ""


def _text(page: BeautifulSoup) -> str:
    from markdownify import MarkdownConverter

    body: Any = page.find("main") or page.find("article") or page.body or page
    try:
        made = MarkdownConverter(heading_style="ATX", bullets="-").convert_soup(body)
    except RecursionError:
        made = body.get_text("\n")
    lines = [line.rstrip() for line in made.splitlines()]
    kept = [line for at, line in enumerate(lines) if line or (at and lines[at - 1])]
    return "\n".join(kept).strip()


def _limit() -> None:
    import resource

    for limit, most in (
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        with suppress(OSError, ValueError):  # a lower one holds already
            resource.setrlimit(limit, (most, most))


def _main() -> None:
    _limit()
    sys.stdout.write(json.dumps(markdown(**json.loads(sys.stdin.buffer.read()))))


if __name__ == "__main__":
    _main()
