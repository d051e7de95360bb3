"""A sentence-transformers model as an ONNX graph and a tokenizer: texts in, vectors out.

A text that is longer than the model reads at once is read in parts, whose vectors are weighed by
their tokens: nothing of it is dropped.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

_LONGEST = 512
"""What a model reads at once that doesn't say it, in tokens."""
_READ_AT_MOST = 8192  # tokenizers write 10^30 for no limit
_PARTS_AT_ONCE = 16


class _Part(NamedTuple):
    """What is read at once, and the text's place among the texts."""

    text: int
    ids: Sequence[int]


class OnnxModel:
    """A loaded model, which many threads may use; the graph runs on all processors."""

    def __init__(self, graph: Path, folder: Path) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # its warnings go to stderr, beside what a verb prints
        self._session = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
        self._inputs = {one.name for one in self._session.get_inputs()}
        names = [one.name for one in self._session.get_outputs()]
        whole = "sentence_embedding"
        self._output = whole if whole in names else names[0]
        pooling = _setting(folder, "1_Pooling/config.json", "pooling_mode_cls_token")
        self._first_token = bool(pooling)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length=_longest(folder))
        self._lock = Lock()  # an encoding in another thread would see the same settings

    def embed(self, texts: Sequence[str]) -> tuple[list[list[float]], int]:
        """Return one vector a text, and the tokens of all."""
        import numpy as np

        parts = self._parts(texts)
        order = sorted(range(len(parts)), key=lambda at: len(parts[at].ids))
        vectors: dict[int, Any] = {}
        for begun in range(0, len(order), _PARTS_AT_ONCE):
            now = order[begun : begun + _PARTS_AT_ONCE]
            made = self._run([parts[at].ids for at in now])
            vectors.update(zip(now, made, strict=True))
        means = []
        for _, group in groupby(range(len(parts)), key=lambda at: parts[at].text):
            places = list(group)
            weights = [float(len(parts[at].ids)) for at in places]
            means.append(np.average([vectors[at] for at in places], axis=0, weights=weights))
        return [mean.tolist() for mean in means], sum(len(part.ids) for part in parts)

    def _parts(self, texts: Sequence[str]) -> list[_Part]:
        with self._lock:
            encodings = self._tokenizer.encode_batch(list(texts))
        return [
            _Part(place, one.ids)
            for place, encoding in enumerate(encodings)
            for one in (encoding, *encoding.overflowing)
        ]

    def _run(self, rows: Sequence[Sequence[int]]) -> Any:
        """Run the graph on rows of tokens; return unit vectors."""
        import numpy as np

        longest = max(map(len, rows))
        ids = np.zeros((len(rows), longest), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = row
            mask[place, : len(row)] = 1
        given = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        fed = {name: value for name, value in given.items() if name in self._inputs}
        output = self._session.run([self._output], fed)[0]
        if output.ndim == 3:  # a vector for each token
            output = output[:, 0] if self._first_token else _mean(output, mask)
        lengths = np.linalg.norm(output, axis=1, keepdims=True)
        return output / np.where(lengths == 0, 1, lengths)


def _mean(output: Any, mask: Any) -> Any:
    weights = mask[:, :, None].astype(output.dtype)
    return (output * weights).sum(axis=1) / weights.sum(axis=1)


def _longest(folder: Path) -> int:
    """Return how many tokens the model reads at once."""
    said = (
        _setting(folder, "sentence_bert_config.json", "max_seq_length"),
        _setting(folder, "tokenizer_config.json", "model_max_length"),
    )
    return next((n for n in said if isinstance(n, int) and 8 <= n <= _READ_AT_MOST), _LONGEST)


def _setting(folder: Path, file: str, key: str) -> object:
    path = folder / file
    if not path.is_file():
        return None
    settings = json.loads(path.read_text(encoding="utf-8"))
    return settings.get(key) if isinstance(settings, dict) else None
