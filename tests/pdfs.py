"""PDF files, made on the spot: with text, without, encrypted, broken, and made to hang a reader."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO


def pdf(*pages: str, title: str = "") -> bytes:
    """Make a PDF with a line of text on each page; "" is a page without any."""
    return _file([_text_stream(text) for text in pages], title=title)


def scan(pages: int = 1) -> bytes:
    """Make a PDF whose pages hold a picture alone."""
    picture = b"q 100 0 0 100 0 0 cm BI /W 1 /H 1 /CS /G /BPC 8 ID \x00 EI Q"
    return _file([(b"", picture)] * pages)


def encrypted(*pages: str, password: str) -> bytes:
    """Make a PDF that is read with a password alone; "" is one that readers try by themselves."""
    from pypdf import PdfReader, PdfWriter

    writer = PdfWriter(clone_from=PdfReader(BytesIO(pdf(*pages))))
    writer.encrypt(user_password=password, owner_password="owner", algorithm="RC4-128")
    made = BytesIO()
    writer.write(made)
    return made.getvalue()


def bomb(megabytes: int) -> bytes:
    """Make a PDF of a few kilobytes whose only page unpacks to so many megabytes."""
    packer = zlib.compressobj(9)
    line = b"(x) Tj " * 150_000  # about a megabyte
    packed = packer.compress(b"BT /F1 12 Tf ")
    for _ in range(megabytes):
        packed += packer.compress(line)
    packed += packer.compress(b"ET") + packer.flush()
    return _file([(b"/Filter /FlateDecode ", packed)])


def _text_stream(text: str) -> tuple[bytes, bytes]:
    escaped = text.replace("\\", r"\\").replace("(", r"\(").replace(")", r"\)")
    return b"", f"BT /F1 12 Tf 72 720 Td ({escaped}) Tj ET".encode("latin-1")


def _file(streams: Sequence[tuple[bytes, bytes]], title: str = "") -> bytes:
    kids = " ".join(f"{4 + 2 * at} 0 R" for at in range(len(streams)))
    objects: dict[int, bytes] = {
        1: b"<< /Type /Catalog /Pages 2 0 R >>",
        2: f"<< /Type /Pages /Kids [{kids}] /Count {len(streams)} >>".encode(),
        3: b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    }
    for at, (filters, stream) in enumerate(streams):
        objects[4 + 2 * at] = (
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {5 + 2 * at} 0 R"
            " /Resources << /Font << /F1 3 0 R >> >> >>"
        ).encode()
        head = f"<< /Length {len(stream)} ".encode() + filters + b">>"
        objects[5 + 2 * at] = head + b"\nstream\n" + stream + b"\nendstream"
    info = len(objects) + 1
    objects[info] = f"<< /Title ({title}) >>".encode("latin-1")
    return _assembled(objects, info)


def _assembled(objects: Mapping[int, bytes], info: int) -> bytes:
    made = bytearray(b"%PDF-1.4\n")
    places = []
    for number, body in sorted(objects.items()):
        places.append(len(made))
        made += f"{number} 0 obj\n".encode() + body + b"\nendobj\n"
    table = len(made)
    made += f"xref\n0 {len(places) + 1}\n0000000000 65535 f \n".encode()
    made += b"".join(f"{place:010} 00000 n \n".encode() for place in places)
    size = len(places) + 1
    made += f"trailer\n<< /Size {size} /Root 1 0 R /Info {info} 0 R >>\n".encode()
    made += f"startxref\n{table}\n%%EOF\n".encode()
    return bytes(made)
