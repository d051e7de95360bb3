"""What all embedders have in common: texts in, one vector of length 1 for each out.

A model's `params` go to the service under its own names, save for those that say what a model
wants of its texts: `query_prefix` and `document_prefix` are put before them, `query_params` and
`document_params` are parameters of the one or the other kind of request (`{"input_type": "query"}`
of Voyage and NVIDIA). `dimensions` is how long a vector shall be, and is sent where the capability
`dimensions` says that the model can be asked for it.
"""

from __future__ import annotations

import math
import random
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeVar

from aosctl.errors import ProviderError
from aosctl.messages import Json
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.connection import faults_named
from aosctl.providers.faults import named
from aosctl.providers.wire_values import mapping, string

CAPABILITY = "embeddings"
"""What a Model is whose capability this is: one that embeds, and does not chat."""
_OWN_PARAMS = frozenset(
    {"query_prefix", "document_prefix", "query_params", "document_params", "dimensions"}
)
_TICK_SECONDS = 0.05
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Embedded:
    """The vectors of some texts, in their order, each of length 1, and the tokens they counted."""

    vectors: tuple[tuple[float, ...], ...]
    tokens: int


@dataclass(frozen=True, slots=True)
class Limits:
    """What one request may hold; a text that is longer than `characters` goes alone."""

    texts: int
    characters: int


class Embedder(Protocol):
    """A way to reach embedding models; one object for all threads."""

    name: str
    limits: Limits

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        query: bool,
        dimensions: int | None = None,
        line: Line | None = None,
    ) -> Embedded:
        """Embed texts, in as many requests as `limits` asks for; a `query`, or what it shall find.

        A fault that passes by itself is tried again as `model.retry` says. With `dimensions`,
        vectors of another length are refused. Hanging up `line` from another thread breaks off
        what is under way. Raises ProviderError: never fewer vectors than texts.
        """
        ...


def batches(texts: Sequence[str], limits: Limits) -> Iterator[Sequence[str]]:
    """Cut texts into what goes into one request each."""
    begun = size = 0
    for at, text in enumerate(texts):
        size += len(text)
        if at > begun and (at - begun == limits.texts or size > limits.characters):
            yield texts[begun:at]
            begun, size = at, len(text)
    if begun < len(texts):
        yield texts[begun:]


def _prepared(model: ModelSpec, texts: Sequence[str], *, query: bool) -> list[str]:
    """Return the texts as the model wants them; none is empty, which services refuse."""
    prefix = string(model.params.get("query_prefix" if query else "document_prefix"))
    return [prefix + (text if text.strip() else "-") for text in texts]


def request_params(model: ModelSpec, dimensions: int | None, *, query: bool) -> dict[str, Json]:
    """Return the parameters of a request, beside the model and the texts."""
    can = model.capabilities
    kept = {
        name: value
        for name, value in model.params.items()
        if name not in _OWN_PARAMS and can.get(name) is not False
    }
    wanted = dimensions or model.params.get("dimensions")
    if wanted is not None and can.get("dimensions"):
        kept["dimensions"] = wanted
    side = mapping(model.params.get("query_params" if query else "document_params"))
    return {**kept, **side}  # type: ignore[dict-item]  # a mapping out of JSON


def in_requests(
    model: ModelSpec,
    texts: Sequence[str],
    limits: Limits,
    dimensions: int | None,
    send: Callable[[Sequence[str]], tuple[Sequence[object], int]],
    *,
    query: bool,
    key: str = "",
    line: Line | None = None,
) -> Embedded:
    """Embed texts as the model wants them, request by request.

    `send` returns one vector a text, and the tokens.
    """
    vectors: list[tuple[float, ...]] = []
    tokens = 0

    def once(part: Sequence[str]) -> tuple[list[tuple[float, ...]], int]:
        with _said_of_texts(model), faults_named(model, key):
            raw, counted = send(part)
        return unit_vectors(model, raw, len(part), dimensions), counted

    for part in batches(_prepared(model, texts, query=query), limits):
        made, counted = asked_again(model, line, partial(once, part))
        vectors += made
        tokens += counted
    _alike(model, vectors)
    return Embedded(tuple(vectors), tokens)


def unit_vectors(
    model: ModelSpec, raw: Sequence[object], count: int, dimensions: int | None
) -> list[tuple[float, ...]]:
    """Check what a service sent as vectors, and bring each to length 1. Raises ProviderError."""
    if len(raw) != count:
        raise named(model, "truncated", f"{count} texts were sent, {len(raw)} vectors came back")
    return [_unit(model, vector, dimensions) for vector in raw]


def asked_again(model: ModelSpec, line: Line | None, ask: Callable[[], _T]) -> _T:
    """Ask, and again after a fault that may pass by itself, as long as `model.retry` allows."""
    for attempt in range(1, model.retry.attempts + 1):
        try:
            return ask()
        except ProviderError as error:
            wait = model.retry.wait_seconds(error, attempt, _jitter)
            if wait is None or (line and line.closed):
                raise
            _pause(model, wait, line)
    raise AssertionError("the last attempt returns or raises")


@contextmanager
def _said_of_texts(model: ModelSpec) -> Iterator[None]:
    """Give the advice that fits a text and not a conversation."""
    try:
        yield
    except ProviderError as error:
        if error.kind != "context_too_long":
            raise
        said = "a text is longer than the model takes"
        raise ProviderError(
            f'model "{model.name}": {said}',
            hint="make spec.chunking.characters of the Collection smaller, and apply it",
            kind=error.kind,
            status=error.status,
        ) from error


def _unit(model: ModelSpec, raw: object, dimensions: int | None) -> tuple[float, ...]:
    if not isinstance(raw, list | array) or not len(raw):
        raise named(model, "truncated", "a vector is missing")
    if not all(isinstance(x, int | float) and not isinstance(x, bool) for x in raw):
        raise named(model, "truncated", "a vector holds what is no number")
    if dimensions is not None and len(raw) != dimensions:
        raise named(
            model,
            "bad_request",
            f"its vectors have {len(raw)} dimensions, {dimensions} are expected",
            hint="set spec.embedding.dimensions of the Collection to what the model gives",
        )
    length = math.sqrt(math.fsum(x * x for x in raw))
    if not math.isfinite(length) or length == 0:
        raise named(model, "truncated", "a vector holds NaN or infinity, or is zero")
    return tuple(x / length for x in raw)


def _alike(model: ModelSpec, vectors: Sequence[tuple[float, ...]]) -> None:
    lengths = sorted(set(map(len, vectors)))
    if len(lengths) > 1:
        raise named(
            model, "truncated", f"its vectors have {lengths[0]} and {lengths[1]} dimensions"
        )


def _jitter() -> float:
    return random.uniform(0.5, 1)  # noqa: S311 (spreads load, no secret)


def _pause(model: ModelSpec, seconds: float, line: Line | None) -> None:
    """Wait, until `line` is hung up at the longest."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        if line is not None and line.closed:
            raise named(model, "network", "it was broken off")
        time.sleep(min(left, _TICK_SECONDS) if line else left)
