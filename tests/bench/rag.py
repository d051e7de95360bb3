"""What a search over 100,000 chunks costs, and how much of the exact answer it finds.

    python tests/bench/rag.py [--chunks N] [--queries N] [--dimensions N] [--neighbours N]

One tenant has the chunks; others, with few and with some thousand, have theirs in the same tables.
All are written and searched through the kernel's functions, by a login that row-level security
binds, on a durable server of default settings.

The vectors are made up, but no uniform noise, in which all are equally far: 500 topics of 20
subjects each, whose spread falls off over the dimensions as in embeddings of texts (about 26 of
384 carry it). A question is a point near a chunk. The texts have 20,000 words by Zipf's law, 200 a
chunk, and each topic words of its own that it uses often; a question has two to six words, common
ones among them.

Recall is the part of the 10 best of an exact search that the search has in its own 10: for vectors
all distances are computed; for hybrid search exact ranks of both, every match ranked, are fused in
the same way. All of a kind are compared first and timed after it: an exact search reads every row,
and would leave the caches to the next. Quote times from an idle machine.
"""

from __future__ import annotations

import argparse
import bisect
import itertools
import json
import random
import statistics
import sys
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[2] / "src")]

import psycopg

from aosctl.db.install import install
from kernels import META, KernelDatabase, Tenant, apply, call, make_tenant
from postgres import Cluster

TOPICS, SUBJECTS, WORDS, OWN_WORDS = 500, 20, 20_000, 40
CHUNKS_A_DOCUMENT, WORDS_A_CHUNK, BEST = 20, 200, 10
WARM_UP = 20
MODEL = "bench-embedder"


class World:
    """Topics with their vectors and words, from which chunks and questions are drawn."""

    def __init__(self, dimensions: int, seed: int = 7) -> None:
        self.random = random.Random(seed)  # noqa: S311 - the same figures each time
        gauss = self.random.gauss
        self.dimensions = dimensions
        self.noise = array("f", (gauss(0, 1) for _ in range(200_000)))
        self.scales = [(1 + place) ** -0.5 for place in range(dimensions)]
        self.topics = [self._spread(1.0) for _ in range(TOPICS)]
        self.subjects = [
            [self._add(topic, self._spread(0.6)) for _ in range(SUBJECTS)] for topic in self.topics
        ]
        syllables = [a + b for a in "bdfgklmnprstvz" for b in "aeiou"]
        words = ["".join(parts) for parts in itertools.product(syllables, repeat=3)]
        self.words = self.random.sample(words, WORDS)
        self.bounds = list(itertools.accumulate(1 / (rank + 2.7) for rank in range(WORDS)))
        self.own = [self.random.sample(range(200, WORDS), OWN_WORDS) for _ in range(TOPICS)]

    def _spread(self, scale: float) -> list[float]:
        at = self.random.randrange(len(self.noise) - self.dimensions)
        return [scale * s * n for s, n in zip(self.scales, self.noise[at:], strict=False)]

    @staticmethod
    def _add(one: list[float], other: list[float]) -> list[float]:
        return [a + b for a, b in zip(one, other, strict=True)]

    def vector(self, topic: int) -> list[float]:
        """Return the embedding of a chunk of a topic."""
        subject = self.random.choice(self.subjects[topic])
        return [round(x, 5) for x in self._add(subject, self._spread(0.35))]

    def near(self, vector: list[float]) -> list[float]:
        """Return the embedding of a question that a chunk answers."""
        return [round(x, 5) for x in self._add(vector, self._spread(0.25))]

    def word(self) -> str:
        at = bisect.bisect(self.bounds, self.random.random() * self.bounds[-1])
        return self.words[min(at, WORDS - 1)]

    def text(self, topic: int) -> str:
        """Return a paragraph: mostly everybody's words, some of the topic's own."""
        own = self.own[topic]
        return " ".join(
            self.words[self.random.choice(own)] if self.random.random() < 0.15 else self.word()
            for _ in range(WORDS_A_CHUNK)
        )

    def question(self, topic: int) -> str:
        own = [
            self.words[at] for at in self.random.sample(self.own[topic], self.random.randint(1, 3))
        ]
        return " ".join([*own, *(self.word() for _ in range(self.random.randint(1, 3)))])


@dataclass(frozen=True)
class Library:
    """A tenant's collection, and how its questions are made."""

    tenant: Tenant
    name: str
    world: World
    samples: list[tuple[int, list[float]]]

    def questions(self, count: int) -> Iterator[tuple[str, list[float]]]:
        for _ in range(count):
            topic, vector = self.world.random.choice(self.samples)
            yield self.world.question(topic), self.world.near(vector)


