"""Search by meaning: embeddings, their indexes, fused ranks, and a worker's part in it."""

from __future__ import annotations

import itertools
import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from hashlib import md5
from typing import Any

import psycopg
import pytest

from kernels import META, Asked, KernelDatabase, Tenant, apply, call, make_tenant, refused

MODEL = "embedder"
TEXTS = {
    "joins": "Hash joins build a table of the smaller side.",
    "vacuum": "Autovacuum reclaims what dead rows leave behind.",
    "cats": "Felines purr and hunt at night.",
}
MEANS = {"joins": [1.0, 0.0, 0.0], "vacuum": [0.0, 1.0, 0.0], "cats": [0.0, 0.0, 1.0]}


@pytest.fixture(scope="module", autouse=True)
def models(vectors: KernelDatabase) -> None:
    for name, price in ((MODEL, 2.0), ("other", 0.0)):
        call(vectors.superuser, "aos_meta.apply_model", name, META, {
            "provider": "openai", "capabilities": {"embeddings": True}, "params": {"dimensions": 3},
            "pricing": {"inputUsdPerMtok": price},
        })  # fmt: skip


@pytest.fixture
def library(vectors: KernelDatabase) -> Iterator[Tenant]:
    """A tenant with three embedded documents in `notes`, which its agent `reader` searches."""
    tenant = make_tenant(vectors)
    fill(tenant)
    yield tenant
    tenant.person.close()
    tenant.worker.close()


def collection(tenant: Tenant, name: str = "notes", **spec: Any) -> str:
    return apply(
        tenant.database.superuser, "aos_rag.apply_collection", tenant.id, name,
        {"embedding": {"model": MODEL}, **spec},
    )  # fmt: skip


def fill(tenant: Tenant, **more: Any) -> None:
    collection(tenant)
    for title, text in TEXTS.items():
        call(tenant.person, "aos_rag.put_document", tenant.id, "notes", {
            "source": f"{title}.md", "title": title, "content": text, **more,
        })  # fmt: skip
    embed(tenant, MEANS)
    call(tenant.database.superuser, "aos_skills.apply_skill", tenant.id, "rag_search", META, {
        "builtin": "rag_search", "roles": ["agent"],
    })  # fmt: skip
    apply(tenant.database.superuser, "aos_agent.apply_agent", tenant.id, "reader", {
        "persona": "expert", "skills": ["rag_search"], "collections": ["notes"],
    })  # fmt: skip


def embed(tenant: Tenant, means: dict[str, list[float]], model: str = MODEL) -> int:
    rows = tenant.person.execute(
        "select chunk_id, content from aos_rag.chunks_to_embed(%s, 'notes', null, 1000)",
        (tenant.id,),
    ).fetchall()
    given = [
        {"chunk": str(chunk), "embedding": means[content.splitlines()[0]]}
        for chunk, content in rows
        if content.splitlines()[0] in means
    ]
    stored = call(tenant.person, "aos_rag.put_embeddings", tenant.id, "notes", model, given)
    return int(stored)


def search(
    tenant: Tenant, question: str, vector: list[float] | None = None, limit: int = 5,
    names: str = "{notes}",
) -> list[tuple[str, str]]:  # fmt: skip
    """Return title and way of each passage."""
    return tenant.person.execute(
        "select title, search from aos_rag.search(%s, %s, %s, %s, %s)",
        (tenant.id, names, question, limit, json.dumps({MODEL: vector}) if vector else None),
    ).fetchall()


def indexes(database: KernelDatabase) -> set[str]:
    return {
        row[0]
        for row in database.rows(
            "select c.relname::text from pg_index i join pg_class c on c.oid = i.indexrelid"
            " where i.indrelid = 'aos_rag.embedding'::regclass and c.relname like 'hnsw%%'"
        )
    }


def index_of(tenant: Tenant) -> str:
    found = tenant.database.value(
        "select collection_id from aos_rag.collection where tenant_id = %s", tenant.id
    )
    return f"hnsw_{found.hex}"


