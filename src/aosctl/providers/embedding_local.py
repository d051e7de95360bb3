"""Embedding models that run in this process, with onnxruntime: no service and no key."""

from __future__ import annotations

from collections.abc import Sequence

from aosctl.errors import ProviderError
from aosctl.providers.base import Line, ModelSpec
from aosctl.providers.embedding import Embedded, Limits


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
        raise ProviderError(f'model "{model.name}": not there yet', kind="bad_request")
