"""Commands about runs: go on with another, fork, rewind, look at what they do, stop them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from aosctl.domain.money import money
from aosctl.domain.steps import check_step, step_of
from aosctl.errors import AosError, UsageError
from aosctl.messages import Message
from aosctl.numbers import MOST_DIGITS, whole
from aosctl.repl.commands.table import Command, staying
from aosctl.repl.exporting import beginning
from aosctl.repl.picker import Row, pick
from aosctl.repl.words import counted, tokens
from aosctl.tables import short_duration
from aosctl.terminal import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from aosctl.domain.desk import Step, Talk
    from aosctl.repl.chat import Chat

_LINES = 20
_MESSAGE_WIDTH = 80
_STOPS = {"t": "turn", "r": "run", "n": "no"}


def _resume(chat: Chat, rest: str) -> None:
    if rest:
        run = chat.back.desk.run_to_go_on(rest)
        run_id, agent = run.run_id, run.agent
    else:
        here = chat.run_here()[0] if chat.has_begun else None
        talks = chat.back.desk.talks()
        with chat.prompts.handed_over():
            found = pick_talk(talks, here)
        if found is None:
            return
        run_id, agent = found.run_id, found.agent
    chat.go_on_with(run_id, agent)


def pick_talk(talks: Sequence[Talk], here: UUID | None = None) -> Talk | None:
    """Let the person choose a conversation; None when they leave without. Raises AosError."""
    rows = [Row(talk, cells_of(talk)) for talk in talks if talk.run_id != here]
    if not rows:
        raise AosError("there is no other conversation to go on with", "aosctl chat AGENT")
    return pick(sys.stdout, "Go on with", rows)


def cells_of(talk: Talk) -> tuple[str, ...]:
    """Return a conversation's name, agent, age, state, cost, and what was last asked in it."""
    state = talk.turn_state if talk.run_state == "active" else talk.run_state
    return (
        talk.name,
        talk.agent,
        short_duration((datetime.now(UTC) - talk.updated_at).total_seconds()),
        "idle" if state in (None, "completed", "cancelled", "failed") else str(state),
        money(talk.spent_usd),
        beginning(talk.message, _MESSAGE_WIDTH),
    )


def _fork(chat: Chat, rest: str) -> None:
    run_id, name = chat.run_here()
    step = None
    if rest:
        step = step_of(rest.removeprefix("@"), "such as /fork @12; /trace shows the steps")
        check_step(name, step, chat.back.desk.run(name).last_step, "/trace shows them")
    fork_to(chat, run_id, name, step)


def fork_to(chat: Chat, run_id: UUID, name: str, step: int | None) -> None:
    """Go on in a new run with the transcript up to a step; the old one stays as it is."""
    made, steps = chat.back.desk.fork(run_id, step)
    chat.go_on_with(made.run_id, made.agent, past=False)
    chat.say(f"↩ forked from {name}@{steps} · now in run {made.name}; /resume {name} goes back")


def questions(steps: Sequence[Step]) -> list[Step]:
    """Return the messages that began a turn: those one can go back to."""
    first: dict[int, Step] = {}
    for step in steps:
        first.setdefault(step.turn, step)
    return list(first.values())


def _rewind(chat: Chat, rest: str) -> None:
    run_id, name = chat.run_here()
    asked = questions(chat.back.desk.steps(run_id, "user"))
    if not asked:
        raise AosError("there is no message to go back to")
    if rest:
        back = whole(rest, 9)
        if back is None or not 1 <= back <= len(asked):
            many = counted(len(asked), "message")
            raise UsageError(f'can\'t go back "{rest}": there are {many}', "/rewind lists them")
        chosen = asked[-back]
    else:
        rows = [Row(step, _question_cells(step)) for step in reversed(asked)]
        with chat.prompts.handed_over():
            found = pick(sys.stdout, "Go back to before", rows)
        if found is None:
            return
        chosen = found
    fork_to(chat, run_id, name, chosen.seq - 1)
    chat.begin_with(clean(Message.from_json(chosen.message).typed))


