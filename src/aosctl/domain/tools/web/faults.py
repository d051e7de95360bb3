"""What can go wrong with a request, in words for the model."""

from __future__ import annotations


class RequestFailed(Exception):
    """A request without a whole answer; its text says why.

    `sent` tells that the other side may have acted on it.
    """

    def __init__(self, message: str, *, sent: bool = False) -> None:
        super().__init__(message)
        self.sent = sent


class TimeIsUp(RequestFailed):
    """The deadline of the call has passed."""


class Stopped(RequestFailed):
    """Nobody wants the answer any more."""
