"""Markdown as a terminal shows it, one finished block at a time."""

from __future__ import annotations

import re
from typing import Any

WIDEST = 100


def render(block: str, width: int) -> str:
    """Return a block with terminal styles, without blank lines around it; `block` is clean."""
    from io import StringIO

    from rich.console import Console

    written = StringIO()
    console = Console(
        file=written,
        force_terminal=True,
        width=max(min(width, WIDEST), 20),
        highlight=False,
        soft_wrap=False,
        theme=_theme(),
    )
    console.print(_document()(block, code_theme="ansi_dark", hyperlinks=False), end="")
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
    """Return rich's Markdown with headings that stand on the left, and code without a frame."""
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
        def __rich_console__(self, console: Any, options: Any) -> Any:
            code = str(self.text).rstrip()
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
        }

    return Document


def _without_padding(line: str) -> str:
    """Cut the spaces that rich fills lines up with: they spoil what people copy."""
    return re.sub(r"((?:\x1b\[[0-9;]*m| )*)$", lambda m: m[1].replace(" ", ""), line)


def _text(line: str) -> str:
    return re.sub(r"\x1b\[[0-9;]*m", "", line).strip()
