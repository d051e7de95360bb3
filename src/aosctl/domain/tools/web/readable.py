"""HTML as Markdown, made in a process of its own: a page can be written to hang its reader.

`python -P -m aosctl.domain.tools.web.readable` reads {"html", "url"} and prints {"title", "text"}.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from aosctl.domain.tools.apart import limit, read_apart
from aosctl.domain.tools.web.deadline import Deadline
from aosctl.domain.tools.web.faults import RequestFailed

if TYPE_CHECKING:
    from bs4 import BeautifulSoup

# What is about a page and not on it.
_LEFT_OUT = (
    "script", "style", "noscript", "template", "nav", "footer", "aside", "form", "button",
    "svg", "canvas", "iframe", "object", "video", "audio", "img", "picture", "dialog",
)  # fmt: skip


def readable(html: str, url: str, deadline: Deadline) -> dict[str, str]:
    """Return a page's title and its text as Markdown. Raises RequestFailed."""
    out = read_apart(__name__, json.dumps({"html": html, "url": url}).encode(), deadline)
    if out is None:
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


def _main() -> None:
    limit()
    sys.stdout.write(json.dumps(markdown(**json.loads(sys.stdin.buffer.read()))))


if __name__ == "__main__":
    _main()
