"""A film as an SVG that plays by CSS alone, so that a page which runs no script shows it moving."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import groupby
from xml.sax.saxutils import escape

from pyte.screens import Char

from record.camera import Film, Piece

WIDE, HIGH, SIZE, MARGIN, BAR = 8.4, 19, 14, 18, 34
GROUND, INK, EDGE = "#0d1117", "#d7dde4", "#30363d"
COLOURS = {
    "black": "#484f58", "red": "#ff7b72", "green": "#56d364", "brown": "#e3b341",
    "blue": "#79c0ff", "magenta": "#d2a8ff", "cyan": "#56d4dd", "white": "#d7dde4",
    "brightblack": "#8b949e", "brightred": "#ffa198", "brightgreen": "#7ee787",
    "brightbrown": "#f2cc60", "brightblue": "#a5d6ff", "brightmagenta": "#e2c5ff",
    "brightcyan": "#9be9f0", "brightwhite": "#ffffff",
}  # fmt: skip
"""pyte's names of the terminal's colours."""
_WORDS = re.compile(r"\S+(?: \S+)*")
FONT = "ui-monospace,'SF Mono',SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace"


def moving(film: Film, title: str, transcript: str) -> str:
    """Return the film as a picture that plays, and stands at its end where motion is unwanted."""
    total = film.seconds
    groups: dict[tuple[float, float | None], list[str]] = defaultdict(list)
    for piece in film.pieces:
        groups[piece.began, piece.ended].extend(_texts(piece))
    rules, body = [], []
    for number, ((began, ended), texts) in enumerate(sorted(groups.items(), key=_order)):
        if not texts:
            continue
        gone = "" if ended is None else f"{_at(ended, total)}{{opacity:0}}"
        rules.append(
            f"@keyframes f{number}{{0%{{opacity:0}}{_at(began, total)}{{opacity:1}}{gone}}}"
        )
        last = "" if ended is None else ' opacity="0"'
        body.append(f'<g{last} style="animation-name:f{number}">{"".join(texts)}</g>')
    scrolls = "".join(
        f"{_at(at, total)}{{transform:translateY({-row * HIGH}px)}}" for at, row in film.scrolled
    )
    cursors = "".join(
        f"{_at(at, total)}{{transform:translate({column * WIDE:.1f}px,{row * HIGH}px)}}"
        for at, row, column in _last_of_each(film.cursors)
    )
    rules += [f"@keyframes scroll{{{scrolls}}}", f"@keyframes cursor{{{cursors}}}"]
    _, row, column = film.cursors[-1]
    place = f'transform="translate({column * WIDE:.1f} {row * HIGH})"'
    body.append(
        f'<rect style="animation-name:cursor" {place}'
        f' width="{WIDE}" height="{HIGH}" fill="{INK}" fill-opacity=".6"/>'
    )
    motion = (
        "g,rect{animation:0s step-end infinite}"
        f"#all g,#all rect,#all{{animation-duration:{total:.2f}s}}"
        "@media(prefers-reduced-motion:reduce){*{animation:none!important}}"
    )
    style = "".join(rules) + motion
    end = f'transform="translate(0 {-film.scrolled[-1][1] * HIGH})"'
    inner = f'<g id="all" style="animation-name:scroll" {end}>{"".join(body)}</g>'
    return _window(film, title, transcript, style, inner)


def still(film: Film, title: str, at: float) -> str:
    """Return what was to be seen at a moment, as a picture that stands."""
    texts = [
        text
        for piece in film.pieces
        if piece.began <= at and (piece.ended is None or at < piece.ended)
        for text in _texts(piece)
    ]
    shift = [row for moment, row in film.scrolled if moment <= at][-1] * HIGH
    inner = f'<g transform="translate(0 {-shift})">{"".join(texts)}</g>'
    return _window(film, title, "", "", inner)


def _window(film: Film, title: str, transcript: str, style: str, inner: str) -> str:
    across, down = film.columns * WIDE, film.rows * HIGH
    width, height = across + 2 * MARGIN, down + BAR + MARGIN
    lights = "".join(
        f'<circle cx="{20 + 20 * n}" cy="17" r="6" fill="{colour}"/>'
        for n, colour in enumerate(("#ff5f57", "#febc2e", "#28c840"))
    )
    classes = "".join(f".{_class(name)}{{fill:{colour}}}" for name, colour in COLOURS.items())
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}"'
        f' viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(title)}">\n'
        f"<title>{escape(title)}</title>\n<desc>{escape(transcript)}</desc>\n"
        f"<style>text{{white-space:pre;fill:{INK}}}.b{{font-weight:700}}.i{{font-style:italic}}"
        f".u{{text-decoration:underline}}{classes}{style}</style>\n"
        f'<rect x=".5" y=".5" width="{width - 1:.0f}" height="{height - 1:.0f}" rx="10"'
        f' fill="{GROUND}" stroke="{EDGE}"/>{lights}\n'
        f'<text x="{width / 2:.0f}" y="21" text-anchor="middle" font-size="12"'
        f' font-family="{FONT}" class="{_class("brightblack")}">{escape(title)}</text>\n'
        f'<svg x="{MARGIN}" y="{BAR}" width="{across:.0f}" height="{down}"'
        f' font-family="{FONT}" font-size="{SIZE}" xml:space="preserve">\n{inner}\n</svg>\n</svg>\n'
    )


def _texts(piece: Piece) -> Iterator[str]:
    """Yield a piece of a line as texts of one style each, what is blank left out."""
    column = piece.column
    for look, cells in groupby(piece.cells, key=_look):
        run = list(cells)
        yield from _text(piece.row, column, run, look)
        column += len(run)


def _text(row: int, column: int, cells: list[Char], look: tuple[str, str, str]) -> Iterator[str]:
    classes, colour, ground = look
    # The second cell of a wide character is empty.
    text = "".join(cell.data or "\0" for cell in cells)
    if ground:
        yield (
            f'<rect x="{column * WIDE:.1f}" y="{row * HIGH}" width="{len(cells) * WIDE:.1f}"'
            f' height="{HIGH}" fill="{ground}"/>'
        )
    named = f' class="{classes}"' if classes else ""
    filled = f' style="fill:{colour}"' if colour else ""
    for mark in re.finditer("⏺", text):  # few fonts have it
        x, y = (column + mark.start() + 0.5) * WIDE, row * HIGH + 9.5
        yield f'<circle cx="{x:.1f}" cy="{y}" r="4" fill="{INK}"{named}{filled}/>'
    for word in _WORDS.finditer(text.replace("⏺", " ")):  # columns stand, whatever the font
        at, width = column + word.start(), word.end() - word.start()
        length = f' textLength="{width * WIDE:.1f}"' if width > 1 else ""
        place = f'x="{at * WIDE:.1f}" y="{row * HIGH + 14}"{length}'
        yield f"<text {place}{named}{filled}>{escape(word[0].replace(chr(0), ''))}</text>"


def _look(cell: Char) -> tuple[str, str, str]:
    """Return a cell's classes, its colour where it has no class, and its ground."""
    fore, ground = (cell.bg, cell.fg) if cell.reverse else (cell.fg, cell.bg)
    if cell.reverse:
        fore = GROUND[1:] if fore == "default" else fore
        ground = INK[1:] if ground == "default" else ground
    marks = [("b", cell.bold), ("i", cell.italics), ("u", cell.underscore)]
    classes = [name for name, given in marks if given]
    if fore in COLOURS:
        classes.append(_class(fore))
    colour = f"#{fore}" if fore != "default" and fore not in COLOURS else ""
    behind = "" if ground == "default" else COLOURS.get(ground, f"#{ground}")
    return " ".join(classes), colour, behind


def _class(name: str) -> str:
    return {"bright": "B"}.get(name[:6], "c") + name.removeprefix("bright")[:3]


def _order(item: tuple[tuple[float, float | None], list[str]]) -> tuple[float, float]:
    (began, ended), _ = item
    return began, ended or 0.0


def _at(seconds: float, total: float) -> str:
    return f"{100 * seconds / total:.3f}".rstrip("0").rstrip(".") + "%"


def _last_of_each(cursors: list[tuple[float, int, int]]) -> Iterator[tuple[float, int, int]]:
    """Yield where the cursor came to, left out where it was before."""
    before: tuple[int, int] | None = None
    for at, row, column in cursors:
        if (row, column) != before:
            yield at, row, column
        before = row, column
