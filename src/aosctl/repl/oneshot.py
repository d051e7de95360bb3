"""One message, one answer: the answer alone on stdout, an exit status that tells how it ended."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aosctl.domain.loop_events import Outcome
from aosctl.domain.output_schema import OutputSchema, Unfit
from aosctl.repl.deciding import short_id, waiting
from aosctl.repl.screen import RED
from aosctl.repl.turns import Turns

DONE, FAILED_TO_START, WAITING, FAILED, LIMITED, INTERRUPTED = 0, 1, 3, 4, 5, 130
_STATUS = {"completed": DONE, "waiting": WAITING, "paused": WAITING, "limited": LIMITED}


@dataclass(frozen=True, slots=True)
class Ended:
    """How a one-shot ended: its exit status, the answer, and the approvals it waits for."""

    status: int
    state: str
    text: str
    error: str | None = None
    approvals: tuple[str, ...] = ()
    value: tuple[Any, ...] = ()

    @property
    def result(self) -> Any:
        """Return what a program reads: the JSON where a schema was demanded, else the text."""
        return self.value[0] if self.value else self.text


def run_once(turns: Turns, act: Callable[[], Outcome | None]) -> Ended:
    """Drive `act`, one of `turns`, to its end and say on stderr what the answer does not."""
    try:
        outcome = act()
    except KeyboardInterrupt:
        run = turns.conversation.run
        if not turns.screen.gone:
            turns.screen.warn(f"interrupted · run {run} kept" if run else "interrupted")
        return Ended(INTERRUPTED, "interrupted", "", "interrupted")
    if outcome is None:
        return Ended(DONE, "completed", turns.conversation.last_answer())
    status = _STATUS.get(outcome.state, FAILED)
    error = outcome.error
    approvals: tuple[str, ...] = ()
    if outcome.state == "waiting":
        approvals = tuple(short_id(approval) for approval in waiting(turns.conversation))
        _tell_waiting(turns, approvals)
    elif status != DONE:
        error = error or f"the run is {outcome.state}"
        turns.screen.warn(f"error: {error}", RED)
        if outcome.hint:
            turns.screen.warn(f"hint: {outcome.hint}")
    return Ended(status, outcome.state, outcome.text, error, approvals)


def hold_to(schema: OutputSchema, ended: Ended, turns: Turns) -> Ended:
    """Return how it ended where the answer has to be JSON of a schema: with that, or failed."""
    if ended.status != DONE:
        return ended
    try:
        value = schema.parse(ended.text)
    except Unfit as why:
        error = f"the answer does not satisfy the JSON Schema: {why}"
        turns.screen.warn(f"error: {error}", RED)
        return replace(ended, status=FAILED, state="failed", error=error)
    text = json.dumps(value, ensure_ascii=False)
    return replace(ended, text=text, value=(value,))


def _tell_waiting(turns: Turns, approvals: tuple[str, ...]) -> None:
    run = turns.conversation.run
    for approval in approvals:
        turns.screen.warn(
            f"run {run} waits for approval {approval}; try: aosctl approve {approval}"
        )
    if not approvals:
        turns.screen.warn(f"run {run} waits for a person; try: aosctl ps")
    turns.screen.warn(f"then: aosctl chat --resume {run}")
