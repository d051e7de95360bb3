"""Give every passage of a collection its embedding: those that have one are not asked for again.

Each request's vectors are stored in one commit as soon as they are there; whatever ends this in
the middle, the next time asks for the rest.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from aosctl.db.knowledge import Chunk, KnowledgeClient
from aosctl.errors import AosError, ProviderError
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.embedding import Embedded, Embedder, batches

CONCURRENCY = 4
_PAGE = 1_000
"""How many passages are read at once."""


@dataclass(frozen=True, slots=True)
class Filled:
    """How many passages got an embedding, the tokens that counted, and how many were too long."""

    passages: int = 0
    tokens: int = 0
    too_long: int = 0


@dataclass(frozen=True, slots=True)
class _Asked:
    """One request that is under way."""

    chunks: Sequence[Chunk]
    line: Line
    answer: Future[tuple[Embedded, list[int]]]


class Filling:
    """Asks a model, `concurrency` requests at once."""

    def __init__(
        self,
        knowledge: KnowledgeClient,
        embedder: Embedder,
        model: ModelSpec,
        dimensions: int | None,
        concurrency: int = CONCURRENCY,
    ) -> None:
        self._knowledge = knowledge
        self._embedder = embedder
        self._model = model
        self._dimensions = dimensions
        self._concurrency = concurrency
        self.filled = Filled()

    def run(self, report: Callable[[Filled], None]) -> Filled:
        """Embed what lacks an embedding; `report` hears of each request. Raises ProviderError.

        `filled` says how far it came, whatever is raised.
        """
        pool = ThreadPoolExecutor(self._concurrency, "aosctl embedder")
        under_way: deque[_Asked] = deque()
        try:
            for chunks in self._requests():
                line = Line()
                answer = pool.submit(self._embed, [one.content for one in chunks], line)
                under_way.append(_Asked(chunks, line, answer))
                if len(under_way) > self._concurrency:
                    self._store(under_way.popleft())
                    report(self.filled)
            while under_way:
                self._store(under_way.popleft())
                report(self.filled)
        finally:
            self._end(pool, under_way)
        return self.filled

    def _end(self, pool: ThreadPoolExecutor, under_way: deque[_Asked]) -> None:
        """Break off what is under way after a fault, and keep what has come by then."""
        for asked in under_way:
            if not asked.answer.done():
                asked.line.hang_up()
        pool.shutdown(wait=True, cancel_futures=True)
        for asked in under_way:
            if not asked.answer.cancelled():
                with suppress(AosError):
                    self._store(asked)

    def _requests(self) -> Iterator[Sequence[Chunk]]:
        after: UUID | None = None
        while chunks := self._knowledge.to_embed(after, _PAGE):
            after = chunks[-1].chunk_id
            begun = 0
            for part in batches([one.content for one in chunks], self._embedder.limits):
                yield chunks[begun : begun + len(part)]
                begun += len(part)

    def _embed(self, texts: list[str], line: Line) -> tuple[Embedded, list[int]]:
        """Embed texts; return the vectors, and whose: those too long for the model are left out."""
        try:
            made = self._embedder.embed(
                self._model, texts, query=False, dimensions=self._dimensions, line=line
            )
        except ProviderError as error:
            if error.kind != "context_too_long":
                raise
            return self._halves(texts, line)
        return made, list(range(len(texts)))

    def _halves(self, texts: list[str], line: Line) -> tuple[Embedded, list[int]]:
        if len(texts) == 1:
            return Embedded((), 0), []
        half = len(texts) // 2
        first, whose_first = self._embed(texts[:half], line)
        second, whose_second = self._embed(texts[half:], line)
        made = Embedded(first.vectors + second.vectors, first.tokens + second.tokens)
        return made, whose_first + [half + at for at in whose_second]

    def _store(self, asked: _Asked) -> None:
        made, whose = asked.answer.result()
        rows = [
            (asked.chunks[at].chunk_id, vector)
            for at, vector in zip(whose, made.vectors, strict=True)
        ]
        stored = self._knowledge.put_embeddings(self._model.name, rows) if rows else 0
        self.filled = Filled(
            self.filled.passages + stored,
            self.filled.tokens + made.tokens,
            self.filled.too_long + len(asked.chunks) - len(whose),
        )
