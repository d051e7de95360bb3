"""An embedding model of a few kilobytes, made on the spot: a row of a table for each word."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = ("[UNK]", "red", "blue", "house", "boat")
WIDTH = len(WORDS)


def make(
    folder: Path, *, longest: int = 8, pooled: bool = False, first_token: bool = False
) -> None:
    """Write the model's files; each word's vector is 1 at the word's place."""
    folder.mkdir(parents=True)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))
    _write(folder / "sentence_bert_config.json", {"max_seq_length": longest})
    (folder / "1_Pooling").mkdir()
    _write(folder / "1_Pooling" / "config.json", {"pooling_mode_cls_token": first_token})
    onnx.save(_graph(pooled), folder / "model.onnx")


def mean_of(words: Sequence[str]) -> list[float]:
    """Return the vector that a text of these words has, of length 1."""
    rows = np.eye(WIDTH)[[WORDS.index(word) if word in WORDS else 0 for word in words]]
    mean = rows.mean(axis=0)
    return list((mean / np.linalg.norm(mean)).tolist())


def _graph(pooled: bool) -> onnx.ModelProto:
    table = numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32), "table")
    shape = ["batch", WIDTH] if pooled else ["batch", "tokens", WIDTH]
    name = "sentence_embedding" if pooled else "last_hidden_state"
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["rows" if pooled else name])]
    if pooled:
        nodes.append(helper.make_node("ReduceMax", ["rows", "axes"], [name], keepdims=0))
    axes = numpy_helper.from_array(np.array([1], dtype=np.int64), "axes")
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "tokens"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)],
        [table, axes] if pooled else [table],
    )
    opset = helper.make_opsetid("", 18)
    return helper.make_model(graph, opset_imports=[opset], ir_version=8)


def _write(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")
