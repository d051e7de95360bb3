"""How every SDK is used: one connection a call, our time-outs, our retries, one taxonomy of faults.

Retries: only until the answer begins, at most `max_retries`, and only after faults that pass by
themselves. They are ours and not the SDK's, because an SDK also repeats time-outs, each paid for
and waited for, and sleeps for minutes unseen when told to. A service that asks for more than
`PATIENCE_SECONDS` is reported with its `retry_after`.
Times: `timeout_seconds` is the longest silence, before the first byte and between two pieces.
"""

from __future__ import annotations

import json
import random
import socket
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from aosctl.errors import AosError, ProviderError
from aosctl.once import once
from aosctl.providers.base import Line, ModelSpec, StreamEvent
from aosctl.providers.faults import fault_in_stream, name_exception, name_fault, named

if TYPE_CHECKING:
    import ssl

    import httpcore2
    import httpx2

PATIENCE_SECONDS = 10.0
_CONNECT_SECONDS = 10.0
_Sent = TypeVar("_Sent")


class Response(Protocol):
    """What is common to the responses of httpx and httpx2."""

    @property
    def url(self) -> object: ...
    @property
    def headers(self) -> Any: ...
    def read(self) -> bytes: ...


class SdkStream(Protocol):
    """What is common to the streams of the SDKs."""

    @property
    def response(self) -> Any: ...
    def __iter__(self) -> Iterator[Any]: ...
    def close(self) -> None: ...


class _Finishing(Protocol):
    spec: ModelSpec

    @property
    def finished(self) -> bool: ...


class _Answer(_Finishing, Protocol):
    def add(self, event: Mapping[str, object], /) -> Iterator[StreamEvent]: ...
    def end(self) -> Iterator[StreamEvent]: ...


def timeout_of(spec: ModelSpec) -> httpx2.Timeout:
    """Return the times of one call, as the SDKs over httpx2 take them."""
    import httpx2

    silence = spec.timeout_seconds
    return httpx2.Timeout(silence, connect=min(silence, _CONNECT_SECONDS))


def http_options(spec: ModelSpec, line: Line | None) -> dict[str, Any]:
    """Return the options of an HTTP client whose socket `line` may shut from another thread."""
    silence = spec.timeout_seconds
    times = (min(silence, _CONNECT_SECONDS), silence, silence, silence)
    hooks = {"request": [partial(_report_socket, line)]} if line else {}
    return {"verify": _tls(), "timeout": times, "event_hooks": hooks}


def retried(spec: ModelSpec, key: str, max_retries: int, send: Callable[[], _Sent]) -> _Sent:
    """Send a request, again if the service asks for it or the connection failed."""
    for attempt in range(max_retries + 1):
        try:
            return send()
        except Exception as err:
            error = err if isinstance(err, ProviderError) else name_exception(spec, err, key)
            wait = _wait_seconds(error, attempt)
            if wait is None or attempt == max_retries:
                raise
            time.sleep(wait)
    raise AssertionError("the last attempt returns or raises")


def accepted(
    spec: ModelSpec,
    key: str,
    max_retries: int,
    requests: Iterable[Mapping[str, Any]],
    send: Callable[[Mapping[str, Any]], _Sent],
    may_help: Callable[[Exception], bool],
) -> _Sent:
    """Send the first of several requests; where one is refused, the next, which says less.

    `may_help` tells whether saying less may help after a refusal, which else ends it. A request
    that is like the one before is left out.
    """
    before: Mapping[str, Any] | None = None
    refused: Exception | None = None
    for request in requests:
        if request == before:
            continue
        before = request
        try:
            return retried(spec, key, max_retries, partial(send, request))
        except Exception as err:
            if not may_help(err):
                raise
            refused = err
    raise refused or AssertionError("the first request is always sent")


@contextmanager
def faults_named(spec: ModelSpec, key: str) -> Iterator[None]:
    """Turn whatever the SDK and the HTTP library raise into a ProviderError."""
    try:
        yield
    except AosError:
        raise
    except Exception as err:
        error = name_exception(spec, err, key)
        if error is None:
            raise
        raise error from err


@contextmanager
def whole_once_finished(answer: _Finishing) -> Iterator[None]:
    """Let the connection fail after the finish reason: only the token count is lost."""
    try:
        yield
    except Exception as err:
        lost = name_exception(answer.spec, err, None)
        if not answer.finished or lost is None or lost.kind not in ("network", "timeout"):
            raise


def fed(answer: _Answer, events: SdkStream, key: str) -> Iterator[StreamEvent]:
    """Feed an answer with the events of its stream, up to the last, and yield what is news."""
    try:
        check_it_streams(answer.spec, events.response, key)
        for event in events:
            yield from answer.add(as_dict(event))
            if answer.finished:
                break
    finally:
        hang_up(events)
    yield from answer.end()


def as_dict(event: object) -> dict[str, object]:
    """Read an event as it came; services send fields and types that the SDK's models lack."""
    read = getattr(event, "to_dict", None)
    return read(warnings=False) if read is not None else {}


def hang_up(stream: SdkStream) -> None:
    """Close the connection, and the SDK's generator with it.

    Left to the garbage collector, that one asks for the exceptions of httpx, which another thread
    may be importing: then it fails, and says so on stderr.
    """
    stream.close()
    with suppress(Exception):
        cast("Generator[object, None, None]", getattr(stream, "_iterator", None)).close()


def check_it_streams(spec: ModelSpec, response: Response, key: str) -> None:
    """Refuse a success that is no event stream: a web page, or one JSON value."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("text/html", "application/json"):
        return
    body = response.read()
    error = None
    if kind == "application/json":
        value = json.loads(body)
        error = value.get("error") if isinstance(value, dict) else None
    if error:
        raise name_fault(spec, fault_in_stream(error), key)
    what = "a web page" if kind == "text/html" else "JSON in one piece"
    raise named(spec, "bad_request", f"{response.url} sent {what}, not a stream of answers")


def _wait_seconds(error: ProviderError | None, attempt: int) -> float | None:
    """Say how long to wait before another attempt; None if there should be none."""
    if error is None or not error.retryable or error.kind in ("timeout", "truncated"):
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= PATIENCE_SECONDS else None
    return 0.5 * 2.0**attempt * random.uniform(0.75, 1)  # noqa: S311 (spreads load, no secret)


def _report_socket(line: Line, request: httpx2.Request) -> None:
    """Let `line` shut the request's socket, as soon as there is one, from another thread."""

    def trace(event: str, info: dict[str, object]) -> None:
        if event in ("connection.connect_tcp.complete", "connection.start_tls.complete"):
            stream = cast("httpcore2.NetworkStream", info["return_value"])
            line.opened(partial(_shut, stream.get_extra_info("socket")))

    request.extensions["trace"] = trace


def _shut(connected: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        connected.shutdown(socket.SHUT_RDWR)


@once
def _tls() -> ssl.SSLContext:
    """Load the certificates; it takes 50 ms."""
    import httpx2

    return httpx2.create_ssl_context()
