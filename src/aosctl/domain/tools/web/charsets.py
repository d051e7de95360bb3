"""The text of a body, in the character set that it says, or most likely has."""

from __future__ import annotations

import codecs
import re

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.I)
_SEARCHED = 2_048
# What pages say and what browsers take it for: https://encoding.spec.whatwg.org/#names-and-labels
_MEANT = {
    "iso-8859-1": "cp1252", "latin1": "cp1252", "latin-1": "cp1252", "us-ascii": "cp1252",
    "ascii": "cp1252", "iso-8859-9": "cp1254", "gb2312": "gb18030", "gbk": "gb18030",
    "shift_jis": "cp932", "shift-jis": "cp932", "sjis": "cp932", "x-sjis": "cp932",
    "euc-kr": "cp949", "ks_c_5601-1987": "cp949", "x-gbk": "gb18030", "utf8": "utf-8",
    "unicode": "utf-16-le", "utf-16": "utf-16-le", "tis-620": "cp874",
}  # fmt: skip
_KNOWN = re.compile(
    "utf-8|utf-16-[lb]e|cp(?:8(?:50|52|66|74)|9(?:32|49|50)|125[0-8])|gb18030|big5(?:hkscs|-hkscs)?"
    "|euc[-_]jp|iso-2022-jp|koi8-[ru]|iso-8859-(?:[2-8]|1[03-6])|windows-125[0-8]|macintosh"
)


def text_of(body: bytes, content_type: str) -> str:
    """Return the text; what fits no character set becomes U+FFFD."""
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body[len(mark) :].decode(encoding, "replace")
    said = re.search(r"""charset\s*=\s*["']?([^\s"';]{1,40})""", content_type, re.IGNORECASE)
    inside = None
    if said is None and ("html" in content_type or not content_type):
        inside = _META.search(body[:_SEARCHED])
    name = said[1] if said else inside[1].decode("ascii") if inside else ""
    known = _encoding(name)
    if known is not None:
        return body.decode(known, "replace")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        cut = error.reason == "unexpected end of data"  # within a character
        return body.decode("utf-8" if cut else "cp1252", "replace")


def _encoding(label: str) -> str | None:
    """Return the codec of a label; not those of Python that are no character sets of pages."""
    name = _MEANT.get(label.strip().lower(), label.strip().lower())
    return name if _KNOWN.fullmatch(name) else None