def fill(database: KernelDatabase, world: World, name: str, chunks: int) -> Library:
    """Write a tenant's documents and embeddings through the kernel's functions."""
    tenant = make_tenant(database, name)
    person, samples = tenant.person, []
    apply(database.superuser, "aos_rag.apply_collection", tenant.id, "library", {
        "embedding": {"model": MODEL, "dimensions": world.dimensions},
        "chunking": {"characters": 2400, "overlap": 0},
    })  # fmt: skip
    topic_of: dict[str, int] = {}
    began = time.perf_counter()
    for number in range(0, chunks, CHUNKS_A_DOCUMENT):
        parts = []
        for place in range(min(CHUNKS_A_DOCUMENT, chunks - number)):
            topic = world.random.randrange(TOPICS)
            topic_of[f"{number + place}"] = topic
            parts.append(f"# {number + place}\n\n{world.text(topic)} " + "\n")
        # Long enough that each section is a chunk of its own.
        call(person, "aos_rag.put_document", tenant.id, "library", {
            "source": f"{number}.md", "title": f"Document {number}", "media_type": "text/markdown",
            "content": "".join(parts),
        })  # fmt: skip
    wrote, after = time.perf_counter() - began, None
    began = time.perf_counter()
    while rows := person.execute(
        "select chunk_id, substring(content from '> ([0-9]+)') from aos_rag.chunks_to_embed(%s,"
        " 'library', %s, 1000)", (tenant.id, after),
    ).fetchall():  # fmt: skip
        given = []
        for chunk, number in rows:
            vector = world.vector(topic_of[number])
            if len(samples) < 5000:
                samples.append((topic_of[number], vector))
            given.append({"chunk": str(chunk), "embedding": vector})
        call(person, "aos_rag.put_embeddings", tenant.id, "library", MODEL, given)
        after = rows[-1][0]
    embedded = time.perf_counter() - began
    began = time.perf_counter()
    said = call(person, "aos_rag.index_collection", tenant.id, "library")
    if chunks >= 5000:
        indexed = time.perf_counter() - began
        print(
            f"{name}: {said['chunks']:,} chunks written in {wrote:.0f} s, embeddings made up and"
            f" stored in {embedded:.0f} s, index {said['index']} in {indexed:.0f} s"
        )
    return Library(tenant, "library", world, samples)


SEARCH = "select * from aos_rag.search(%s, '{library}', %s, %s, %s)"
CHUNKS = (
    "select array_agg(k.chunk_id) from aos_rag.chunk k"
    " join unnest(%s::uuid[], %s::int[], %s::int[]) p (d, a, z)"
    " on k.document_id = p.d and k.start_char >= p.a and k.end_char <= p.z"
)
EXACT_VECTOR = """
select e.chunk_id from aos_rag.embedding e
where e.tenant_id = %(tenant)s
order by e.embedding::vector(DIM) <=> %(vector)s::real[]::vector(DIM), 1
limit %(limit)s
"""
QUESTION = """
select array[string_agg(q.term::text, ' | ') filter (where q.share <= 0.005),
    string_agg(q.term::text, ' & '), string_agg(q.term::text, ' | ')],
  array_agg(q.term::text), array_agg(q.weight)
from aos_rag.collection c left join aos_rag.collection_words w using (tenant_id, collection_id)
cross join lateral aos_rag.question_terms(c.collection_id, %s, coalesce(w.shares, '{}')) q
where c.tenant_id = %s
"""
EXACT_TEXT = """
select k.chunk_id from aos_rag.chunk k
where k.tenant_id = %(tenant)s and k.tsv @@ %(query)s::tsquery
order by ts_rank_cd(k.tsv, %(any)s::tsquery, 1) + (
  select sum(w) from unnest(%(terms)s::tsquery[], %(weights)s::real[]) u (t, w)
  where k.tsv @@ u.t) desc, 1
limit 60
"""


