"""The line below the prompt: what the conversation is, and how near it is to its limits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from aosctl.domain.money import money
from aosctl.repl.words import shorten, tokens
from aosctl.terminal import clean, display_width

if TYPE_CHECKING:
    from decimal import Decimal

    from aosctl.domain.conversation import RunStatus

_SEPARATOR = " · "


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of the footer; where there is no room the one of least weight goes first."""

    text: str
    weight: int


def before_the_run(agent: str, model: str, tenant: str) -> list[Part]:
    """Return what is known of a conversation before its first message."""
    return [Part(agent, 6), Part(model, 3), Part(tenant, 1)]


def parts_of(status: RunStatus, tenant: str) -> list[Part]:
    """Return run, model, tokens, context use, cost and tenant."""
    return [
        Part(status.run, 6),
        Part(status.model, 3),
        Part(tokens(status.input_tokens + status.output_tokens), 2),
        Part(context(status.context_tokens, status.context_window), 4),
        Part(cost(status), 5),
        Part(tenant, 1),
    ]


def context(used: int, window: int) -> str:
    """Return how much of the model's context window the last request took: `12k/128k ctx`."""
    return f"{_short(used)}/{_short(window)} ctx"


def cost(status: RunStatus) -> str:
    """Return `$0.03`, or `$0.03/$0.50` where a limit binds: of several the one that is nearest.

    The run's own limit, or a budget's, with what all its runs have spent.
    """
    limits: list[tuple[Decimal, Decimal]] = []
    if status.max_usd is not None:
        limits.append((status.spent_usd, status.max_usd))
    if status.budget_usd is not None:
        limits.append((status.budget_spent_usd, status.budget_usd))
    if not limits:
        return money(status.spent_usd)
    spent, limit = min(limits, key=lambda each: each[1] - each[0])
    return f"{money(spent)}/{money(limit)}"


def footer(parts: list[Part], width: int) -> str:
    """Join parts to a line of at most `width` cells; the weightiest is cut, not left out."""
    left = [Part(clean(part.text), part.weight) for part in parts if part.text]
    while len(left) > 1 and display_width(_joined(left)) > width:
        left.remove(min(left, key=lambda part: part.weight))
    return shorten(_joined(left), max(width, 1))


def _joined(parts: list[Part]) -> str:
    return _SEPARATOR.join(part.text for part in parts)


def _short(count: int) -> str:
    """Return a number of tokens in four characters or so: 800, 12k, 1.2M."""
    if count < 1000:
        return str(count)
    return f"{count / 1000:.0f}k" if count < 1_000_000 else f"{count / 1_000_000:.1f}M"
