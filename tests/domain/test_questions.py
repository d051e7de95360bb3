"""The question of a search is embedded on its way to the kernel, by a service on a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from aosctl.domain.loop import Interrupted
from kernels import META, KernelDatabase, apply, call
from providers.wire import BAD_GATEWAY, Entry, json_reply
from providers.wire_embed import USAGE, EmbedWire, honest, vector_of
from providers.wire_openai import calls, text
from talks import Stage, Talk

QUESTION = "lamps near a table"
TEXTS = {"lamps": "Lamps stand on a table.", "chairs": "Chairs stand around it."}
MODEL = "asked_embedder"


@pytest.fixture(scope="module", autouse=True)
def extension(kernel_database: KernelDatabase) -> None:
    kernel_database.superuser.execute("create extension vector")


@pytest.fixture
def wire(play: Stage) -> Iterator[EmbedWire]:
    """An embedding service; the agent has a collection of its model."""
    with EmbedWire() as made:
        admin = play.database.superuser
        call(admin, "aos_meta.apply_model", MODEL, META, {
            "provider": "openai", "model": "wire-1", "baseUrl": made.base_url, "timeoutSeconds": 20,
            "capabilities": {"embeddings": True}, "params": {"dimensions": 8},
            "pricing": {"inputUsdPerMtok": 1000}, "retry": {"attempts": 1, "maxDelaySeconds": 0},
        })  # fmt: skip
        apply(admin, "aos_rag.apply_collection", play.tenant.id, "shop", {
            "embedding": {"model": MODEL},
            "documents": [{"title": name, "text": words} for name, words in TEXTS.items()],
        })  # fmt: skip
        person = play.tenant.person
        rows = person.execute(
            "select chunk_id, content from aos_rag.chunks_to_embed(%s, 'shop')", (play.tenant.id,)
        ).fetchall()
        call(person, "aos_rag.put_embeddings", play.tenant.id, "shop", MODEL, [
            {"chunk": str(chunk), "embedding": vector_of(content, 8)} for chunk, content in rows
        ])  # fmt: skip
        call(admin, "aos_skills.apply_skill", play.tenant.id, "rag_search", META, {
            "builtin": "rag_search", "roles": ["agent"],
        })  # fmt: skip
        apply(admin, "aos_agent.apply_agent", play.tenant.id, "asker", {
            "persona": "asker", "skills": ["rag_search"], "collections": ["shop"],
        })  # fmt: skip
        yield made


def searched(play: Stage, talk: Talk) -> dict[str, Any]:
    """Let the model search; return what it read."""
    play.answer(calls(("rag_search", {"query": QUESTION})), text("So be it."))
    assert talk.send("Do it.").text == "So be it."
    play.assert_at_rest(talk, "completed")
    ((_, ok, result),) = play.results(talk)
    assert ok
    found: dict[str, Any] = json.loads(result)
    return found


def test_the_question_is_embedded_once_and_what_it_cost_is_the_runs(
    play: Stage, wire: EmbedWire
) -> None:
    wire.queue.append(honest(8))
    talk = play.talk()
    found = searched(play, talk)
    assert "note" not in found
    assert [hit["title"] for hit in found["hits"]] == ["lamps", "chairs"]
    assert [request.body["input"] for request in wire.requests] == [[QUESTION]]
    run = play.tenant.run_row(talk.conversation.run_id)
    chat = play.database.value(
        "select sum(cost_usd) from aos_core.ledger where run_id = %s", talk.conversation.run_id
    )
    assert run["spent_usd"] == chat
    assert float(chat) >= USAGE / 1000


FAILURES: dict[str, tuple[Entry, str]] = {
    "an error": (json_reply(500, {"error": {"message": "out of order"}}), "out of order"),
    "no right": (json_reply(401, {"error": {"message": "bad key"}}), "bad key"),
    "a gateway's page": (BAD_GATEWAY, "502"),
    "fewer vectors": (honest(8, lambda answer: {**answer, "data": []}), MODEL),
    "another length": (honest(5), MODEL),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_an_endpoint_that_fails_costs_the_meaning_and_not_the_search(
    play: Stage, wire: EmbedWire, kind: str
) -> None:
    reply, words = FAILURES[kind]
    wire.queue.append(reply)
    found = searched(play, play.talk())
    assert [hit["title"] for hit in found["hits"]] == ["lamps"]
    assert found["note"].startswith("searched by full text alone: ") and words in found["note"]


def test_a_person_who_stops_waits_for_no_embedding(play: Stage, wire: EmbedWire) -> None:
    asked = threading.Event()

    def stalls(request: Any) -> Any:
        asked.set()
        return honest(8)(request).stall(0)

    wire.queue.append(stalls)
    talk = play.talk()
    play.answer(calls(("rag_search", {"query": QUESTION})))
    threading.Thread(target=lambda: asked.wait(20) and talk.stop.set()).start()
    with suppress(Interrupted):
        talk.send("Do it.")
    assert wire.client_left.wait(20)
    states = play.database.rows(
        "select state from aos_core.tool_call where run_id = %s", talk.conversation.run_id
    )
    assert states == [("cancelled",)]


def test_agents_without_embeddings_ask_nobody_for_any(play: Stage, wire: EmbedWire) -> None:
    apply(play.database.superuser, "aos_rag.apply_collection", play.tenant.id, "plain", {
        "documents": [{"title": "lamps", "text": TEXTS["lamps"]}],
    })  # fmt: skip
    apply(play.database.superuser, "aos_agent.apply_agent", play.tenant.id, "asker", {
        "persona": "asker", "skills": ["rag_search"], "collections": ["plain"],
    })  # fmt: skip
    found = searched(play, play.talk())
    assert "note" not in found and len(found["hits"]) == 1
    assert wire.requests == []