def _question_cells(step: Step) -> tuple[str, ...]:
    age = short_duration((datetime.now(UTC) - step.created_at).total_seconds())
    text = Message.from_json(step.message).typed
    return f"@{step.seq}", age, beginning(text, _MESSAGE_WIDTH)


def _ps(chat: Chat, _rest: str) -> None:
    chat.say(state_line(chat))
    chat.screen.show(chat.back.verb("ps"))


def state_line(chat: Chat) -> str:
    """Return how the run of this conversation stands."""
    if not chat.has_begun:
        return "the conversation begins with your first message"
    status = chat.back.desk.run(str(chat.run_here()[0]))
    state = status.turn_state or "idle"
    return (
        f"run {status.name} · {status.run_state} · turn {status.turn} {state} · "
        f"{status.model} · {tokens(status.input_tokens)} in · "
        f"{tokens(status.output_tokens)} out · {money(status.spent_usd)}"
    )


def _logs(chat: Chat, rest: str) -> None:
    number = rest.removeprefix("-n").strip() or str(_LINES)
    if whole(number, MOST_DIGITS - 1) is None:
        raise UsageError(f'"{rest}" is no number of lines', "such as /logs 50")
    chat.screen.show(chat.back.verb("logs", chat.run_here()[1], "--tail", number))


def _trace(chat: Chat, _rest: str) -> None:
    chat.screen.show(chat.back.verb("trace", chat.run_here()[1]))


def _steer(chat: Chat, rest: str) -> None:
    if not rest:
        raise UsageError("no message", "/steer TEXT goes into the turn that is under way")
    _, name = chat.run_here()
    if not chat.back.desk.run(name).has_open_turn:
        raise AosError("no turn is under way", "type the message without /steer")
    chat.say(chat.back.verb("steer", name, "--", rest).strip())


def _kill(chat: Chat, _rest: str) -> None:
    run_id, name = chat.run_here()
    before = chat.back.desk.run(str(run_id))
    has_turn = before.has_open_turn
    keys = _STOPS if has_turn else {"r": "run", "n": "no"}
    turn = "t stop the open turn · " if has_turn else ""
    answer = "no"
    try:
        found = chat.prompts.choose(
            f"{turn}r end run {name} for good · n no > ", keys, lambda: False
        )
        answer = found if isinstance(found, str) else "no"
    except (KeyboardInterrupt, EOFError):
        pass
    if answer == "run":
        chat.say(chat.back.verb("kill", name).strip())
        chat.begin_anew()
        chat.say("your next message begins another conversation")
    elif answer == "turn" and chat.back.desk.stop_turn(run_id, before.turn):
        chat.say(f"the turn is stopped · run {name} kept")
    else:
        chat.say("nothing was stopped")


COMMANDS = (
    Command(
        "/resume",
        "go on with another conversation; without a name choose one",
        staying(_resume),
        "[RUN]",
        "/resume my_pg_bot-x7k2p",
        completes="run",
    ),
    Command(
        "/fork",
        "go on in a copy of this run, up to a step; this one stays",
        staying(_fork),
        "[@STEP]",
        "/fork @12",
    ),
    Command(
        "/rewind",
        "go back before one of your messages, in a copy, and edit it",
        staying(_rewind),
        "[N]",
        "/rewind 1",
    ),
    Command("/ps", "the state of this conversation, and every open run", staying(_ps), busy=True),
    Command(
        "/logs",
        f"the last lines of this run's log, {_LINES} unless told",
        staying(_logs),
        "[N]",
        "/logs 50",
        busy=True,
    ),
    Command("/trace", "what this run did, with time and money", staying(_trace), busy=True),
    Command(
        "/steer",
        "send a message into the turn that is under way",
        staying(_steer),
        "TEXT",
        "/steer only the last month, please",
        busy=True,
    ),
    Command("/kill", "stop the open turn, or end the run; asks first", staying(_kill)),
)
