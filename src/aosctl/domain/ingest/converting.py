"""Documents as text: what a file is, what its text is, and why another can't be taken in."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from threading import Event
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from aosctl.domain.ingest.base import Readers, Unreadable

MARKDOWN = "text/markdown"
PLAIN = "text/plain"
HTML = "text/html"
PDF = "application/pdf"
MOST_CHARACTERS = 10_000_000
PAGE_BREAK = "\f"
_BY_SUFFIX = {
    ".md": MARKDOWN, ".markdown": MARKDOWN, ".mdx": MARKDOWN, ".mkd": MARKDOWN, ".qmd": MARKDOWN,
    ".html": HTML, ".htm": HTML, ".xhtml": HTML, ".pdf": PDF,
}  # fmt: skip
_ADVICE = {
    ".doc": "a Word document", ".docx": "a Word document", ".odt": "an OpenDocument text",
    ".rtf": "rich text", ".xls": "a spreadsheet", ".xlsx": "a spreadsheet",
    ".ods": "a spreadsheet", ".ppt": "a presentation", ".pptx": "a presentation",
    ".epub": "an e-book",
}  # fmt: skip
"""What people have that is no text, and can be made one."""
_LOOKED_AT = 65_536
_MARKS = (b"\xef\xbb\xbf", b"\xff\xfe", b"\xfe\xff")
_NO_TEXT = re.compile(rb"[\x00-\x06\x0e-\x1a\x1c-\x1f]")
_CONTROL = re.compile("[\x00-\x08\x0b\x0e-\x1f\x7f\x80-\x84\x86-\x9f\ufeff\ufffe\uffff]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HEADING = re.compile(r"^#\s+(.+?)\s*#*\s*$", re.MULTILINE)
_TITLE_IN = 20_000
_LONGEST_TITLE = 500


class Text(NamedTuple):
    """A document as the kernel takes it."""

    title: str
    media_type: str
    content: str


def media_type_of(source: str, data: bytes, content_type: str = "") -> str:
    """Say what a document is, by what its server says, its name and its first bytes."""
    said = content_type.partition(";")[0].strip().lower()
    if data[:1024].lstrip().startswith(b"%PDF-"):
        return PDF
    if said in (HTML, "application/xhtml+xml"):
        return HTML
    suffix = PurePosixPath(urlsplit(source).path if "://" in source else source).suffix.lower()
    by_name = _BY_SUFFIX.get(suffix)
    if said in (MARKDOWN, "text/x-markdown") or (by_name == MARKDOWN and said in ("", PLAIN)):
        return MARKDOWN
    if not said and by_name is not None:
        return by_name
    return PLAIN


def to_text(
    source: str, data: bytes, readers: Readers, stop: Event, content_type: str = ""
) -> Text:
    """Return a document's text and title. Raises Unreadable."""
    kind = media_type_of(source, data, content_type)
    if not data:
        raise Unreadable("is empty")
    if kind == PDF:
        title, pages = readers.pdf(data, stop)
        text = Text(title, PDF, PAGE_BREAK.join(map(_clean, pages)))
    else:
        _refuse_binary(source, data)
        content = _clean(readers.text(data, content_type))
        if kind == HTML:
            url = source if "://" in source else ""
            title, content = readers.page(content, url, stop)
            text = Text(title, HTML, _clean(content))
        else:
            text = Text(_title_in(content) if kind == MARKDOWN else "", kind, content)
    if not text.content.strip():
        raise Unreadable("holds no text")
    if len(text.content) > MOST_CHARACTERS:
        raise Unreadable(f"has more than {MOST_CHARACTERS:,} characters of text")
    return text._replace(title=_clean(text.title)[:_LONGEST_TITLE].strip() or _name_of(source))


def _refuse_binary(source: str, data: bytes) -> None:
    known = _ADVICE.get(PurePosixPath(source).suffix.lower())
    if known is not None and not data.isascii():
        raise Unreadable(f"is {known}: save it as PDF, HTML or Markdown first")
    if not data.startswith(_MARKS) and _NO_TEXT.search(data[:_LOOKED_AT]):
        raise Unreadable("is no text")


def _clean(text: str) -> str:
    """Return text with plain line breaks, and without what neither database nor terminal takes."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return _SURROGATE.sub("\ufffd", _CONTROL.sub("", plain))


def _title_in(markdown: str) -> str:
    beginning = markdown[:_TITLE_IN]
    if beginning.startswith("---\n"):  # front matter
        front = beginning[4:].partition("\n---")[0].splitlines()
        titles = [line[6:].strip("\"' ") for line in front if line.startswith("title:")]
        if titles and titles[0]:
            return titles[0]
    heading = _HEADING.search(beginning)
    return heading[1] if heading else ""


def _name_of(source: str) -> str:
    if "://" in source:
        parts = urlsplit(source)
        return unquote(parts.path.rstrip("/").rpartition("/")[2]) or parts.netloc
    return PurePosixPath(source).name or source
