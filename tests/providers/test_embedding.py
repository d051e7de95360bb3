"""What every embedder promises: services over real sockets, asked through the vendors' SDKs."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest

from aosctl.errors import ProviderError
from aosctl.providers.base import Line, ModelSpec, Retry
from aosctl.providers.embedding import Embedded, Embedder, Limits, batches
from aosctl.providers.registry import EMBEDDERS, embedder_of
from providers.wire import BAD_GATEWAY, Entry, Reply, Wire, json_reply
from providers.wire_embed import (
    USAGE,
    EmbedWire,
    OllamaEmbedWire,
    half,
    honest,
    in_base64,
    refused,
    reindexed,
    texts_of,
    vector_of,
    with_vectors,
)

THREE = ("a red house", "a blue boat", "three red boats")
ONCE = Retry(attempts=1)


@dataclass(frozen=True)
class Dialect:
    provider: str
    wire: Callable[[list[Entry]], Wire]
    path: str

    @property
    def embedder(self) -> Embedder:
        return embedder_of(self.provider)

    def spec(self, server: Wire, **fields: Any) -> ModelSpec:
        base = ModelSpec(
            self.provider, "wire-1", "wired", base_url=server.base_url, timeout_seconds=5
        )
        return replace(base, **fields)

    def embed(
        self,
        server: Wire,
        *texts: str,
        query: bool = False,
        dimensions: int | None = None,
        line: Line | None = None,
        **fields: Any,
    ) -> Embedded:
        spec = self.spec(server, **fields)
        return self.embedder.embed(
            spec, texts or THREE, query=query, dimensions=dimensions, line=line
        )


DIALECTS = (
    Dialect("openai", EmbedWire, "/v1/embeddings"),
    Dialect("gemini", EmbedWire, "/v1/embeddings"),
    Dialect("ollama", OllamaEmbedWire, "/api/embed"),
)


@pytest.fixture(params=DIALECTS, ids=lambda one: one.provider)
def dialect(request: pytest.FixtureRequest) -> Dialect:
    found = request.param
    assert isinstance(found, Dialect)
    return found


@pytest.fixture(params=DIALECTS[:2], ids=lambda one: one.provider)
def chat_like(request: pytest.FixtureRequest) -> Dialect:
    """One that speaks OpenAI's protocol."""
    found = request.param
    assert isinstance(found, Dialect)
    return found


def unit(vector: list[float]) -> tuple[float, ...]:
    length = math.sqrt(sum(x * x for x in vector))
    return tuple(x / length for x in vector)


def expected(*texts: str, dimensions: int = 8) -> tuple[tuple[float, ...], ...]:
    return tuple(unit(vector_of(text, dimensions)) for text in texts or THREE)


def close(made: Embedded, wanted: tuple[tuple[float, ...], ...]) -> bool:
    pairs = zip(made.vectors, wanted, strict=True)
    return all(len(a) == len(b) and math.dist(a, b) < 1e-6 for a, b in pairs)


def test_texts_become_vectors_of_length_1_in_their_order_and_tokens_are_counted(
    dialect: Dialect,
) -> None:
    with dialect.wire([honest()]) as server:
        made = dialect.embed(server, dimensions=8)
    assert close(made, expected())
    assert made.tokens == USAGE
    (request,) = server.requests
    assert request.path == dialect.path
    assert request.body["model"] == "wire-1"
    assert texts_of(request) == list(THREE)


def test_nothing_is_asked_for_nothing(dialect: Dialect) -> None:
    with dialect.wire([]) as server:
        made = dialect.embedder.embed(dialect.spec(server), [], query=False)
    assert made == Embedded((), 0)
    assert server.requests == []


def test_many_texts_go_in_as_many_requests_as_they_need(dialect: Dialect) -> None:
    most = dialect.embedder.limits.texts
    texts = [f"text {number}" for number in range(2 * most + 1)]
    with dialect.wire([honest()] * 3) as server:
        made = dialect.embed(server, *texts)
    assert [len(texts_of(request)) for request in server.requests] == [most, most, 1]
    assert close(made, expected(*texts))
    assert made.tokens == 3 * USAGE


