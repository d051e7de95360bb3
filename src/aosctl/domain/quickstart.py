"""The quickstart's tenant, shop, documents and agent, applied as `apply` would."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from aosctl.db import manifests, scripts
from aosctl.db.connection import Connection
from aosctl.domain import manifest
from aosctl.domain.applying import Applied, Tenancy, apply_set
from aosctl.domain.default_model import VENDORS, ModelChoice, choose_model, is_a_default
from aosctl.domain.document import Document
from aosctl.domain.kinds import BY_NAME

TENANT, PERSONA, AGENT = "tech_corp", "pg_expert", "my_pg_bot"
QUESTION = "How do I optimise a join?"


class Quickstart:
    """The example in `folder`, and the database it goes to; every step may be repeated."""

    def __init__(self, connection: Connection, folder: Path, tenancy: Tenancy) -> None:
        self._connection = connection
        self._shop = folder / "shop.sql"
        self._tenancy = tenancy
        self._documents = manifest.load([str(folder)])

    def create_tenant(self) -> list[Applied]:
        """Create the tenant, which the shop's data belongs to."""
        return self._apply(tuple(d for d in self._documents if d.kind == "Tenant"))

    def create_shop(self) -> None:
        """Create the business schema with its data, whose tables the skills are granted."""
        scripts.run_file(self._connection, self._shop)

    def choose_model(self, env: Mapping[str, str]) -> ModelChoice:
        """Choose the agent's model; one that a person has set is kept."""
        personas = manifests.resources(self._connection, BY_NAME["Persona"].view, None, [PERSONA])
        present = next((str(row.spec["model"]) for row in personas if row.tenant == TENANT), None)
        if present is not None and not is_a_default(present):
            return ModelChoice(present, f"persona {PERSONA} names it")
        models = manifests.resources(self._connection, BY_NAME["Model"].view)
        with_tools = {
            provider: [
                row.name
                for row in models
                if row.spec.get("provider") == provider
                and (row.status.get("builtin") or not row.spec.get("baseUrl"))
                and row.spec.get("active", True)
                and row.spec.get("capabilities", {}).get("tools")
            ]
            for provider in VENDORS
        }
        return choose_model(env, with_tools)

    def apply(self, choice: ModelChoice) -> list[Applied]:
        """Apply all the manifests in one transaction, the persona with the chosen model."""
        documents = tuple(_with_model(document, choice.name) for document in self._documents)
        if choice.spec is not None:
            model = {"name": choice.name}
            text = {"apiVersion": "aos/v1", "kind": "Model", "metadata": model, "spec": choice.spec}
            documents = (*manifest.loads(json.dumps(text), "the local Ollama"), *documents)
        return self._apply(documents)

    def _apply(self, documents: tuple[Document, ...]) -> list[Applied]:
        return apply_set(self._connection, documents, self._tenancy)


def outcomes(applied: list[Applied]) -> str:
    """Count what became of documents: `2 created, 9 unchanged`."""
    counts = Counter(one.outcome for one in applied)
    return ", ".join(
        f"{counts[word]} {word}" for word in ("created", "configured", "unchanged") if counts[word]
    )


def _with_model(document: Document, model: str) -> Document:
    if document.kind != "Persona" or document.name != PERSONA:
        return document
    refs = tuple(r._replace(name=model) if r.path == "spec.model" else r for r in document.refs)
    return replace(document, spec={**document.spec, "model": model}, refs=refs)
