"""Markdown as a terminal shows it, one finished block at a time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

WIDEST = 100
"""How wide text is shown at most; a table takes what the terminal has."""


def with_tables(block: str, width: int) -> str:
    """Return a block as it was written, its tables and charts drawn: for terminals without colours.

    What else Markdown marks is read as easily with its marks, which no style replaces here.
    """
    from markdown_it import MarkdownIt

    if "|" not in block and "chart" not in block:
        return block
    lines = block.split("\n")
    parsed = MarkdownIt("commonmark").enable("table").parse(block)
    drawn = [one for one in parsed if one.type in ("table_open", "fence") and not one.level]
    for token in reversed(drawn):
        begin, end = token.map or (0, 0)
        if token.type == "table_open":
            lines[begin:end] = [render("\n".join(lines[begin:end]), width, styled=False)]
        elif (chart := _chart(token.info, token.content, width)) is not None:
            lines[begin:end] = chart
    return "\n".join(lines)


def _cyan(text: str) -> str:
    return f"\x1b[36m{text}\x1b[0m" if text else text


def _chart(info: str, text: str, width: int, style: Callable[[str], str] = str) -> list[str] | None:
    """Return the lines of a chart; None where a fenced block is none."""
    from aosctl.bars import has_lines
    from aosctl.charts import chart_of, draw

    found = chart_of(info, text) if info.startswith("chart") else None
    if found is None:
        return None
    return draw(found, min(width, WIDEST), blocks=has_lines(), style=style)


def render(block: str, width: int, *, styled: bool = True) -> str:
    """Return a block with terminal styles, without blank lines around it; `block` is clean."""
    from io import StringIO

    from rich.console import Console

    written = StringIO()
    console = Console(
        file=written,
        force_terminal=styled,
        color_system="auto" if styled else None,
        width=max(width, 20),
        highlight=False,
        soft_wrap=False,
        theme=_theme(),
    )
    document = _document()(block, code_theme="ansi_dark", hyperlinks=False)
    console.print(document, end="", width=min(console.width, WIDEST))
    lines = [_without_padding(line) for line in written.getvalue().split("\n")]
    while lines and not _text(lines[0]):
        lines.pop(0)
    while lines and not _text(lines[-1]):
        lines.pop()
    return "\n".join(lines)


def _theme() -> Any:
    """Return styles without backgrounds, so that light and dark terminals both can show them."""
    from rich.theme import Theme

    return Theme(
        {
            "markdown.code": "cyan",
            "markdown.block_quote": "default",
            "markdown.table.header": "bold",
            "markdown.table.border": "dim",
            "markdown.item.number": "default",
            "markdown.item.bullet": "default",
            "markdown.link_url": "underline",
        }
    )


def _document() -> Any:
    """Return rich's Markdown: headings on the left, code without a frame, tables uncut."""
    from markdown_it import MarkdownIt
    from rich.markdown import CodeBlock, Heading, Markdown
    from rich.syntax import Syntax
    from rich.text import Text

    class PlainHeading(Heading):
        def __rich_console__(self, console: Any, options: Any) -> Any:
            text = Text.assemble(self.text)
            text.stylize("bold")
            if self.tag in ("h1", "h2"):
                text.stylize("underline")
            yield text

    class PlainCode(CodeBlock):
        info = ""

        @classmethod
        def create(cls, markdown: Any, token: Any) -> Any:
            made = super().create(markdown, token)
            made.info = token.info or ""  # type: ignore[attr-defined]
            return made

        def __rich_console__(self, console: Any, options: Any) -> Any:
            code = str(self.text).rstrip()
            chart = _chart(self.info, code, options.max_width, _cyan)
            if chart is not None:
                for line in chart:
                    yield Text.from_ansi(line, no_wrap=True)
                return
            shown = Syntax(
                code, self.lexer_name, theme=self.theme, word_wrap=True, background_color="default"
            )
            from rich.padding import Padding

            yield Padding(shown, (0, 0, 0, 2))

    class Document(Markdown):
        def __init__(self, markup: str, **settings: Any) -> None:
            super().__init__(markup, **settings)
            # rich leaves HTML out; what a model writes as a tag is text like all else
            parser = MarkdownIt("commonmark", {"html": False}).enable(["strikethrough", "table"])
            self.parsed = parser.parse(markup)

        elements = {  # noqa: RUF012 - rich's own name and shape
            **Markdown.elements,
            "heading_open": PlainHeading,
            "fence": PlainCode,
            "code_block": PlainCode,
            "list_item_open": _list_item(),
            "table_open": _table(),
            "hr": _rule(),
        }

    return Document


def _rule() -> Any:
    """Return rich's line between paragraphs, drawn as the lines of tables are."""
    from rich.markdown import HorizontalRule
    from rich.rule import Rule
    from rich.text import Text

    class Line(HorizontalRule):
        def __rich_console__(self, console: Any, options: Any) -> Any:
            yield Rule(style=console.get_style("markdown.hr", default="none"), characters="─")
            yield Text()

    return Line


def _list_item() -> Any:
    """Return rich's item of a list, with its number as people write it: `1.`."""
    from rich.markdown import ListItem
    from rich.table import Table

    class Item(ListItem):
        def render_number(self, console: Any, options: Any, number: int, last_number: int) -> Any:
            grid = Table.grid()
            grid.add_column(width=len(str(last_number)) + 3)
            grid.add_column()
            grid.add_row(f"{number}.".rjust(len(str(last_number)) + 2), self.elements)
            yield from console.render(grid, options)

    return Item


def _table() -> Any:
    """Return rich's table as wide as the terminal; too many columns stand one below the other."""
    from rich.markdown import TableElement

    class Whole(TableElement):
        def __rich_console__(self, console: Any, options: Any) -> Any:
            table: Any = next(iter(super().__rich_console__(console, options)))
            for column in table.columns:
                column.overflow = "fold"
            wide = options.update(
                width=options.max_width + max(console.width - WIDEST, 0), justify="default"
            )
            needed = sum(
                min(console.measure(cells, options=wide).minimum, _LEAST) + _GAP
                for cells in (_stacked(column) for column in table.columns)
            )
            fits = needed <= wide.max_width or not table.row_count
            yield from console.render(table if fits else _records(table), wide)

    return Whole


_LEAST = 16
"""A column whose words are longer may break them, but gets no fewer cells than these."""
_GAP = 2


def _stacked(column: Any) -> Any:
    from rich.console import Group

    return Group(column.header, *column.cells)


def _records(table: Any) -> Any:
    """Return a table's rows one below the other, as psql does with \\x."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    shown: list[Any] = []
    for number, cells in enumerate(zip(*(c.cells for c in table.columns), strict=True), 1):
        shown.append(Text(f"─ {number} ─", style="markdown.table.border"))
        grid = Table.grid(padding=(0, _GAP, 0, 0))
        grid.add_column(overflow="fold", max_width=30)
        grid.add_column(overflow="fold")
        for column, cell in zip(table.columns, cells, strict=True):
            # joined to a text without it they lose the column's own justification
            grid.add_row(Text().join([column.header]), Text().join([cell]))
        shown.append(grid)
    return Group(*shown)


def _without_padding(line: str) -> str:
    """Cut the spaces that rich fills lines up with: they spoil what people copy."""
    return re.sub(r"((?:\x1b\[[0-9;]*m| )*)$", lambda m: m[1].replace(" ", ""), line)


def _text(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
