"""How the documents of a set relate: tenants, references, order."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import pytest

from aosctl.domain.document import Document
from aosctl.domain.manifest import loads
from aosctl.domain.relations import (
    check_references,
    in_apply_order,
    in_delete_order,
    resolve_tenants,
)
from aosctl.errors import ManifestError
from kernels import SEALED

HEADS = {
    "Tenant": "",
    "Model": "spec: {provider: offline}\n",
    "Persona": "spec: {systemPrompt: hi, model: gpt-4o}\n",
    "Skill": "spec: {builtin: sql_query}\n",
    "Agent": "spec:\n  persona: pg_expert\n  skills: [sql, rag_search]\n  collections: [notes]\n",
    "Collection": "",
    "Principal": "",
}


def manifest(kind: str, name: str, tenant: str | None = "acme") -> str:
    line = f"  tenant: {tenant}\n" if tenant and kind not in ("Tenant", "Model") else ""
    head = f"apiVersion: aos/v1\nkind: {kind}\nmetadata:\n  name: {name}\n{line}"
    return head + HEADS[kind]


def set_of(*texts: str) -> tuple[Document, ...]:
    return loads("---\n".join(texts), "x.yaml")


@dataclass(frozen=True)
class Stored:
    """A database that holds the given resources, of one tenant."""

    names_of: dict[str, tuple[str, ...]]
    keys_of: dict[str, list[str]] = field(default_factory=dict)

    def secret_keys(self, tenant: str, name: str) -> list[str]:
        assert tenant == "acme"
        return self.keys_of[name]

    def exists(self, kind: str, tenant: str | None, name: str) -> bool:
        assert (tenant is None) == (kind in ("Tenant", "Model"))
        return name in self.names_of.get(kind, ())

    def names(self, kind: str, tenant: str | None) -> list[str]:
        return list(self.names_of.get(kind, ()))

    def embeds(self, model: str) -> bool:
        return model.startswith("embed")


NOTHING = Stored({})
WHOLE = (
    manifest("Tenant", "acme"),
    manifest("Model", "gpt-4o"),
    manifest("Collection", "notes"),
    manifest("Skill", "sql"),
    manifest("Persona", "pg_expert"),
    manifest("Agent", "bot"),
)


def refusal(documents: tuple[Document, ...], stored: Stored) -> ManifestError:
    with pytest.raises(ManifestError) as caught:
        check_references(documents, stored)
    return caught.value


@pytest.mark.parametrize("texts", list(itertools.permutations(WHOLE))[::41])
def test_references_between_documents_work_in_any_order(texts: tuple[str, ...]) -> None:
    documents = set_of(*texts)
    check_references(documents, NOTHING)
    kinds = [document.kind for document in in_apply_order(documents)]
    assert kinds == ["Tenant", "Model", "Collection", "Skill", "Persona", "Agent"]
    assert [document.kind for document in in_delete_order(documents)] == kinds[::-1]


def test_the_order_within_a_kind_is_kept() -> None:
    documents = set_of(*(manifest("Skill", name) for name in ("b", "a", "c")))
    assert [document.name for document in in_apply_order(documents)] == ["b", "a", "c"]


def test_what_the_database_has_need_not_be_in_the_set() -> None:
    stored = Stored({"Tenant": ("acme",), "Model": ("gpt-4o",)})
    check_references(set_of(manifest("Persona", "pg_expert")), stored)


def test_a_dangling_model_is_refused_with_its_place_and_the_nearest_name() -> None:
    stored = Stored({"Tenant": ("acme",), "Model": ("gpt-4.1", "gpt-4o-mini", "offline")})
    error = refusal(set_of(manifest("Persona", "pg_expert")), stored)
    assert str(error) == (
        'x.yaml:6:33: Persona "pg_expert": spec.model: no Model "gpt-4o" exists;'
        ' did you mean "gpt-4.1"?'
    )
    assert error.hint == "aosctl get models lists what exists; or add it to the files"


def _names_a_model(kind: str, model: str) -> str:
    specs = {
        "Persona": f"spec: {{systemPrompt: hi, model: {model}}}",
        "Collection": f"spec: {{embedding: {{model: {model}}}}}",
        "Model": f"spec: {{provider: offline, fallbacks: [{model}]}}",
    }
    return f"apiVersion: aos/v1\nkind: {kind}\nmetadata: {{name: x}}\n{specs[kind]}\n"


EMBEDDER = (
    "apiVersion: aos/v1\nkind: Model\nmetadata: {name: embed-here}\n"
    "spec: {provider: ollama, capabilities: {embeddings: true}, params: {dimensions: 8}}\n"
)
CHATTER = "apiVersion: aos/v1\nkind: Model\nmetadata: {name: here}\nspec: {provider: offline}\n"


@pytest.mark.parametrize("here", [True, False], ids=["in the set", "in the database"])
@pytest.mark.parametrize(
    ("kind", "place", "field"),
    [("Persona", "33", "model"), ("Model", "39", "fallbacks[0]")],
)
def test_what_chats_is_no_model_that_embeds(kind: str, place: str, field: str, here: bool) -> None:
    stored = Stored({"Model": ("embed-here",)} if not here else {})
    error = refusal(
        set_of(_names_a_model(kind, "embed-here"), *([EMBEDDER] if here else [])), stored
    )
    assert str(error) == (
        f'x.yaml:4:{place}: {kind} "x": spec.{field}: the Model "embed-here" makes embeddings and'
        " can't chat"
    )


@pytest.mark.parametrize("here", [True, False], ids=["in the set", "in the database"])
def test_what_embeds_is_no_model_that_chats(here: bool) -> None:
    stored = Stored({"Model": ("here",)} if not here else {})
    error = refusal(
        set_of(_names_a_model("Collection", "here"), *([CHATTER] if here else [])), stored
    )
    assert str(error) == (
        'x.yaml:4:27: Collection "x": spec.embedding.model: the Model "here" makes no embeddings'
        " (spec.capabilities.embeddings)"
    )


def test_a_collection_names_a_model_that_embeds() -> None:
    check_references(set_of(_names_a_model("Collection", "embed-here"), EMBEDDER), NOTHING)
    stored = Stored({"Model": ("embed-here",)})
    check_references(set_of(_names_a_model("Collection", "embed-here")), stored)


def test_every_dangling_name_is_reported() -> None:
    stored = Stored({"Collection": ("note",)})
    assert str(refusal(set_of(manifest("Agent", "bot")), stored)).splitlines() == [
        "4 problems, nothing was done:",
        'x.yaml:7:12: Agent "bot": spec.persona: no Persona "pg_expert" exists',
        'x.yaml:8:12: Agent "bot": spec.skills[0]: no Skill "sql" exists',
        'x.yaml:9:17: Agent "bot": spec.collections[0]: no Collection "notes" exists;'
        ' did you mean "note"?',
        'x.yaml:5:11: Agent "bot": metadata.tenant: no Tenant "acme" exists',
    ]


SIGNED = """apiVersion: aos/v1
kind: Tenant
metadata: {name: acme}
spec:
  webhook:
    url: https://hooks.example.com/aos
    secretRef: REF
