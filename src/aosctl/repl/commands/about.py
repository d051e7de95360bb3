"""Commands about this conversation's use: what it cost, what the next request holds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from aosctl.bars import gauge, has_lines
from aosctl.domain.money import money
from aosctl.errors import AosError
from aosctl.messages import usage_from_json
from aosctl.repl.commands.agent import persona_here
from aosctl.repl.commands.models import model_here
from aosctl.repl.commands.runs import state_line
from aosctl.repl.commands.table import Command, staying
from aosctl.repl.words import counted, tokens
from aosctl.tables import cell, format_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aosctl.domain.desk import LeftOut, Step
    from aosctl.repl.chat import Chat

HEADERS = ["MODEL", "ANSWERS", "INPUT", "OUTPUT", "COST"]
_SAID = {"your messages": "user", "answers": "assistant", "tool results": "tool"}
_WHY = {"estimate": "it would not have fit", "overflow": "the service found it too long"}
"""Why room was made in the middle of a turn, as `logs` says it."""
_LETTERS_A_TOKEN = 4
"""About; only the model's own tokenizer knows."""
_LEAST_BAR, _MOST_BAR = 8, 30


def _cost(chat: Chat, _rest: str) -> None:
    chat.say(state_line(chat))
    if not chat.has_begun:
        return
    desk = chat.back.desk
    run_id, name = chat.run_here()
    rows = [
        [
            cell(row.model),
            str(row.answers),
            str(row.input_tokens),
            str(row.output_tokens),
            money(row.cost_usd),
        ]
        for row in desk.spent(run_id)
    ]
    if rows:
        chat.screen.show(format_table([HEADERS, *rows]))
    run = desk.run(name)
    if run.max_usd is not None:
        chat.say(
            f"of this run's {money(run.max_usd)}:"
            f" {gauge(float(run.spent_usd), float(run.max_usd), blocks=has_lines())}"
        )
    for line in budget_lines(chat):
        chat.say(line)


def budget_lines(chat: Chat) -> list[str]:
    """Return what is left of the budgets that hold in the tenant."""
    table = chat.back.verb("get", "budgets").strip()
    lines = table.splitlines()
    return ["budgets of the tenant:", *lines] if len(lines) > 1 else []


class Part(NamedTuple):
    """A part of a request, and about how many tokens it takes."""

    name: str
    tokens: int


def _steps_here(chat: Chat) -> tuple[list[Step], dict[str, list[Step]]]:
    """Return the steps that the model reads, and those that it reads no more, by what did that."""
    read: list[Step] = []
    away: dict[str, list[Step]] = {}
    if chat.has_begun:
        run_id, _ = chat.run_here()
        pieces = chat.back.desk.left_out(run_id)
        steps = chat.back.desk.steps(run_id)
        by_seq = {step.seq: step for step in steps}
        for step in steps:
            # What goes a second time, as a summary's steps do, was away already.
            piece = next((piece for piece in pieces if piece.has(step.seq)), None)
            if piece is None:
                read.append(step)
            else:
                away.setdefault(_left_out_by(piece, by_seq), []).append(step)
    return read, away


def _left_out_by(piece: LeftOut, steps: Mapping[int, Step]) -> str:
    """Say what left a piece out; of what happened by itself, its summary's step knows why."""
    if not piece.is_automatic:
        return "by /compact"
    summary = steps.get(piece.summary_step or 0)
    mark = summary.message.get("summary") if summary else None
    why = mark.get("why") if isinstance(mark, dict) else None
    return f"by itself ({_WHY.get(str(why), 'the context was full')})"


def _context(chat: Chat, _rest: str) -> None:
    desk = chat.back.desk
    tools = desk.tools(chat.agent)
    model = model_here(chat)
    window = next((each.context_window for each in desk.models() if each.name == model), 0)
    described = json.dumps([[t.name, t.description, dict(t.input_schema)] for t in tools])
    steps, away = _steps_here(chat)
    parts = [
        Part("system prompt", about(persona_here(chat).system_prompt)),
        Part(f"tools ({len(tools)})", about(described) if tools else 0),
    ]
    for title, role in _SAID.items():
        said = [json.dumps(step.message, ensure_ascii=False) for step in steps if step.role == role]
        parts.append(Part(f"{title} ({len(said)})", about("".join(said))))
    chat.screen.show(
        "\n".join(context_lines(parts, window, chat.screen.width - 1, blocks=has_lines()))
    )
    for by, gone in away.items():
        size = about("".join(json.dumps(step.message) for step in gone))
        chat.say(f"{counted(len(gone), 'step')} left out {by}, about {tokens(size)}; all kept")
    counts = [step.message["usage"] for step in steps if step.message.get("usage")]
    usage = usage_from_json(counts[-1]) if counts else None
    if usage is not None and usage.prompt:
        chat.say(f"the last request had {tokens(usage.prompt)}, as the model counts")


def about(text: str) -> int:
    """Return about how many tokens a text takes."""
    return -(-len(text) // _LETTERS_A_TOKEN)


def context_lines(parts: Sequence[Part], window: int, width: int, *, blocks: bool) -> list[str]:
    """Return the parts of the next request as bars against the model's window.

    The bars take what `width` cells leave beside the words, within reason.
    """
    if window <= 0:
        raise AosError("the model's window is not known")
    whole = Part("together", sum(part.tokens for part in parts))
    rows = [(part, f"about {tokens(part.tokens)}") for part in parts]
    rows.append((whole, f"about {tokens(whole.tokens)} of {tokens(window)}"))
    left = max(len(part.name) for part, _ in rows)
    words = left + len("   100%  ") + max(len(text) for _, text in rows)
    cells = min(max(width - words, _LEAST_BAR), _MOST_BAR)
    return [
        f"{part.name:<{left}}  {gauge(part.tokens, window, cells, blocks=blocks)}  {text}"
        for part, text in rows
    ]


COMMANDS = (
    Command(
        "/cost", "tokens and cost of this conversation, and what is left", staying(_cost), busy=True
    ),
    Command(
        "/context",
        "what the next request holds, against the model's window",
        staying(_context),
        busy=True,
    ),
)