def test_large_texts_are_parted_by_their_size(dialect: Dialect) -> None:
    large = "x" * (dialect.embedder.limits.characters // 2 + 1)
    with dialect.wire([honest()] * 3) as server:
        dialect.embed(server, large, large, "small", large)
    assert [len(texts_of(request)) for request in server.requests] == [1, 2, 1]


@pytest.mark.parametrize(
    ("sizes", "parts"),
    [
        ([], []),
        ([1], [1]),
        ([1, 1, 1, 1], [3, 1]),
        ([5, 5, 1], [2, 1]),
        ([99, 1], [1, 1]),
        ([1, 99, 1], [1, 1, 1]),
    ],
)
def test_batches_hold_what_fits(sizes: list[int], parts: list[int]) -> None:
    texts = ["x" * size for size in sizes]
    made = list(batches(texts, Limits(texts=3, characters=10)))
    assert [len(part) for part in made] == parts
    assert [text for part in made for text in part] == texts


def test_a_model_gets_the_prefix_and_the_parameters_of_each_side(dialect: Dialect) -> None:
    params = {
        "query_prefix": "search_query: ",
        "document_prefix": "search_document: ",
        "query_params": {"options": {"side": "query"}},
        "document_params": {"options": {"side": "passage"}},
        "keep_alive": "5m",
    }
    with dialect.wire([honest(), honest()]) as server:
        dialect.embed(server, "red", query=True, params=params)
        dialect.embed(server, "red", params=params)
    asked, stored = server.requests
    assert texts_of(asked) == ["search_query: red"]
    assert texts_of(stored) == ["search_document: red"]
    assert asked.body["options"] == {"side": "query"}
    assert stored.body["options"] == {"side": "passage"}
    assert asked.body["keep_alive"] == "5m"
    assert not {"query_prefix", "query_params", "document_params"} & set(asked.body)


@pytest.mark.parametrize("can", [True, False])
def test_dimensions_are_asked_of_a_model_that_can_be_asked_for_them(
    dialect: Dialect, can: bool
) -> None:
    with dialect.wire([honest(8)]) as server:
        made = dialect.embed(server, dimensions=4 if can else 8, capabilities={"dimensions": can})
    assert {len(vector) for vector in made.vectors} == {4 if can else 8}
    assert server.requests[0].body.get("dimensions") == (4 if can else None)


def test_an_empty_text_is_not_sent_as_such_which_services_refuse(dialect: Dialect) -> None:
    with dialect.wire([honest()]) as server:
        dialect.embed(server, "", "  \n", "red")
    assert all(text.strip() for text in texts_of(server.requests[0]))


def test_the_key_goes_with_the_request(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-embedding-key-123")
    with dialect.wire([honest()]) as server:
        dialect.embed(server, api_key_env="MY_KEY")
    assert server.requests[0].headers["authorization"] == "Bearer sk-embedding-key-123"


def test_base64_is_understood_though_it_was_not_asked_for(chat_like: Dialect) -> None:
    with chat_like.wire([honest(8, in_base64)]) as server:
        made = chat_like.embed(server)
    assert close(made, expected())
    assert server.requests[0].body["encoding_format"] == "float"


def test_vectors_are_put_in_the_order_of_their_index(chat_like: Dialect) -> None:
    with chat_like.wire([honest(8, reindexed(lambda index: index))]) as server:
        assert close(chat_like.embed(server), expected())


def test_a_server_that_writes_no_index_keeps_the_order(chat_like: Dialect) -> None:
    def without(answer: dict[str, Any]) -> dict[str, Any]:
        data = [{"embedding": item["embedding"]} for item in answer["data"]]
        return {**answer, "data": data}

    with chat_like.wire([honest(8, without)]) as server:
        assert close(chat_like.embed(server), expected())


@pytest.mark.parametrize("index", [lambda _: 0, lambda at: at + 1, lambda at: None if at else 0])
def test_vectors_that_do_not_say_whose_they_are_are_refused(
    chat_like: Dialect, index: Callable[[int], object]
) -> None:
    words = "which text each belongs to"
    entry = honest(8, reindexed(index))
    with chat_like.wire([entry]) as server, pytest.raises(ProviderError, match=words) as caught:
        chat_like.embed(server, retry=ONCE)
    assert caught.value.kind == "truncated"


@dataclass(frozen=True)
class Fault:
    kind: str
    words: str
    entry: Entry


FAULTS = {
    "one vector too few": Fault(
        "truncated", "3 texts were sent, 2 vectors", honest(8, with_vectors(lambda v: v[:-1]))
    ),
    "one vector too many": Fault(
        "truncated", "3 texts were sent, 4 vectors", honest(8, with_vectors(lambda v: [*v, v[0]]))
    ),
    "no vectors": Fault("truncated", "0 vectors", honest(8, with_vectors(lambda v: []))),
    "NaN": Fault("truncated", "NaN", honest(8, with_vectors(lambda v: [[math.nan] * 8] * 3))),
    "infinity": Fault("truncated", "NaN", honest(8, with_vectors(lambda v: [[math.inf] * 8] * 3))),
    "zeros": Fault("truncated", "is zero", honest(8, with_vectors(lambda v: [[0.0] * 8] * 3))),
    "null for a vector": Fault(
        "truncated", "missing", honest(8, with_vectors(lambda v: [None] * 3))
    ),
    "an empty vector": Fault("truncated", "missing", honest(8, with_vectors(lambda v: [[]] * 3))),
    "words for numbers": Fault(
        "truncated", "no number", honest(8, with_vectors(lambda v: [["a"] * 8] * 3))
    ),
    "vectors of two lengths": Fault(
        "truncated", "7 and 8", honest(8, with_vectors(lambda v: [*v[:-1], v[-1][:7]]))
    ),
    "half of the answer": Fault("truncated", "", half()),
    "no JSON object": Fault("bad_request", "no embeddings", json_reply(200, ["what?"])),
    "an object without embeddings": Fault("bad_request", "no embeddings", json_reply(200, {})),
    "a web page as success": Fault(
        "bad_request", "web page", Reply((b"<html><body>hi</body></html>",), 200, "text/html")
    ),
    "a web page as failure": Fault("server", "502 Bad Gateway", BAD_GATEWAY),
    "a key that is wrong": Fault("auth", "key", refused(401, "wrong key")),
    "an unknown model": Fault("bad_request", "no such model", refused(404, "no such model")),
    "an overloaded service": Fault("overloaded", "later", refused(503, "later")),
    "a text that is too long": Fault(
        "context_too_long",
        "longer than the model takes",
        refused(400, "the input length exceeds the context length"),
    ),
    "a connection that is cut": Fault("network", "", Reply((), 200, "application/json").cut(0)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_a_service_does_wrong_has_its_name(dialect: Dialect, name: str) -> None:
    fault = FAULTS[name]
    with dialect.wire([fault.entry]) as server, pytest.raises(ProviderError) as caught:
        dialect.embed(server, retry=ONCE)
    assert caught.value.kind == fault.kind, caught.value
    assert fault.words in str(caught.value)
    assert 'model "wired"' in str(caught.value)


def test_vectors_of_another_length_than_expected_are_refused(dialect: Dialect) -> None:
    words = "8 dimensions, 16 are expected"
    with dialect.wire([honest(8)]) as server, pytest.raises(ProviderError, match=words) as caught:
        dialect.embed(server, dimensions=16, retry=ONCE)
    assert caught.value.kind == "bad_request"
    assert caught.value.hint is not None
    assert "spec.embedding.dimensions" in caught.value.hint


def test_a_text_that_is_too_long_gets_advice_about_chunks(dialect: Dialect) -> None:
    entry = FAULTS["a text that is too long"].entry
    with dialect.wire([entry]) as server, pytest.raises(ProviderError) as caught:
        dialect.embed(server)
    assert caught.value.hint is not None
    assert "spec.chunking.characters" in caught.value.hint
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "name",
    ["a web page as failure", "one vector too few", "NaN", "half of the answer",
     "a connection that is cut", "an overloaded service"],
)  # fmt: skip
def test_what_passes_by_itself_is_asked_again(dialect: Dialect, name: str) -> None:
    with dialect.wire([FAULTS[name].entry, honest()]) as server:
        made = dialect.embed(server, retry=Retry(attempts=2, max_delay_seconds=0.01))
    assert close(made, expected())
    assert len(server.requests) == 2


@pytest.mark.parametrize("name", ["a key that is wrong", "an unknown model", "no JSON object"])
def test_what_does_not_pass_is_asked_once(dialect: Dialect, name: str) -> None:
    with dialect.wire([FAULTS[name].entry, honest()]) as server, pytest.raises(ProviderError):
        dialect.embed(server)
    assert len(server.requests) == 1


def test_only_what_failed_is_asked_again(dialect: Dialect) -> None:
    most = dialect.embedder.limits.texts
    texts = [f"text {number}" for number in range(2 * most)]
    with dialect.wire([honest(), BAD_GATEWAY, honest()]) as server:
        made = dialect.embed(server, *texts, retry=Retry(attempts=2, max_delay_seconds=0.01))
    assert close(made, expected(*texts))
    assert [texts_of(request)[0] for request in server.requests] == [
        "text 0", f"text {most}", f"text {most}",
    ]  # fmt: skip


def test_retry_after_is_waited_for(dialect: Dialect, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("aosctl.providers.embedding.time.sleep", slept.append)
    moments = iter(range(1000))
    monkeypatch.setattr("aosctl.providers.embedding.time.monotonic", lambda: next(moments))
    busy = refused(429, "slow down", {"Retry-After": "3"})
    with dialect.wire([busy, honest()]) as server:
        made = dialect.embed(server)
    assert close(made, expected())
    assert slept[0] == pytest.approx(2)  # of three seconds, one has gone by on this clock


def test_a_wait_that_is_too_long_is_told(dialect: Dialect) -> None:
    busy = refused(429, "slow down", {"Retry-After": "3600"})
    with dialect.wire([busy]) as server, pytest.raises(ProviderError) as caught:
        dialect.embed(server)
    assert (caught.value.kind, caught.value.retry_after) == ("rate_limit", 3600)
    assert len(server.requests) == 1


def test_silence_has_an_end(dialect: Dialect) -> None:
    silent = Reply((b"{",), 200, "application/json").stall(1)
    with dialect.wire([silent]) as server, pytest.raises(ProviderError) as caught:
        dialect.embed(server, timeout_seconds=0.2, retry=ONCE)
    assert caught.value.kind == "timeout"


def test_hanging_up_ends_a_request_that_waits(dialect: Dialect) -> None:
    line = Line()
    silent = Reply((b"{",), 200, "application/json").stall(1)

    def answer(_request: object) -> Reply:
        threading.Timer(0.05, line.hang_up).start()
        return silent

    with dialect.wire([answer]) as server:
        with pytest.raises(ProviderError):
            dialect.embed(server, line=line, timeout_seconds=60)
        assert server.client_left.wait(20)
    assert len(server.requests) == 1


def test_hanging_up_ends_the_wait_for_another_attempt(dialect: Dialect) -> None:
    line = Line()

    def busy(request: Any) -> Reply:
        threading.Timer(0.05, line.hang_up).start()
        found = refused(429, "slow down", {"Retry-After": "600"})
        assert callable(found)
        return found(request)

    with dialect.wire([busy, honest()]) as server, pytest.raises(ProviderError):
        dialect.embed(server, line=line, retry=Retry(attempts=3, max_delay_seconds=600))
    assert len(server.requests) == 1


def test_the_key_never_shows_in_what_is_said(
    dialect: Dialect, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-embedding-key-123")
    wrong = refused(401, "wrong: sk-embedding-key-123")
    with dialect.wire([wrong]) as server, pytest.raises(ProviderError) as caught:
        dialect.embed(server, api_key_env="MY_KEY")
    assert "sk-embedding-key-123" not in f"{caught.value} {caught.value.hint}"


def test_ollama_is_told_not_to_cut_a_text() -> None:
    ollama = DIALECTS[2]
    with ollama.wire([honest()]) as server:
        ollama.embed(server, params={"num_ctx": 8192})
    assert server.requests[0].body["truncate"] is False
    assert server.requests[0].body["options"] == {"num_ctx": 8192}


def test_a_provider_without_embeddings_names_those_that_have_them() -> None:
    with pytest.raises(ProviderError) as caught:
        embedder_of("anthropic")
    assert caught.value.hint == f"these have: {', '.join(EMBEDDERS)}"
