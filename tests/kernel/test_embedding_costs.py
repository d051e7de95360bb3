"""What embedding a collection's passages costs: charged before, settled after, passed by nobody."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from kernels import META, KernelDatabase, Tenant, apply, call, make_tenant, refused

MODEL = "embedder"
VECTOR = [1.0, 0.0, 0.0]


@pytest.fixture
def library(vectors: KernelDatabase) -> Iterator[Tenant]:
    """A tenant with a collection of one passage; a million tokens of its model cost two dollars."""
    tenant = make_tenant(vectors)
    model(tenant, pricing={"inputUsdPerMtok": 2})
    spec = {"embedding": {"model": MODEL}}
    apply(vectors.superuser, "aos_rag.apply_collection", tenant.id, "notes", spec)
    call(tenant.person, "aos_rag.put_document", tenant.id, "notes", {
        "source": "a.md", "title": "a", "content": "Hash joins.", "sha256": "0" * 64,
    })  # fmt: skip
    yield tenant
    tenant.person.close()
    tenant.worker.close()


def model(tenant: Tenant, **more: Any) -> None:
    call(tenant.database.superuser, "aos_meta.apply_model", MODEL, META, {
        "provider": "openai", "capabilities": {"embeddings": True}, "params": {"dimensions": 3},
        **more,
    })  # fmt: skip


def budget(tenant: Tenant, name: str = "team", scope: str = "tenant", **limits: Any) -> None:
    agent = {"agent": "bot"} if scope == "agent" else {}
    apply(tenant.database.superuser, "aos_core.apply_budget", tenant.id, name, {
        "scope": scope, "period": "day", "limits": limits, **agent,
    })  # fmt: skip


def charge(tenant: Tenant, tokens: int, **keywords: Any) -> UUID:
    made: UUID = call(
        tenant.person, "aos_rag.charge_embeddings", tenant.id, "notes", MODEL, tokens, **keywords
    )
    return made


def settle(tenant: Tenant, charged: UUID, tokens: int) -> int:
    """Store what the model made of the passages, and what it counted."""
    rows = tenant.person.execute(
        "select chunk_id from aos_rag.chunks_to_embed(%s, 'notes')", (tenant.id,)
    )
    given = [{"chunk": str(chunk), "embedding": VECTOR} for (chunk,) in rows.fetchall()]
    stored = call(tenant.person, "aos_rag.put_embeddings", tenant.id, "notes", MODEL, given,
                  charged, tokens)  # fmt: skip
    return int(stored)


def spent(tenant: Tenant, name: str = "team") -> tuple[Decimal, int] | None:
    row = tenant.person.execute(
        "select spent_usd, spent_tokens from aos_core.budget_status where budget = %s", (name,)
    ).fetchone()
    return row and (row[0], row[1])


def told(tenant: Tenant) -> list[dict[str, Any]]:
    rows = tenant.database.rows(
        "select actor, data from aos_core.event_log where stream_id = %s"
        " and kind = 'collection.embedded' order by seq",
        tenant.id,
    )
    assert {actor for actor, _ in rows} <= {"user:dev"}
    return [data for _, data in rows]


def test_a_request_counts_before_it_is_made_and_as_it_was_after(library: Tenant) -> None:
    budget(library, maxUsd=1, maxTokens=1_000_000)
    budget(library, "agents", "agent", maxUsd=1)
    charged = charge(library, 300_000)
    assert spent(library) == (Decimal("0.6"), 300_000) and told(library) == []
    assert settle(library, charged, 100_000) == 1
    assert spent(library) == (Decimal("0.2"), 100_000)
    assert spent(library, "agents") in (None, (0, 0))
    assert told(library) == [
        {"name": "notes", "model": MODEL, "passages": 1, "tokens": 100_000, "cost_usd": 0.2}
    ]
    assert library.faults(library.id) == []
    for again in (charged, uuid4()):  # what is settled gives nothing back a second time
        with refused("AO001", "not found"):
            settle(library, again, 0)
    with refused("AO006"):
        charge(library, -1)
    with refused("AO006"):
        settle(library, charge(library, 1), -5)
    with refused("AO005", "not of"):
        call(library.person, "aos_rag.charge_embeddings", library.id, "notes", "gpt-4o", 1)


def test_without_an_answer_nothing_was_spent_and_nothing_is_told(library: Tenant) -> None:
    budget(library, maxUsd=1)
    charged = charge(library, 500_000)
    call(library.person, "aos_rag.put_embeddings", library.id, "notes", MODEL, [], charged, 0)
    assert spent(library) == (0, 0) and told(library) == []


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"maxUsd": 1}, r'budget "team": \$0.8000 spent of \$1 today \(UTC\), and the next passages'
                        r" take \$0.4000"),
        ({"maxTokens": 500_000}, r'budget "team": 400000 tokens used of 500000 today \(UTC\)'),
    ],
)  # fmt: skip
def test_a_budget_refuses_what_would_pass_it_and_a_higher_one_takes_it(
    library: Tenant, limits: dict[str, int], words: str
) -> None:
    budget(library, "wide", maxUsd=100)
    budget(library, **limits)
    settle(library, charge(library, 400_000), 400_000)
    before = spent(library, "wide")
    with refused("AO007", words):
        charge(library, 200_000)
    assert spent(library, "wide") == before  # counted in all of them, or in none
    charge(library, 100_000)
    budget(library, **{name: 10 * value for name, value in limits.items()})
    charge(library, 200_000)


def test_a_budget_is_never_passed_by_many_at_once(library: Tenant) -> None:
    budget(library, maxTokens=1_000)
    people = [library.database.connect("test_developer") for _ in range(4)]

    def ask(person: Any) -> int:
        admitted = 0
        for _ in range(10):
            try:
                call(person, "aos_rag.charge_embeddings", library.id, "notes", MODEL, 70)
                admitted += 1
            except Exception as error:
                assert getattr(error, "sqlstate", "") == "AO007"
        return admitted

    with ThreadPoolExecutor(len(people)) as pool:
        admitted = sum(pool.map(ask, people))
    for person in people:
        person.close()
    assert admitted == 14 and spent(library) == (Decimal("0.00196"), 980)


def test_what_runs_have_reserved_is_not_there_for_passages(library: Tenant) -> None:
    call(library.database.superuser, "aos_meta.apply_model", "paid", META, {
        "provider": "script", "maxOutputTokens": 1000,
        "pricing": {"inputUsdPerMtok": 2, "outputUsdPerMtok": 15},
    })  # fmt: skip
    apply(library.database.superuser, "aos_persona.apply_persona", library.id, "expert", {
        "systemPrompt": "x", "model": "paid",
    })  # fmt: skip
    budget(library, maxUsd=0.02)
    run = library.start_run()
    assert library.open(run, p_worker="w1")["next"] == "model"
    with refused("AO007", "reserved by runs"):
        charge(library, 9_000)
    # Its worker is gone; what it has reserved comes back.
    library.database.superuser.execute(
        "update aos_core.run set lease_expires_at = now() - interval '1 minute' where run_id = %s",
        (run,),
    )
    charge(library, 9_000)


def test_a_model_without_a_price_counts_its_tokens_alone(library: Tenant) -> None:
    model(library)
    budget(library, maxUsd=0, maxTokens=100)
    settle(library, charge(library, 90), 80)
    assert spent(library) == (0, 80)
    assert told(library) == [{"name": "notes", "model": MODEL, "passages": 1, "tokens": 80}]


def test_a_budget_that_comes_later_counts_what_was_spent_before(library: Tenant) -> None:
    settle(library, charge(library, 200_000), 100_000)
    under_way = charge(library, 300_000)
    budget(library, maxUsd=2)
    assert spent(library) == (Decimal("0.8"), 400_000)
    call(
        library.person, "aos_rag.put_embeddings", library.id, "notes", MODEL, [], under_way, 50_000
    )
    assert spent(library) == (Decimal("0.3"), 150_000)