def test_what_shares_no_word_with_the_question_is_found_by_its_meaning(library: Tenant) -> None:
    assert search(library, "kittens") == []
    assert search(library, "kittens", MEANS["cats"], 1) == [("cats", "hybrid")]
    # Both agree on one, each has another: the one that both find comes first.
    fused = search(library, "hash joins or felines", [0.9, 0.1, 0.2], 2)
    assert [title for title, _ in fused] == ["joins", "cats"]
    assert search(library, "hash joins", [1.0, 2.0], 1) == [
        ("joins", "full-text")
    ]  # no such length


def test_another_model_takes_the_embeddings_of_the_one_before(library: Tenant) -> None:
    assert call(library.person, "aos_rag.chunks_to_embed", library.id, "notes") is None
    collection(library, embedding={"model": "other"})
    assert search(library, "kittens", MEANS["cats"]) == []
    with refused("AO005", 'not of "embedder"'):
        embed(library, MEANS)
    assert embed(library, MEANS, "other") == 3
    collection(library, embedding={"model": "other", "dimensions": 2})
    with refused("AO006", "3 of 3 are others"):
        embed(library, MEANS, "other")


WRONG = [[1, 2], [0, 0, 0], [1, 2, None], [1, 2, "NaN"], [1, 2, "Infinity"], [1, 2, 1e300],
         [[1], [2], [3]], [1, 2, "3}"], "1,2,3", None, {}]  # fmt: skip


@pytest.mark.parametrize("given", WRONG, ids=map(str, WRONG))
def test_embeddings_that_are_none_are_refused_and_stop_no_search(
    library: Tenant, given: Any
) -> None:
    collection(library, embedding={"model": "other"})
    chunk = library.person.execute(
        "select chunk_id from aos_rag.chunks_to_embed(%s, 'notes', null, 1)", (library.id,)
    ).fetchone()
    assert chunk is not None
    rows = [{"chunk": str(chunk[0]), "embedding": given}]
    with refused("AO006", "finite numbers"):
        call(library.person, "aos_rag.put_embeddings", library.id, "notes", "other", rows)
    rows = library.person.execute(
        "select title from aos_rag.search(%s, '{notes}', 'hash joins', 5, %s)",
        (library.id, json.dumps({"other": given})),
    ).fetchall()
    assert rows == [("joins",)]


@contextmanager
def index_from(database: KernelDatabase, least: int) -> Iterator[None]:
    """Have collections indexed from fewer embeddings on."""
    body = "create or replace function aos_rag.least_indexed() returns integer language sql" \
           " immutable as 'select {}'"  # fmt: skip
    database.superuser.execute(body.format(least).encode())
    yield
    database.superuser.execute(body.format(2000).encode())


def clustered(count: int, dimensions: int, seed: int) -> list[list[float]]:
    """Make up vectors around a few centres."""
    dice = random.Random(seed)  # noqa: S311 - for tests
    centres = [[dice.gauss(0, 1) for _ in range(dimensions)] for _ in range(12)]
    return [[round(c + dice.gauss(0, 0.4), 4) for c in dice.choice(centres)] for _ in range(count)]


