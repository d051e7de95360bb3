"""What a person sees of an approval before they decide: who asks, what would run and change."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from aosctl.domain.previewing import Asked, Style, effect_lines, plain
from aosctl.terminal import visible

if TYPE_CHECKING:
    from collections.abc import Callable

    from aosctl.db.approvals import ApprovalRow, Request

CODES = {"bold": "1", "dim": "2", "gone": "31", "new": "32", "warn": "33"}
_MESSAGE_WIDTH = 200


def style_for(colour: bool) -> Style:
    """Return how text is marked on a terminal, with or without colour."""
    if not colour:
        return plain
    return lambda text, kind: f"\x1b[{CODES[kind]}m{text}\x1b[0m" if text else text


def asked_of(row: ApprovalRow) -> Asked:
    return Asked(row.effect, row.args, row.preview, row.previewing)


def approval_lines(row: ApprovalRow, request: Request, width: int, style: Style) -> list[str]:
    """Return everything that a person decides on; safe for a terminal."""
    from aosctl.repl.words import exact_arguments

    title = visible(f"{row.short}  {row.skill} of {row.agent}, run {row.run}, in {row.tenant}")
    lines = [style(title, "bold"), *(f"  {line}" for line in _circumstances(row, request))]
    lines += ["", "what would run:", *(f"  {line}" for line in exact_arguments(row.args))]
    if row.original_args is not None:
        lines += [style("edited; the model had asked for:", "warn")]
        lines += [f"  {line}" for line in exact_arguments(row.original_args)]
    effect = effect_lines(asked_of(row), max(width - 2, 40), style)
    return [*lines, "", "what it would change:", *(f"  {line}".rstrip() for line in effect)]


def _circumstances(row: ApprovalRow, request: Request) -> list[str]:
    from aosctl.cli.table import time_left

    until = row.expires_at.astimezone().strftime("%Y-%m-%d %H:%M")
    lines = []
    if request.actor or request.message:
        said = f": {_words(request)}" if request.message else ""
        lines.append(visible(f"asked by   {request.actor or 'nobody known'}{said}"))
    lines.append(visible(f"because    {row.reason}"))
    if row.edited_by:
        lines.append(visible(f"edited by  {row.edited_by}"))
    lines.append(f"expires    in {time_left(row.expires_at)}, at {until}; then it is denied")
    return lines


def _words(request: Request) -> str:
    blocks = (request.message or {}).get("blocks") or ()
    text = " ".join(str(each.get("text") or "") for each in blocks if each.get("t") == "text")
    line = " ".join(visible(text).split())
    return line if len(line) <= _MESSAGE_WIDTH else line[: _MESSAGE_WIDTH - 1] + "…"


def ask(question: str, has_moved: Callable[[], bool]) -> str | None:
    """Ask on the terminal for one line; the empty text when there is no answer any more.

    None when `has_moved`, asked once a second meanwhile, says that the question is void; what was
    typed and not sent is thrown away then, so that it answers nothing else.
    """
    from aosctl.repl.plain_prompts import forget_typed, read_line

    line = read_line(sys.stderr, question, has_moved)
    if line is None:
        forget_typed()
        return None
    return line.strip()