class Bench:
    """Searches as a person would, and exact answers to compare with."""

    def __init__(self, database: KernelDatabase, dimensions: int) -> None:
        self.database = database
        self.exact = EXACT_VECTOR.replace("DIM", str(dimensions))

    def exact_vector(self, library: Library, vector: list[float], limit: int) -> list[UUID]:
        superuser = self.database.superuser
        with superuser.transaction():
            superuser.execute("set local enable_indexscan = off")
            rows = superuser.execute(
                self.exact, {"tenant": library.tenant.id, "vector": vector, "limit": limit}
            ).fetchall()
        return [row[0] for row in rows]

    def exact_hybrid(self, library: Library, query: str, vector: list[float]) -> list[UUID]:
        superuser, tenant = self.database.superuser, library.tenant.id
        said: Any = superuser.execute(QUESTION, (query, tenant)).fetchone()
        texts: list[Any] = []
        for asked in said[0] if said[1] else ():
            if asked and not texts:
                texts = superuser.execute(EXACT_TEXT, {
                    "tenant": tenant, "query": asked, "any": said[0][2], "terms": said[1],
                    "weights": said[2],
                }).fetchall()  # fmt: skip
        scores: dict[UUID, float] = {}
        for ranked in ([row[0] for row in texts], self.exact_vector(library, vector, 60)):
            for place, chunk in enumerate(ranked, 1):
                scores[chunk] = scores.get(chunk, 0) + 1 / (60 + place)
        return sorted(scores, key=lambda chunk: (-scores[chunk], chunk))[:BEST]

    def search(
        self, library: Library, query: str, vector: list[float] | None
    ) -> tuple[set[UUID], float]:
        """Search as a person of the tenant; return the chunks found, and how long it took."""
        vectors = json.dumps({MODEL: vector}) if vector else None
        given = (library.tenant.id, query, BEST, vectors)
        began = time.perf_counter()
        rows = library.tenant.person.execute(SEARCH, given).fetchall()
        took = time.perf_counter() - began
        found = self.database.superuser.execute(
            CHUNKS, ([r[1] for r in rows], [r[7] for r in rows], [r[8] for r in rows])
        ).fetchone()
        return set(found[0] or ()) if found else set(), took

    def run(self, what: str, library: Library, queries: int) -> None:
        """Print medians and recall of vectors alone, of hybrid search and of words alone."""
        for how in ("vectors", "hybrid", "words"):
            asked = [
                ("" if how == "vectors" else query, None if how == "words" else vector)
                for query, vector in library.questions(queries)
            ]
            recalls = [self.recall(library, *question) for question in asked if question[1]]
            for question in asked[:WARM_UP]:
                self.search(library, *question)
            times = [self.search(library, *question)[1] * 1000 for question in asked]
            print(
                f"{what:<28} {how:<8} p50 {statistics.median(times):6.1f} ms"
                f"  p95 {statistics.quantiles(times, n=20)[18]:6.1f} ms"
                + (f"  recall@{BEST} {statistics.mean(recalls):.3f}" if recalls else "")
            )

    def recall(self, library: Library, query: str, vector: list[float] | None) -> float:
        assert vector
        if query:
            expected = set(self.exact_hybrid(library, query, vector))
        else:
            expected = set(self.exact_vector(library, vector, BEST))
        return len(self.search(library, query, vector)[0] & expected) / max(len(expected), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--chunks", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=200)
    parser.add_argument("--dimensions", type=int, default=384)
    parser.add_argument("--neighbours", type=int, default=40, help="other tenants")
    parser.add_argument("--pg", type=int, default=18, choices=(16, 18))
    asked = parser.parse_args()
    with Cluster(asked.pg, source="wheel", durable=True) as cluster:
        with psycopg.connect(cluster.dsn(), autocommit=True) as superuser:
            superuser.execute("create database bench owner aos_installer")
        with psycopg.connect(cluster.dsn("aos_installer", "bench"), autocommit=True) as owner:
            install(owner)
        database = KernelDatabase(cluster, "bench")
        database.superuser.execute("create extension vector")
        call(database.superuser, "aos_meta.apply_model", MODEL, META, {
            "provider": "openai", "model": MODEL, "capabilities": {"embeddings": True},
        })  # fmt: skip
        world = World(asked.dimensions)
        bench = Bench(database, asked.dimensions)
        small = [fill(database, world, f"small-{n}", 200) for n in range(asked.neighbours)]
        middle = fill(database, world, "middle", 5000)
        few = fill(database, world, "few", 1900)
        big = fill(database, world, "big", asked.chunks)
        for table in ("chunk", "embedding", "document"):
            database.superuser.execute(f"vacuum analyze aos_rag.{table}".encode())
        sizes: Any = database.rows(
            "select relname, pg_size_pretty(pg_total_relation_size(oid)) from pg_class"
            " where relname in ('chunk', 'embedding', 'chunk_tsv') or relname like 'hnsw%%'"
            " order by 1"
        )
        print("sizes: " + ", ".join(f"{name} {size}" for name, size in sizes))
        bench.run(f"{asked.chunks:,} chunks", big, asked.queries)
        bench.run("5,000 beside them", middle, asked.queries)
        bench.run("1,900, without an index", few, asked.queries)
        bench.run("200, one of many", small[0], asked.queries)
        database.close()


if __name__ == "__main__":
    main()
