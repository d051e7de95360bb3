"""Documents as text, by the real readers: what a file is, its title, and why one is refused."""

from __future__ import annotations

from threading import Event

import pytest

import pdfs
from aosctl.domain.ingest.base import Unreadable
from aosctl.domain.ingest.converting import Text, media_type_of, to_text
from aosctl.domain.tools.documents import Documents
from aosctl.domain.tools.web.client import HttpClient

READERS = Documents(HttpClient(), 1_000_000)


def read(source: str, data: bytes, content_type: str = "") -> Text:
    return to_text(source, data, READERS, Event(), content_type)


@pytest.mark.parametrize(
    ("source", "data", "said", "expected"),
    [
        ("a.md", b"x", "", "text/markdown"),
        ("A.MARKDOWN", b"x", "", "text/markdown"),
        ("a.txt", b"x", "", "text/plain"),
        ("Makefile", b"x", "", "text/plain"),
        ("a.htm", b"x", "", "text/html"),
        ("a.pdf", b"x", "", "application/pdf"),
        ("a.txt", b"\n%PDF-1.7", "", "application/pdf"),
        ("https://x/a", b"x", "text/html; charset=utf-8", "text/html"),
        ("https://x/a.md?raw=1", b"x", "text/plain", "text/markdown"),
        ("https://x/a.html", b"x", "text/plain", "text/plain"),
        ("https://x/a", b"x", "text/markdown", "text/markdown"),
    ],
)
def test_a_document_is_told_by_its_server_its_name_and_its_beginning(
    source: str, data: bytes, said: str, expected: str
) -> None:
    assert media_type_of(source, data, said) == expected


@pytest.mark.parametrize(
    ("source", "data", "title"),
    [
        ("d/a.md", b"text\n\n# The Title #\n\n# Other", "The Title"),
        ("d/a.md", b'---\ndate: 1\ntitle: "In Front"\n---\n# Other', "In Front"),
        ("d/a.md", b"no heading", "a.md"),
        ("d/a.txt", b"# no Markdown", "a.txt"),
        ("d/a.html", b"<title> A  page </title><p>x", "A page"),
        ("https://x/d/b%20c.txt", b"x", "b c.txt"),
        ("https://x/", b"x", "x"),
        ("a.pdf", pdfs.pdf("x", title="Of the PDF"), "Of the PDF"),
        ("a.pdf", pdfs.pdf("x"), "a.pdf"),
        ("a.md", b"# " + b"x" * 900, "x" * 500),
    ],
)
def test_a_document_has_a_title(source: str, data: bytes, title: str) -> None:
    assert read(source, data).title == title


@pytest.mark.parametrize(
    ("data", "content_type", "text"),
    [
        ("Café ä€😀".encode(), "", "Café ä€😀"),
        ("\ufeffCafé".encode(), "", "Café"),
        ("Café".encode("utf-16"), "", "Café"),
        ("Café au".encode("cp1252"), "", "Café au"),
        ("Привет".encode("koi8-r"), "text/plain; charset=koi8-r", "Привет"),
        (b"a\r\nb\rc\n", "", "a\nb\nc\n"),
        (b"red\x1b[31m \x7fend", "", "red[31m end"),
    ],
)
def test_text_is_decoded_and_holds_no_control_characters(
    data: bytes, content_type: str, text: str
) -> None:
    assert read("a.txt", data, content_type).content == text


def test_html_is_markdown_with_links_from_its_url() -> None:
    page = b"<nav>menu</nav><h2>Way</h2><p>Go <a href='/there'>there</a>.<script>x</script>"
    found = read("https://x.example/a", page, "text/html")
    assert found.media_type == "text/html"
    assert found.content == "## Way\n\nGo [there](https://x.example/there)."


def test_pages_of_a_pdf_are_parted_by_form_feeds() -> None:
    found = read("a.pdf", pdfs.pdf("One.", "", "Three."))
    assert (found.media_type, found.content) == ("application/pdf", "One.\f\fThree.")


@pytest.mark.parametrize(
    ("source", "data", "reason"),
    [
        ("a.txt", b"", "is empty"),
        ("a.md", b" \n\t", "holds no text"),
        ("a.html", b"<script>y</script>", "holds no text"),
        ("a.bin", b"MZ\x90\x00\x03", "is no text"),
        ("a.docx", b"PK\x03\x04\x80", "is a Word document: save it as PDF, HTML or Markdown first"),
        ("a.pdf", pdfs.scan(2), "was scanned, and needs OCR first"),
        ("a.pdf", pdfs.encrypted("x", password="p"), "is encrypted, and needs a password"),
        ("a.pdf", pdfs.pdf("x")[:250], "is a broken PDF"),
        ("a.pdf", b"%PDF-1.4\nnothing", "is a broken PDF"),
        ("a.pdf", pdfs.bomb(300), "is a broken PDF"),
        ("a.txt", b"x" * 10_000_001, "has more than 10,000,000 characters of text"),
    ],
    ids=lambda value: "data" if isinstance(value, bytes) else str(value)[:20],
)
def test_what_cant_be_taken_in_says_why(source: str, data: bytes, reason: str) -> None:
    with pytest.raises(Unreadable) as caught:
        read(source, data)
    assert reason in str(caught.value)


def test_a_pdf_that_opens_without_a_password_is_read() -> None:
    assert read("a.pdf", pdfs.encrypted("Free.", password="")).content == "Free."