def test_a_large_collections_index_holds_its_own_rows_alone_and_finds_what_is_nearest(
    vectors: KernelDatabase, library: Tenant
) -> None:
    """Two tenants with the same vectors, so that each row of one would be a hit of the other."""
    twin = make_tenant(vectors)
    numbers = clustered(400, 12, 5)
    for tenant in (library, twin):
        collection(tenant, embedding={"model": MODEL, "dimensions": 12})
        for at in range(len(numbers)):
            call(tenant.person, "aos_rag.put_document", tenant.id, "notes", {
                "source": f"{at}", "title": f"{at}", "content": f"{tenant.name}",
            })  # fmt: skip
        embed(tenant, {str(at): vector for at, vector in enumerate(numbers)})
    with index_from(vectors, 300):
        made = "aos_rag.index_collection"
        assert call(library.person, made, library.id, "notes")["index"] == "made"
        assert call(library.person, made, library.id, "notes")["index"] == "kept"
    vectors.superuser.execute("analyze aos_rag.embedding")
    assert indexes(vectors) == {index_of(library)}
    exact = hits = 0
    for asked in clustered(40, 12, 6):
        found = {title for title, _ in search(library, "", asked, 10)}
        nearest = sorted(range(len(numbers)), key=lambda at: -cosine(asked, numbers[at]))[:10]
        hits += len(found & {str(at) for at in nearest})
        exact += 10
        twins = twin.person.execute(
            "select title, content from aos_rag.search(%s, '{notes}', '', 10, %s)",
            (twin.id, json.dumps({MODEL: asked})),
        ).fetchall()  # no index yet: exact
        assert {title for title, _ in twins} == {str(at) for at in nearest}
        assert {content for _, content in twins} == {twin.name}
    assert hits / exact >= 0.95
    before = scans(vectors, library)
    library.person.execute("select pg_stat_force_next_flush()")
    search(library, "", numbers[0], 10)
    assert scans(vectors, library) > before
    call(twin.person, "aos_rag.delete_collection", twin.id, "notes")
    apply(vectors.superuser, "aos_agent.apply_agent", library.id, "reader", {"persona": "expert"})
    call(library.person, "aos_rag.delete_collection", library.id, "notes")
    assert indexes(vectors) == set()


def cosine(one: list[float], other: list[float]) -> float:
    return (
        sum(a * b for a, b in zip(one, other, strict=True)) / math.hypot(*one) / math.hypot(*other)
    )


def scans(database: KernelDatabase, tenant: Tenant) -> int:
    """Return how often the index of a tenant's collection was read."""
    query = "select idx_scan from pg_stat_user_indexes where indexrelname = %s"
    return int(database.value(query, index_of(tenant)))


@pytest.mark.parametrize("dimensions", [2000, 2001, 4000])
def test_long_embeddings_are_indexed_in_half_precision(library: Tenant, dimensions: int) -> None:
    collection(library, embedding={"model": MODEL, "dimensions": dimensions})
    dice = random.Random(dimensions)  # noqa: S311 - for tests
    means = {title: [round(dice.gauss(0, 1), 3) for _ in range(dimensions)] for title in TEXTS}
    assert embed(library, means) == 3
    assert search(library, "", means["cats"], 1) == [("cats", "hybrid")]
    with index_from(library.database, 3):
        said = call(library.person, "aos_rag.index_collection", library.id, "notes")
    assert said["index"] == "made"
    assert search(library, "", means["vacuum"], 1) == [("vacuum", "hybrid")]
    # Another length makes another index, or none where there are few.
    collection(library, embedding={"model": MODEL})
    assert embed(library, MEANS) == 3
    assert search(library, "", MEANS["joins"], 1) == [("joins", "hybrid")]
    assert call(library.person, "aos_rag.index_collection", library.id, "notes")["index"] == "none"
    assert index_of(library) not in indexes(library.database)


def test_indexes_are_made_and_dropped_for_all_tenants_at_once(library: Tenant) -> None:
    database = library.database
    with index_from(database, 3):
        with refused("42501"):
            call(library.person, "aos_rag.index_collections")
        assert call(database.superuser, "aos_rag.index_collections") >= 1
        assert index_of(library) in indexes(database)
        assert call(database.superuser, "aos_rag.index_collections") == 0
    gone = f"hnsw_{'0' * 32}"
    database.superuser.execute(
        f"create index {gone} on aos_rag.embedding using hnsw ((embedding::vector(3))"
        " vector_cosine_ops) where collection_id = '00000000-0000-0000-0000-000000000000'"
        " and dimensions = 3".encode()
    )
    call(database.superuser, "aos_rag.index_collections")
    assert gone not in indexes(database)
    name, index = library.name, index_of(library)
    with index_from(database, 3):
        call(library.person, "aos_rag.index_collection", library.id, "notes")
    assert index in indexes(database)
    call(database.superuser, "aos_auth.erase_tenant", name, name)
    assert index not in indexes(database)


