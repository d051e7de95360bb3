"""Ask a model so that whoever waits for the answer can leave at any moment.

A provider blocks while the service is silent. It therefore works in a thread of its own; the
asking thread looks up several times a second, and when it leaves, the connection is cut.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from queue import Empty, SimpleQueue
from threading import Thread
from typing import NamedTuple, TypeAlias, TypeVar

from aosctl.domain.loop_events import ModelAnswered, ModelAsked, ModelFailed, Observer
from aosctl.errors import ProviderError
from aosctl.messages import Message
from aosctl.providers.base import (
    Finished,
    Line,
    ModelRequest,
    Provider,
    Retry,
    StreamEvent,
    TextDelta,
    ThinkDelta,
)

TIMEOUT_ATTEMPTS = 2  # each is waited for, and often paid for
LOOK_SECONDS = 0.1
LOOKS_A_SECOND = 1000
"""Of all who wait for an answer in this process: where hundreds do, each looks up less often."""

T = TypeVar("T")
Check: TypeAlias = Callable[[], None]
"""Raises when there is no use in waiting any longer."""
Pause: TypeAlias = Callable[[float, Check], None]
_waiting: set[int] = set()
"""Those who wait for an answer now, each by the id of its line."""


class _Ended(NamedTuple):
    """The end of what is heard, and what went wrong if that was no good one."""

    error: BaseException | None


def answer(provider: Provider, request: ModelRequest, observe: Observer, check: Check) -> Message:
    """Ask, show the answer as it comes and return it whole. Raises ProviderError, as `check`."""
    began = time.monotonic()
    first: float | None = None
    observe(ModelAsked(request))
    try:
        with closing(listen(provider, request, check)) as events:
            for event in events:
                if isinstance(event, Finished):
                    took = time.monotonic() - began
                    observe(ModelAnswered(request.model, event.message, took, first))
                    return event.message
                first = first or time.monotonic() - began
                if isinstance(event, TextDelta | ThinkDelta):
                    observe(event)
        raise ProviderError(
            f"{provider.name}: the stream ended without an answer", kind="truncated", retryable=True
        )
    except BaseException as error:
        kind = error.kind if isinstance(error, ProviderError) else type(error).__name__
        observe(ModelFailed(request.model, kind, time.monotonic() - began))
        raise


def listen(
    provider: Provider, request: ModelRequest, check: Check
) -> Generator[StreamEvent, None, None]:
    """Yield the events of an answer; leave, with what `check` raises, even while none comes."""
    return heard_from(lambda line: provider.stream(request, line), check)


def heard_from(
    ask: Callable[[Line], Generator[T, None, None]], check: Check
) -> Generator[T, None, None]:
    """Yield what `ask` does, in a thread of its own, until `check` raises: then its line is cut."""
    line = Line()
    heard: SimpleQueue[T | _Ended] = SimpleQueue()
    _waiting.add(id(line))
    try:
        Thread(target=_hear, args=(ask, line, heard), name="model", daemon=True).start()
        while True:
            check()
            try:
                event = heard.get(timeout=max(LOOK_SECONDS, len(_waiting) / LOOKS_A_SECOND))
            except Empty:
                continue
            if isinstance(event, _Ended):
                if event.error is not None:
                    raise event.error
                return
            yield event
    finally:
        _waiting.discard(id(line))
        line.hang_up()


def _hear(
    ask: Callable[[Line], Generator[T, None, None]], line: Line, heard: SimpleQueue[T | _Ended]
) -> None:
    try:
        with closing(ask(line)) as events:
            for event in events:
                if line.closed:
                    return
                heard.put(event)
    except BaseException as error:  # it is raised where the answer is waited for
        heard.put(_Ended(error))
    else:
        heard.put(_Ended(None))


def pause_before_retry(
    error: ProviderError, attempts: int, retry: Retry, chance: Callable[[], float]
) -> float | None:
    """Say how many seconds to wait before asking again, as Retry.wait_seconds does."""
    if error.kind == "timeout" and attempts >= TIMEOUT_ATTEMPTS:
        return None
    return retry.wait_seconds(error, attempts, chance)


def pause(seconds: float, check: Check) -> None:
    """Wait; leave early with what `check` raises."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        check()
        time.sleep(min(left, LOOK_SECONDS))
