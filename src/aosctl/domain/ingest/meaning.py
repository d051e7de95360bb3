"""How a collection is searched: the model of its embeddings, or why there is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.db import manifests
from aosctl.domain.kinds import BY_NAME
from aosctl.errors import NotFound
from aosctl.providers.base import ModelSpec, Retry

if TYPE_CHECKING:
    from aosctl.db.connection import Connection

NO_MODEL = "it names no embedding model (spec.embedding)"


@dataclass(frozen=True, slots=True)
class Meaning:
    """The model that embeds a collection's passages, its price if it has one, and how many wait.

    `why_not` says why the collection is searched by full text alone; then there is no model.
    """

    model: ModelSpec | None
    dimensions: int | None
    usd_per_mtok: Decimal | None
    waiting: int
    why_not: str = ""

    def cost_usd(self, tokens: int) -> Decimal | None:
        """Return what tokens cost; None where the model has no price."""
        return None if self.usd_per_mtok is None else self.usd_per_mtok * tokens / 1_000_000


def meaning_of(connection: Connection, tenant: UUID, collection: str) -> Meaning:
    """Read how a collection is searched. Raises NotFound."""
    rows = manifests.resources(connection, BY_NAME["Collection"].view, tenant, [collection])
    if not rows:
        raise NotFound(f'collection "{collection}" not found', "aosctl get collections")
    spec, status = rows[0].spec, rows[0].status
    embedding: Mapping[str, Any] | None = spec.get("embedding")
    if embedding is None or status.get("search") != "hybrid":
        why = NO_MODEL if embedding is None else str(status.get("reason") or "")
        return Meaning(None, None, None, 0, why)
    found = manifests.resources(connection, BY_NAME["Model"].view, None, [embedding["model"]])
    if not found:
        raise NotFound(f'model "{embedding["model"]}" not found', "aosctl get models")
    model = _model(connection, tenant, found[0].name, found[0].spec)
    dimensions = embedding.get("dimensions") or found[0].spec["params"].get("dimensions")
    price = (found[0].spec.get("pricing") or {}).get("inputUsdPerMtok")
    waiting = int(status["chunks"]) - int(status["embedded"])
    usd_per_mtok = None if price is None else Decimal(str(price))
    return Meaning(model, dimensions, usd_per_mtok, waiting)


def _model(connection: Connection, tenant: UUID, name: str, spec: Mapping[str, Any]) -> ModelSpec:
    """Return a Model as embedders take it, its key opened with the person's rights."""
    retry = spec.get("retry") or {}
    model = ModelSpec(
        provider=spec["provider"],
        model=spec.get("model") or name,
        name=name,
        base_url=spec.get("baseUrl"),
        api_key_env=spec.get("apiKeyEnv"),
        api_key_secret=spec.get("apiKeySecret"),
        params=dict(spec.get("params") or {}),
        capabilities=dict(spec.get("capabilities") or {}),
        timeout_seconds=float(spec.get("timeoutSeconds") or 120),
        retry=Retry(retry.get("attempts", 3), retry.get("maxDelaySeconds", 20)),
    )
    if model.api_key_secret is None:
        return model
    from aosctl.domain.secrets import person_opener

    # Opened here and once: the requests' threads have no connection of their own.
    key = person_opener(connection, tenant)(model.api_key_secret)
    return replace(model, open_key=lambda: key)
