"""A model that makes one call and then repeats its result: how a skill is tried by hand."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from aosctl.messages import Call, Message, Result, Stop, Text
from aosctl.providers.base import (
    CallStarted,
    EventStream,
    Finished,
    Line,
    ModelRequest,
    TextDelta,
    new_call_id,
)


class OneCallProvider:
    """Asks for `skill` with `args` when it is first asked, and answers with what came back."""

    name = "one_call"

    def __init__(self, skill: str, args: Mapping[str, Any]) -> None:
        self._skill = skill
        self._args = dict(args)
        self.ok: bool | None = None
        """Whether the skill did what it was asked for; None while nobody knows."""

    def stream(self, request: ModelRequest, line: Line | None = None) -> EventStream:
        """Yield the call, or its result as the answer."""
        last = request.messages[-1].blocks[-1] if request.messages[-1].blocks else None
        if isinstance(last, Result):
            self.ok = last.ok
            text = "".join(part.text for part in last.parts if isinstance(part, Text))
            yield TextDelta(text)
            yield Finished(Message("assistant", (Text(text),), stop=Stop("end", "end")))
            return
        raw = json.dumps(self._args, ensure_ascii=False)
        call = Call(new_call_id(), self._skill, raw, self._args)
        yield CallStarted(self._skill)
        yield Finished(Message("assistant", (call,), stop=Stop("tool", "tool")))