def asked(tenant: Tenant, query: str) -> Asked:
    return tenant.asked("rag_search", {"query": query}, "reader")


def execute(
    tenant: Tenant, one: Asked, vectors: dict[str, Any] | None, tokens: dict[str, Any] | None
) -> dict[str, Any]:
    said: dict[str, Any] = call(
        tenant.worker, "aos_agent.execute_search", tenant.id, one.call, one.lease["lease"],
        vectors, tokens,
    )  # fmt: skip
    return said


def test_a_worker_learns_the_models_and_gives_the_vectors_with_the_call(library: Tenant) -> None:
    one = asked(library, "kittens")
    context = call(library.worker, "aos_agent.turn_context", library.id, one.lease["turn_id"],
                   one.lease["lease"])  # fmt: skip
    assert context["embeds"] is True
    said = call(library.worker, "aos_agent.search_models", library.id, one.call, one.lease["lease"])
    assert said["question"] == "kittens"
    assert [(m["name"], m["dimensions"]) for m in said["models"]] == [(MODEL, 3)]
    result = execute(library, one, {MODEL: [MEANS["cats"]]}, {MODEL: 5})["result"]
    hit = result["hits"][0]
    assert (hit["cite"], hit["source"], hit["chars"], hit["line"]) == (1, "cats.md", "0-31", 1)
    assert "note" not in result
    with refused("AO003"):
        call(library.worker, "aos_agent.search_models", library.id, one.call, one.call)


def test_embedding_a_question_is_charged_once_and_stands_in_the_ledger(library: Tenant) -> None:
    one = asked(library, "kittens")
    before = library.run_row(one.run)
    first = execute(library, one, {MODEL: [MEANS["cats"]]}, {MODEL: 500_000})
    again = execute(library, one, {MODEL: [MEANS["cats"]]}, {MODEL: 500_000})
    assert again["result"] == first["result"]
    after = library.run_row(one.run)
    assert float(after["spent_usd"] - before["spent_usd"]) == 1.0
    assert after["input_tokens"] - before["input_tokens"] == 500_000
    ledger = "select sum(cost_usd), sum(input_tokens) from aos_core.ledger where run_id = %s"
    assert library.database.rows(ledger, one.run) == [(after["spent_usd"], after["input_tokens"])]
    with refused("AO006"):
        execute(library, asked(library, "x"), {}, {MODEL: -1})


def test_a_search_without_vectors_says_that_it_went_by_words(library: Tenant) -> None:
    plain = asked(library, "hash joins")
    result = library.execute(plain.call, plain.lease)["result"]
    assert [hit["title"] for hit in result["hits"]] == ["joins"]
    assert result["note"] == (
        "searched by full text alone: the worker made no embedding of the question"
    )
    failed = asked(library, "hash joins")
    result = execute(library, failed, {"error": "the endpoint answers 500"}, {})["result"]
    assert result["note"] == "searched by full text alone: the endpoint answers 500"
    assert [hit["title"] for hit in result["hits"]] == ["joins"]


def test_a_document_of_strangers_taints_when_it_is_found_by_its_meaning(library: Tenant) -> None:
    call(library.person, "aos_rag.put_document", library.id, "notes", {
        "source": "cats.md", "title": "cats", "content": TEXTS["cats"], "trust": "untrusted",
    })  # fmt: skip
    clean = asked(library, "hash joins")
    execute(library, clean, {MODEL: [[1.0, 0.0, 0.0]]}, {})
    found = library.run_row(clean.run)["taint"]
    assert found is not None  # all three are among the five nearest
    narrow = library.asked("rag_search", {"query": "hash joins", "limit": 1}, "reader")
    execute(library, narrow, {MODEL: [[1.0, 0.0, 0.0]]}, {})
    assert library.run_row(narrow.run)["taint"] is None
    hit = library.asked("rag_search", {"query": "kittens", "limit": 1}, "reader")
    result = execute(library, hit, {MODEL: [MEANS["cats"]]}, {})["result"]
    assert result["hits"][0]["untrusted"] is True
    assert library.run_row(hit.run)["taint"].startswith("rag_search")