"""
SEALED_SECRET = f"""apiVersion: aos/v1
kind: Secret
metadata: {{name: hooks, tenant: acme}}
spec:
  data:
    signing: {{sealed: {SEALED}}}
    other: {{sealed: {SEALED}}}
"""


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        ("hoks", 'no Secret of this name exists; did you mean "hooks"?'),
        ("hoks/signing", 'no Secret of this name exists; did you mean "hooks"?'),
        ("hooks/sining", 'the Secret "hooks" has no value of this name; did you mean "signing"?'),
        ("hooks", 'which value of the Secret "hooks"? It has other, signing'),
    ],
)
def test_a_webhook_whose_secret_is_nowhere_is_refused_with_its_place(
    reference: str, reason: str
) -> None:
    stored = Stored({"Tenant": ("acme",), "Secret": ("hooks",)}, {"hooks": ["signing", "other"]})
    text = SIGNED.replace("REF", reference)
    for documents, known in (
        (set_of(text), stored),
        (set_of(text, SEALED_SECRET), NOTHING),
    ):
        said = str(refusal(documents, known))
        assert said == f'x.yaml:7:16: Tenant "acme": spec.webhook.secretRef: {reason}'
    for right in ("hooks/signing", "hooks/other"):
        check_references(set_of(SIGNED.replace("REF", right)), stored)
        check_references(set_of(SEALED_SECRET, SIGNED.replace("REF", right)), NOTHING)
    check_references(
        set_of(SIGNED.replace("REF", "one")), Stored({"Secret": ("one",)}, {"one": ["k"]})
    )


def test_a_value_in_the_place_of_a_secrets_name_is_not_repeated() -> None:
    for value in ("whsec_c2VjcmV0", "whsec_secret", "Whsec/secret/secret"):
        with pytest.raises(ManifestError) as caught:
            check_references(set_of(SIGNED.replace("REF", value)), NOTHING)
        assert "whsec" not in str(caught.value).lower()


def test_a_misspelt_built_in_skill_is_answered_with_its_name() -> None:
    text = manifest("Agent", "bot").replace("rag_search", "rag_serch")
    stored = Stored({"Tenant": ("acme",), "Persona": ("pg_expert",), "Collection": ("notes",)})
    error = refusal(set_of(text, manifest("Skill", "sql")), stored)
    assert str(error) == (
        'x.yaml:8:17: Agent "bot": spec.skills[1]: no Skill "rag_serch" exists;'
        ' did you mean "rag_search"?'
    )


def test_a_resource_of_another_tenant_does_not_count() -> None:
    documents = set_of(
        manifest("Tenant", "acme"),
        manifest("Tenant", "other"),
        manifest("Model", "gpt-4o"),
        manifest("Collection", "notes"),
        manifest("Skill", "sql"),
        manifest("Persona", "pg_expert", "other"),
        manifest("Agent", "bot"),
    )
    assert str(refusal(documents, NOTHING)) == (
        'x.yaml:43:12: Agent "bot": spec.persona: no Persona "pg_expert" exists'
    )


def test_the_tenant_comes_from_the_document_then_the_flag_then_the_default() -> None:
    documents = set_of(manifest("Skill", "a", "acme"), manifest("Skill", "b", None))
    by_default = resolve_tenants(documents, None, lambda: "fallback")
    assert [document.tenant for document in by_default] == ["acme", "fallback"]
    by_flag = resolve_tenants(documents, "acme", lambda: pytest.fail("not needed"))
    assert [document.tenant for document in by_flag] == ["acme", "acme"]


def test_the_default_tenant_is_not_asked_for_where_no_document_needs_it() -> None:
    documents = set_of(manifest("Tenant", "acme"), manifest("Model", "m"), manifest("Skill", "a"))
    resolved = resolve_tenants(documents, None, lambda: pytest.fail("not needed"))
    assert [document.tenant for document in resolved] == [None, None, "acme"]


def test_a_tenant_that_differs_from_the_flag_is_refused() -> None:
    with pytest.raises(ManifestError) as caught:
        resolve_tenants(set_of(manifest("Skill", "a", "acme")), "other", lambda: "other")
    assert str(caught.value) == (
        'x.yaml:5:11: Skill "a": metadata.tenant: the tenant "acme" does not match the tenant'
        ' "other" of -n'
    )


def test_a_document_that_the_flag_makes_a_duplicate_is_refused() -> None:
    documents = set_of(manifest("Skill", "a", "acme"), manifest("Skill", "a", None))
    with pytest.raises(ManifestError, match=r"metadata\.name: is already given at x\.yaml:\d+:\d+"):
        resolve_tenants(documents, "acme", lambda: "acme")


def test_the_same_name_in_two_tenants_or_kinds_is_fine() -> None:
    documents = set_of(
        manifest("Skill", "a"), manifest("Skill", "a", "other"), manifest("Collection", "a")
    )
    assert len(documents) == 3
