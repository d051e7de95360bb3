"""Embedding models that run in this process, with onnxruntime: no service, no key, no network.

A model is a folder as Hugging Face holds it for sentence-transformers, of which `model.onnx` (or
`onnx/model.onnx`) and `tokenizer.json` are needed. Nothing is ever fetched.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from aosctl.errors import ProviderError
from aosctl.once import once
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.embedding import Embedded, Limits, in_requests
from aosctl.providers.faults import named
from aosctl.providers.onnx_model import OnnxModel

GRAPHS = ("model.onnx", "onnx/model.onnx")
TOKENIZER = "tokenizer.json"
_INSTALL = "pip install 'aosctl[local-embeddings]'"


class LocalEmbedder:
    """Run a model's ONNX graph."""

    name = "local"
    limits = Limits(texts=16, characters=40_000)

    def embed(
        self,
        model: ModelSpec,
        texts: Sequence[str],
        *,
        query: bool,
        dimensions: int | None = None,
        line: Line | None = None,
    ) -> Embedded:
        """Embed texts; see Embedder."""
        folder = _folder(model)
        with _faults_named(model, folder):
            loaded = _loaded(folder)
            send = partial(_run, loaded, model, dimensions, line)
            return in_requests(model, texts, self.limits, dimensions, send, query=query, line=line)


def models_folder() -> Path:
    """Return where models are looked for by name."""
    given = os.environ.get("XDG_DATA_HOME", "")
    data_home = given if os.path.isabs(given) else os.path.expanduser("~/.local/share")
    return Path(data_home, "aosctl", "models")


def _run(
    loaded: OnnxModel,
    model: ModelSpec,
    dimensions: int | None,
    line: Line | None,
    texts: Sequence[str],
) -> tuple[list[object], int]:
    if line is not None and line.closed:
        raise named(model, "network", "it was broken off")
    vectors, tokens = loaded.embed(texts)
    wanted = dimensions or model.params.get("dimensions")
    short = wanted if model.capabilities.get("dimensions") and isinstance(wanted, int) else None
    return [vector[:short] for vector in vectors], tokens


@partial(once, most=4)
def _loaded(folder: Path) -> OnnxModel:
    graph = next(folder / name for name in GRAPHS if (folder / name).is_file())
    return OnnxModel(graph, folder)


def _folder(model: ModelSpec) -> Path:
    """Find the model's folder: its path, or its name among the models. Raises ProviderError."""
    folder = models_folder() / model.model
    if any((folder / name).is_file() for name in GRAPHS) and (folder / TOKENIZER).is_file():
        return folder
    raise ProviderError(
        f'model "{model.name}": {folder} holds no {GRAPHS[0]} and {TOKENIZER}',
        hint=f"put the model there, for example: hf download"
        f" sentence-transformers/{model.model} --local-dir {folder}",
        kind="bad_request",
    )


@contextmanager
def _faults_named(model: ModelSpec, folder: Path) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise ProviderError(
            f'model "{model.name}" runs here and needs {error.name}', hint=_INSTALL, kind="no_key"
        ) from error
    except ProviderError:
        raise
    except Exception as error:
        said = f"{folder} can't be run: {error}"
        hint = f"it needs the files of one model: {GRAPHS[0]} and {TOKENIZER}"
        raise named(model, "bad_request", said, hint) from error
