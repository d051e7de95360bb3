"""The picture that the README opens with shows what a real session looks like today."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from aosctl.db.embedded import EmbeddedHome, reset
from record.camera import Film
from record.picture import moving, still
from record.session import commands, record

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "docs" / "session.svg"
SVG = "{http://www.w3.org/2000/svg}"
NOWHERE = "127.0.0.1:9"
LANDMARKS = (
    "✓ kernel", "⏺ rag_search(How do I optimise a join?)", "Sources:", "needs your approval",
    "shop.order_item  1 deleted", "Done: 1 row affected.", "RUN    ", "approved by",
    "turn 2 delete from shop.order_item",
)  # fmt: skip
"""What a reader of the picture looks at, in its order."""


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Film, str]]:
    """The session played anew, from an empty machine."""
    home = tmp_path_factory.mktemp("home")
    env = {"HOME": str(home), "XDG_DATA_HOME": str(home / "data"), "OLLAMA_HOST": NOWHERE}
    try:
        yield record(env)
    finally:
        reset(EmbeddedHome.locate(env))


def read(svg: str) -> ElementTree.Element:
    return ElementTree.fromstring(svg)  # noqa: S314 - it is our own


def transcript(picture: ElementTree.Element) -> str:
    found = picture.find(f"{SVG}desc")
    assert found is not None and found.text
    return found.text


def test_the_shipped_picture_is_of_a_session_that_runs_today(played: tuple[Film, str]) -> None:
    shipped = transcript(read(SHIPPED.read_text(encoding="utf-8")))
    _, today = played
    assert commands(shipped) == commands(today)
    assert len(commands(today)) == 4
    for text in (shipped, today):
        at = 0
        for landmark in LANDMARKS:
            at = text.find(landmark, at)
            assert at >= 0, f"{landmark}: python -m tests.record\n{text}"


def test_a_picture_shows_each_line_when_it_was_there(played: tuple[Film, str]) -> None:
    film, text = played
    at_end = texts(still(film, "t", film.seconds))
    assert "turn 2 delete from" in at_end and "approved by" in at_end
    assert "PostgreSQL" not in texts(still(film, "t", 0.2))
    assert "y approve" not in texts(still(film, "t", 0.2))
    whole = moving(film, "t", text)
    assert "prefers-reduced-motion" in whole
    shown = read(whole)
    names = re.findall(r"@keyframes (\w+)", whole)
    used = re.findall(r"animation-name:(\w+)", whole)
    assert sorted(names) == sorted(used) and len(names) > 100
    assert len(texts(whole)) >= len(at_end)
    assert transcript(shown) == text


def texts(svg: str) -> str:
    """Return the words of a picture from top to bottom and from left to right."""
    found = read(svg).iter(f"{SVG}text")
    places = [(float(t.get("y", 0)), float(t.get("x", 0)), t.text or "") for t in found]
    return " ".join(text for _, _, text in sorted(places))


def test_the_shipped_picture_is_light_and_runs_nothing() -> None:
    raw = SHIPPED.read_text(encoding="utf-8")
    assert len(raw.encode()) < 300_000
    picture = read(raw)
    tags = {element.tag.removeprefix(SVG) for element in picture.iter()}
    assert tags == {"svg", "title", "desc", "style", "rect", "circle", "text", "g"}
    assert re.findall(r"https?://[^\"]+", raw) == ["http://www.w3.org/2000/svg"]
    assert "@keyframes" in raw and "url(" not in raw


def test_the_readme_opens_with_it() -> None:
    opening = (ROOT / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    assert "](docs/session.svg)" in opening
