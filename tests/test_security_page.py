"""docs/security.md names the test of each promise, as other pages do; each of them exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(test_\w+))?`")
PAGES = [ROOT / "README.md", ROOT / "schema" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
PROOFS = sorted({proof for page in PAGES for proof in NAMED.findall(page.read_text("utf-8"))})


@pytest.mark.parametrize(("path", "name"), PROOFS, ids="::".join)
def test_a_proof_that_is_named_is_there(path: str, name: str) -> None:
    text = (ROOT / path).read_text("utf-8")
    assert not name or f"def {name}(" in text


def test_every_promise_names_its_proof() -> None:
    rows = [
        line.split("|")[2]
        for section in (ROOT / "docs" / "security.md").read_text("utf-8").split("\n## ")[2:]
        for line in section.splitlines()
        if line.startswith("| ") and not line.startswith("| promise")
    ]
    assert len(rows) > 30
    assert [row for row in rows if not NAMED.search(row)] == []
