"""The text of a PDF, page by page, read in a process of its own.

`python -P -m aosctl.domain.tools.pdf_text` reads a PDF and prints {"title", "pages"}, or
{"reason"} where there is none to be read.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from aosctl.domain.tools.apart import limit, read_apart
from aosctl.domain.tools.web.deadline import Deadline

if TYPE_CHECKING:
    from pypdf import PdfReader

_MOST_PAGES = 5_000
_MOST_CHARACTERS = 10_000_000


def pdf_text(data: bytes, deadline: Deadline) -> dict[str, Any]:
    """Return {"title", "pages"} of a PDF, or {"reason"} why it can't be read."""
    out = read_apart(__name__, data, deadline)
    if out is None:
        return {"reason": "takes too much time or memory to be read"}
    found: dict[str, Any] = json.loads(out)
    return found


def extract(data: bytes) -> dict[str, Any]:
    """Read a PDF in this process."""
    from io import BytesIO

    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    try:
        reader = PdfReader(BytesIO(data))
        if reader.is_encrypted and not reader.decrypt(""):
            return {"reason": "is encrypted, and needs a password"}
        return _pages(reader)
    except MemoryError:
        raise
    except (PyPdfError, RecursionError):
        return {"reason": "is a broken PDF"}
    except Exception as error:  # what it stumbles over in a broken file is anything
        return {"reason": f"is a broken PDF ({type(error).__name__})"}


def _pages(reader: PdfReader) -> dict[str, Any]:
    if len(reader.pages) > _MOST_PAGES:
        return {"reason": f"has more than {_MOST_PAGES:,} pages"}
    pages: list[str] = []
    size = 0
    for page in reader.pages:
        text = page.extract_text().replace("\f", " ").strip()
        size += len(text)
        if size > _MOST_CHARACTERS:
            return {"reason": f"has more than {_MOST_CHARACTERS:,} characters of text"}
        pages.append(text)
    if not size:
        return {"reason": "holds pictures and no text: it was scanned, and needs OCR first"}
    title = reader.metadata.title if reader.metadata else None
    return {"title": " ".join(str(title or "").split()), "pages": pages}


def _main() -> None:
    limit()
    sys.stdout.write(json.dumps(extract(sys.stdin.buffer.read())))


if __name__ == "__main__":
    _main()