def test_an_untrusted_document_may_not_come_to_an_agent_that_sends(library: Tenant) -> None:
    admin = library.database.superuser
    for skill, more in (("http_request", {"approval": "never", "config": {"hosts": ["x.example"]}}),
                        ("sql_query", {}), ("rag_search", {})):  # fmt: skip
        call(admin, "aos_skills.apply_skill", library.id, skill, META, {
            "builtin": skill, "roles": ["postman"], **more,
        })  # fmt: skip
    apply(admin, "aos_agent.apply_agent", library.id, "sender", {
        "persona": "expert", "role": "postman", "collections": ["notes"],
        "skills": ["rag_search", "sql_query", "http_request"],
    })  # fmt: skip
    with refused("AO006", r'untrusted content \("rag_search"'):
        call(library.person, "aos_rag.put_document", library.id, "notes", {
            "source": "x", "title": "x", "content": "x", "trust": "untrusted",
        })  # fmt: skip


def test_another_tenants_chunks_are_reached_by_no_name_id_vector_or_setting(
    vectors: KernelDatabase, library: Tenant
) -> None:
    made = make_tenant(vectors)
    fill(made, content="Mine.")
    apply(vectors.superuser, "aos_auth.apply_principal", made.id, "thief", {
        "type": "user", "dbRole": vectors.person("test_thief", "aos_developer"),
        "roles": ["developer"],
    })  # fmt: skip
    thief = replace(made, person=vectors.connect("test_thief", made.id))
    collection(thief, "theirs")
    ids = [str(row[0]) for row in vectors.rows(
        "select chunk_id from aos_rag.chunk where tenant_id = %s", library.id
    )]  # fmt: skip
    before = vectors.rows(
        "select * from aos_rag.embedding where tenant_id = %s order by chunk_id", library.id
    )
    rows = [{"chunk": one, "embedding": [9, 9, 9]} for one in ids]
    assert call(thief.person, "aos_rag.put_embeddings", thief.id, "notes", MODEL, rows) == 0
    thief.person.execute(
        "select set_config('aos.kernel_tenant', %s, false), set_config('aos.query_vectors', %s,"
        " false)", (str(library.id), json.dumps({MODEL: MEANS["cats"]})),
    )  # fmt: skip
    for question in ("felines", "hash joins", ""):
        found = thief.person.execute(
            "select content from aos_rag.search(%s, '{notes,theirs}', %s, 20, %s)",
            (thief.id, question, json.dumps({MODEL: MEANS["cats"]})),
        ).fetchall()
        assert {row[0] for row in found} <= {"Mine."}
    for function, args in (
        ("aos_rag.search", ("{notes}", "felines")),
        ("aos_rag.known_documents", ("notes",)),
        ("aos_rag.chunks_to_embed", ("notes",)),
        ("aos_rag.remove_documents", ("notes", "{cats.md}")),
    ):
        with refused("AO001", "not found"):
            marks = ", ".join(["%s"] * (len(args) + 1))
            thief.person.execute(f"select {function}({marks})".encode(), (library.id, *args))
    for internal in (
        "aos_rag.passages(%(t)s, '{notes}', 'felines', 5, null)",
        "aos_rag.matching_chunks(%(t)s, %(t)s, 'felines', '{}', 5)",
        "aos_rag.nearest_chunks(%(t)s, %(t)s, '{1,2,3}', 5)",
        "aos_rag.make_index(%(t)s, 3, 1)",
    ):
        for connection in (thief.person, thief.worker):
            with refused("42501"):
                connection.execute(f"select {internal}".encode(), {"t": library.id})
    assert before == vectors.rows(
        "select * from aos_rag.embedding where tenant_id = %s order by chunk_id", library.id
    )


