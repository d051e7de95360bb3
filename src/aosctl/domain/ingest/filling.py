"""Give every passage of a collection its embedding: those that have one are not asked for again.

Each request's vectors are stored in one commit as soon as they are there; whatever ends this in
the middle, the next time asks for the rest. Before it is made, a request counts against the
tenant's budgets; what it really took is settled with its vectors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from uuid import UUID

from aosctl.db.knowledge import Chunk, KnowledgeClient
from aosctl.domain.sizes import BYTES_PER_TOKEN, MESSAGE_TOKENS
from aosctl.errors import AosError, LimitReached, ProviderError
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
    charge: UUID
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
        """Embed what lacks an embedding; `report` hears of each request.

        `filled` says how far it came, whatever is raised. Raises ProviderError; LimitReached where
        a budget pays for no more, after what it has paid for is stored.
        """
        pool = ThreadPoolExecutor(self._concurrency, "aosctl embedder")
        under_way: deque[_Asked] = deque()
        try:
            for chunks in self._requests():
                texts = [one.content for one in chunks]
                try:
                    charge = self._charge(texts)
                except LimitReached:
                    # What is under way takes less than was estimated, most likely.
                    self._store_all(under_way, report)
                    charge = self._charge(texts)
                line = Line()
                answer = pool.submit(self._embed, texts, line)
                under_way.append(_Asked(chunks, charge, line, answer))
                if len(under_way) > self._concurrency:
                    self._store_first(under_way, report)
            self._store_all(under_way, report)
        finally:
            self._end(pool, under_way)
        return self.filled

    def _charge(self, texts: Sequence[str]) -> UUID:
        return self._knowledge.charge(self._model.name, _most_tokens(texts))

    def _store_all(self, under_way: deque[_Asked], report: Callable[[Filled], None]) -> None:
        while under_way:
            self._store_first(under_way, report)

    def _store_first(self, under_way: deque[_Asked], report: Callable[[Filled], None]) -> None:
        wait([under_way[0].answer])  # among them until it is there: Ctrl-C breaks it off as well
        self._store(under_way.popleft())
        report(self.filled)

    def _end(self, pool: ThreadPoolExecutor, under_way: deque[_Asked]) -> None:
        """Break off what is under way after a fault, and keep what has come by then."""
        for asked in under_way:
            if not asked.answer.done():
                asked.line.hang_up()
        pool.shutdown(wait=True, cancel_futures=True)
        for asked in under_way:
            with suppress(AosError):
                if asked.answer.cancelled():
                    self._settle(asked, [], 0)
                else:
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
        try:
            made, whose = asked.answer.result()
        except ProviderError:
            self._settle(asked, [], 0)
            raise
        rows = [
            (asked.chunks[at].chunk_id, vector)
            for at, vector in zip(whose, made.vectors, strict=True)
        ]
        stored = self._settle(asked, rows, made.tokens)
        self.filled = Filled(
            self.filled.passages + stored,
            self.filled.tokens + made.tokens,
            self.filled.too_long + len(asked.chunks) - len(whose),
        )

    def _settle(
        self, asked: _Asked, rows: Sequence[tuple[UUID, Sequence[float]]], tokens: int
    ) -> int:
        return self._knowledge.put_embeddings(self._model.name, rows, asked.charge, tokens)


def _most_tokens(texts: Sequence[str]) -> int:
    """Estimate a request, on the safe side."""
    return sum(len(text.encode()) // BYTES_PER_TOKEN + MESSAGE_TOKENS for text in texts)
