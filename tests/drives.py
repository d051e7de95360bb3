"""A process that drives a turn and stands still at a chosen point, to be killed there.

Run through multiprocessing's fork server, which has imported all of this once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection as Pipe
from typing import Any, NoReturn
from uuid import UUID

import openai.types.chat  # noqa: F401 - so that each process need not

from aosctl.config import Target
from aosctl.db.connection import open_session
from aosctl.db.person import PersonClient
from aosctl.db.worker import WorkerClient
from aosctl.domain.children import Children
from aosctl.domain.conversation import Conversation
from aosctl.domain.heart import Heart
from aosctl.domain.loop import Loop
from aosctl.domain.loop_events import LoopEvent, TextDelta
from aosctl.domain.tools.base import Call, ToolResult
from aosctl.providers.base import ModelSpec, Provider
from aosctl.providers.registry import provider_for


@dataclass(frozen=True)
class Drive:
    """What to drive, and the point at which to stand still; "" for none."""

    dsn: str
    worker_dsn: str
    tenant: str
    run: UUID
    message: str
    halt_at: str
    lease_seconds: int


def drive(order: Drive, told: Pipe) -> None:
    """Send the message and drive its turn; tell the point that was reached."""

    def reached(point: str) -> None:
        if point == order.halt_at:
            told.send(point)
            stand_still()

    session = open_session(
        Target("dsn", order.dsn, order.worker_dsn, order.tenant, ("test",)), "drive"
    )
    person = PersonClient(session, session.require_tenant(), "drive")
    worker = Halting(order, reached)
    tools = {"web_search": Searching(reached)}
    loop = Loop(worker, models(reached), tools, Heart(worker.heart_link, order.lease_seconds / 3))
    status = person.run_status(order.run)
    conversation = Conversation(person, worker, loop, status, Children(worker, lambda: loop))

    def observe(event: LoopEvent) -> None:
        if isinstance(event, TextDelta):
            reached("while the model speaks")

    told.send(conversation.send(order.message, observe, threading.Event()).state)


def stand_still() -> NoReturn:
    threading.Event().wait()
    raise AssertionError("nobody sets this event")


def models(reached: Callable[[str], None]) -> Callable[[ModelSpec], Provider]:
    def find(spec: ModelSpec) -> Provider:
        reached("before the model is asked")
        return provider_for(spec)

    return find


class Searching:
    name = "web_search"

    def __init__(self, reached: Callable[[str], None]) -> None:
        self._reached = reached

    def run(self, args: Mapping[str, Any], call: Call) -> ToolResult:
        self._reached("while a tool acts")
        return ToolResult(True, {"found": "it"})


class Halting(WorkerClient):
    """A worker's client that may stand still around each of its writes."""

    def __init__(self, order: Drive, reached: Callable[[str], None]) -> None:
        super().__init__(order.worker_dsn, "drive:1", "drive", lease_seconds=order.lease_seconds)
        self._reached = reached
        self._answers = 0

    def record_response(self, *args: Any, **named: Any) -> Any:
        self._answers += 1
        self._reached(f"before answer {self._answers} is stored")
        moved = super().record_response(*args, **named)
        self._reached(f"after answer {self._answers} is stored")
        return moved

    def execute_call(self, *args: Any, **named: Any) -> Any:
        moved = super().execute_call(*args, **named)
        self._reached("after a statement has run")
        return moved

    def record_result(self, *args: Any, **named: Any) -> Any:
        moved = super().record_result(*args, **named)
        self._reached("after a tool's result is stored")
        return moved
