"""What the loop tells of a turn: each event while it drives one, and the outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from aosctl.db.leases import PendingCall
from aosctl.messages import Media, Message
from aosctl.providers.base import TextDelta as TextDelta
from aosctl.providers.base import ThinkDelta as ThinkDelta


@dataclass(frozen=True, slots=True)
class CallBegun:
    """A tool begins to act."""

    call: PendingCall


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A tool has answered, and its result is stored."""

    call: PendingCall
    ok: bool
    result: Any
    seconds: float


@dataclass(frozen=True, slots=True)
class ApprovalAsked:
    """A person has to decide on this call."""

    call: PendingCall


@dataclass(frozen=True, slots=True)
class CallRefused:
    """The gate refused the call; the model reads the reason."""

    call: PendingCall


@dataclass(frozen=True, slots=True)
class Retrying:
    """The model's service failed in a way that may pass."""

    reason: str
    in_seconds: float


@dataclass(frozen=True, slots=True)
class FellBack:
    """Another model answers the rest of the turn; `reason` is how the one before it failed."""

    reason: str
    model: str


@dataclass(frozen=True, slots=True)
class MadeRoom:
    """The model reads so many of the older messages no more; why: estimate or overflow.

    `summarised`: a summary stands in their place; else they were dropped.
    """

    messages: int
    why: str
    summarised: bool


@dataclass(frozen=True, slots=True)
class PictureMade:
    """A picture stands in an answer that was stored."""

    picture: Media


@dataclass(frozen=True, slots=True)
class Steered:
    """The model reads with its next question what a person has sent into the turn."""

    message: Message


@dataclass(frozen=True, slots=True)
class Delegated:
    """A run of another agent works on a call from now on."""

    call: PendingCall
    run: str
    agent: str


@dataclass(frozen=True, slots=True)
class Helping:
    """What a run that works for ours does at this moment, in words."""

    doing: str


LoopEvent: TypeAlias = (
    TextDelta
    | ThinkDelta
    | CallBegun
    | CallEnded
    | ApprovalAsked
    | CallRefused
    | Retrying
    | FellBack
    | MadeRoom
    | PictureMade
    | Steered
    | Delegated
    | Helping
)
Observer: TypeAlias = Callable[[LoopEvent], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How driving ended.

    state: completed | waiting (for a person, or for a run that works for it) | limited | paused |
    failed | cancelled | queued (another process has, or had, the turn that is open; or it waits
    for a rate, or for what other runs hold of a budget). `text` is the last thing the model said.
    """

    state: str
    turn: int
    text: str = ""
    error: str | None = None
    hint: str | None = None