def test_words_under_the_same_prefix_are_found_in_their_own_collection_alone(
    vectors: KernelDatabase, library: Tenant
) -> None:
    """The index knows five digits of a collection: two that share them are kept apart besides."""
    notes = vectors.value(
        "select collection_id from aos_rag.collection where tenant_id = %s", library.id
    )
    same = (
        text
        for text in (f"00000000-0000-7000-8000-{number:012x}" for number in itertools.count())
        if md5(text.encode()).hexdigest()[:5] == md5(str(notes).encode()).hexdigest()[:5]  # noqa: S324
    )
    other = make_tenant(vectors)
    for tenant in (library, other):
        vectors.superuser.execute(
            "insert into aos_rag.collection (tenant_id, collection_id, name)"
            " values (%s, %s, 'twin')",
            (tenant.id, next(same)),
        )
        call(tenant.person, "aos_rag.put_document", tenant.id, "twin", {
            "source": "k.md", "title": "Kittens", "content": "Kittens sleep.",
        })  # fmt: skip
        assert search(tenant, "kittens", names="{twin}") == [("Kittens", "full-text")]
    assert search(library, "kittens") == []
    other.person.close()
    other.worker.close()


def test_a_question_of_words_reads_the_chunks_that_have_them_and_no_others(library: Tenant) -> None:
    """Nor an index of the whole collection, where the planner takes that for a small one."""
    collection(library, "large", chunking={"characters": 200, "overlap": 0})
    for number in range(30):
        text = "\n\n".join(f"# Part {part}\n\n{'filler ' * 25}" for part in range(100))
        call(library.person, "aos_rag.put_document", library.id, "large", {
            "source": f"{number}.md", "title": f"Book {number}", "media_type": "text/markdown",
            "content": f"{text}\n\n# End\n\nIts colophon names the printer.",
        })  # fmt: skip
    superuser = library.database.superuser
    read = (
        "select pg_stat_get_xact_tuples_returned('aos_rag.chunk'::regclass)"
        " + sum(pg_stat_get_xact_tuples_returned(indexrelid)) from pg_index"
        " where indrelid = 'aos_rag.chunk'::regclass"
    )
    with superuser.transaction(force_rollback=True):
        superuser.execute("alter table aos_rag.chunk alter collection_id set (n_distinct = -0.5)")
        superuser.execute("analyze aos_rag.chunk")
        superuser.execute("set local plan_cache_mode = force_generic_plan")
        before = library.database.value(read)
        rows = library.database.rows(
            "select * from aos_rag.search(%s, '{large}', 'colophon')", library.id
        )
        assert len(rows) == 5
        assert library.database.value(read) - before < 200


def test_who_reads_may_search_and_write_nothing(vectors: KernelDatabase, library: Tenant) -> None:
    vectors.person("test_viewer", "aos_viewer")
    apply(vectors.superuser, "aos_auth.apply_principal", library.id, "vera", {
        "type": "user", "dbRole": "test_viewer", "roles": ["viewer"],
    })  # fmt: skip
    with vectors.connect("test_viewer", library.id) as viewer:
        query = "select title from aos_rag.search(%s, '{notes}', 'felines')"
        assert viewer.execute(query, (library.id,)).fetchall() == [("cats",)]
        for statement in (
            "select aos_rag.put_document(%s, 'notes', '{\"source\": \"x\"}')",
            "select aos_rag.remove_documents(%s, 'notes', '{cats.md}')",
            "select aos_rag.put_embeddings(%s, 'notes', 'embedder', '[]')",
            "select aos_rag.index_collection(%s, 'notes')",
            "select * from aos_rag.chunk where tenant_id = %s",
            "select * from aos_rag.document where tenant_id = %s",
            "select * from aos_rag.embedding where tenant_id = %s",
        ):
            with pytest.raises(psycopg.Error) as caught:
                viewer.execute(statement.encode(), (library.id,))
            assert caught.value.sqlstate == "42501", statement
    for table in ("chunk", "document", "embedding", "collection_words"):
        with refused("42501"):
            library.person.execute(f"truncate aos_rag.{table}".encode())
