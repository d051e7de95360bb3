"""The command about the model of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from aosctl.domain.names import did_you_mean, quoted
from aosctl.errors import NotFound
from aosctl.repl.commands.table import Command, staying
from aosctl.tables import NONE, cell, format_table

if TYPE_CHECKING:
    from decimal import Decimal

    from aosctl.domain.desk import Model
    from aosctl.repl.chat import Chat

HEADERS = ["  MODEL", "PROVIDER", "WINDOW", "INPUT/MTOK", "OUTPUT/MTOK"]


def _model(chat: Chat, rest: str) -> None:
    models = chat.back.desk.models()
    now = model_here(chat)
    if not rest:
        shown = [each for each in models if each.active or each.name == now]
        chat.screen.show(format_table([HEADERS, *(_row(each, now) for each in shown)]))
        return
    names = [each.name for each in models if each.active]
    if rest not in names:
        raise NotFound(f"no model {quoted(rest)}{did_you_mean(rest, names)}", "/model lists them")
    if rest == now:
        chat.say(f"this conversation is with {now} already")
        return
    if not chat.has_begun:
        chat.ask_model(rest)
        chat.say(f"your first message goes to {rest}")
        return
    run_id, name = chat.run_here()
    run, _ = chat.back.desk.fork(run_id, model=rest)
    chat.go_on_with(run.run_id, run.agent, past=False)
    chat.say(f"↩ forked from {name} · now with {rest}, in run {run.name}; /resume {name} goes back")


def model_here(chat: Chat) -> str:
    """Return the model of the conversation, or that its first message would go to."""
    if chat.has_begun:
        return chat.back.desk.run(str(chat.run_here()[0])).model
    return chat.arrival.place().model


def _row(model: Model, now: str) -> list[str]:
    return [
        f"{'*' if model.name == now else ' '} {cell(model.name)}",
        cell(model.provider),
        f"{model.context_window // 1000}k",
        _price(model.input_usd),
        _price(model.output_usd),
    ]


def _price(usd: Decimal | None) -> str:
    return NONE if usd is None else f"${usd:f}"


COMMANDS = (
    Command(
        "/model",
        "list the models with their prices; with a name go on with it, in a copy",
        staying(_model),
        "[NAME]",
        "/model gpt-4o",
        completes="model",
    ),
)
