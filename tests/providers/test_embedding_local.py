"""Provider local: a real ONNX graph and a real tokenizer, of a model with five words."""

from __future__ import annotations

import builtins
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from aosctl.errors import ProviderError
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.embedding import Embedded
from aosctl.providers.registry import embedder_of
from providers import tiny_model


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    return tmp_path / "aosctl" / "models"


def embed(
    *texts: str, query: bool = False, dimensions: int | None = None, **fields: Any
) -> Embedded:
    spec = ModelSpec("local", "tiny", "tiny-local", **fields)
    return embedder_of("local").embed(spec, texts, query=query, dimensions=dimensions)


def near(made: tuple[float, ...], wanted: list[float]) -> bool:
    return len(made) == len(wanted) and math.dist(made, wanted) < 1e-6


def test_a_text_is_the_mean_of_its_tokens_whatever_stands_beside_it(models: Path) -> None:
    tiny_model.make(models / "tiny")
    made = embed("red house", "blue", "red red red boat", dimensions=5)
    assert near(made.vectors[0], tiny_model.mean_of(["red", "house"]))
    assert near(made.vectors[1], tiny_model.mean_of(["blue"]))
    assert near(made.vectors[2], tiny_model.mean_of(["red", "red", "red", "boat"]))
    assert made.tokens == 7


def test_a_text_longer_than_the_model_reads_is_read_in_parts(models: Path) -> None:
    tiny_model.make(models / "tiny", longest=8)
    text = ["red"] * 8 + ["blue"] * 4
    (vector,) = embed(" ".join(text)).vectors
    wanted = [0.0, 2.0, 1.0, 0.0, 0.0]  # each part weighs as much as its tokens
    length = math.hypot(*wanted)
    assert near(vector, [x / length for x in wanted])


def test_more_texts_than_one_run_takes_keep_their_order(models: Path) -> None:
    tiny_model.make(models / "tiny")
    texts = ["red", "blue house boat", "boat red"] * 30
    made = embed(*texts)
    for text, vector in zip(texts, made.vectors, strict=True):
        assert near(vector, tiny_model.mean_of(text.split()))


def test_a_model_may_take_the_first_token(models: Path) -> None:
    tiny_model.make(models / "tiny", first_token=True)
    assert near(embed("blue red red").vectors[0], tiny_model.mean_of(["blue"]))


def test_a_graph_may_pool_by_itself(models: Path) -> None:
    tiny_model.make(models / "tiny", pooled=True)
    assert near(embed("blue blue red").vectors[0], tiny_model.mean_of(["blue", "red"]))


def test_the_graph_may_stand_where_hugging_face_puts_it(models: Path) -> None:
    tiny_model.make(models / "tiny")
    (models / "tiny" / "onnx").mkdir()
    (models / "tiny" / "model.onnx").rename(models / "tiny" / "onnx" / "model.onnx")
    assert near(embed("red").vectors[0], tiny_model.mean_of(["red"]))


def test_prefixes_count_as_they_do_elsewhere(models: Path) -> None:
    tiny_model.make(models / "tiny")
    params = {"query_prefix": "red ", "document_prefix": "blue "}
    assert near(
        embed("boat", query=True, params=params).vectors[0], tiny_model.mean_of(["red", "boat"])
    )
    assert near(embed("boat", params=params).vectors[0], tiny_model.mean_of(["blue", "boat"]))


def test_a_vector_can_be_shortened_where_the_model_allows_it(models: Path) -> None:
    tiny_model.make(models / "tiny")
    made = embed("red", dimensions=3, capabilities={"dimensions": True})
    assert made.vectors == ((0.0, 1.0, 0.0),)
    with pytest.raises(ProviderError, match="5 dimensions, 3 are expected"):
        embed("red", dimensions=3)


def test_a_model_that_is_not_there_says_where_it_is_looked_for(models: Path) -> None:
    with pytest.raises(ProviderError, match=r"holds no model\.onnx and tokenizer\.json") as caught:
        embed("red")
    assert str(models / "tiny") in str(caught.value)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("put the model there, for example: hf download ")


def test_a_file_that_is_no_model_is_named(models: Path) -> None:
    tiny_model.make(models / "tiny")
    (models / "tiny" / "model.onnx").write_bytes(b"this is no model")
    with pytest.raises(ProviderError, match="can't be run") as caught:
        embed("red")
    assert caught.value.kind == "bad_request"


def test_without_the_extra_it_is_said_what_to_install(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_model.make(models / "tiny")
    real = builtins.__import__

    def absent(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "onnxruntime":
            raise ModuleNotFoundError("No module named 'onnxruntime'", name="onnxruntime")
        return real(name, *args, **kwargs)

    monkeypatch.delitem(sys.modules, "onnxruntime", raising=False)
    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ProviderError, match="needs onnxruntime") as caught:
        embed("red")
    assert caught.value.hint == "pip install 'aosctl[local-embeddings]'"


def test_a_line_that_is_hung_up_ends_it(models: Path) -> None:
    tiny_model.make(models / "tiny")
    line = Line()
    line.hang_up()
    spec = ModelSpec("local", "tiny", "tiny-local")
    with pytest.raises(ProviderError, match="broken off"):
        embedder_of("local").embed(spec, ["red"], query=False, line=line)
