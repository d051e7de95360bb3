"""The kinds: their table, defaults, printing and documentation, and the shipped manifests."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aosctl.domain.document import Document
from aosctl.domain.fields import SecretReference, Text
from aosctl.domain.kinds import BY_NAME, KINDS, Kind, kind_named
from aosctl.domain.kinds.base import Resource
from aosctl.domain.kinds.json_schema import schema_for
from aosctl.domain.kinds.reference import PAGE, SCHEMA, SCHEMAS, reference, rows, schema_files
from aosctl.domain.kinds.skill_words import BUILTINS
from aosctl.domain.manifest import load, loads
from aosctl.domain.relations import check_references
from aosctl.domain.structures import ListOf
from aosctl.domain.yaml_dump import dump_yaml
from aosctl.errors import UnknownKind
from aosctl.terminal import clean

ROOT = Path(__file__).parents[2]
SETS = sorted(
    path for path in (ROOT / "manifests").rglob("*") if path.is_dir() and list(path.glob("*.yaml"))
)


STATUS: dict[str, dict[str, Any]] = {
    "Tenant": {"agents": 1, "runs": 2},
    "Principal": {},
    "Secret": {
        "updatedAt": "2026-11-22T14:05:09.12+00:00",
        "keys": {"api_key": {"masterKey": "0" * 16, "digest": "A" * 12}},
    },
    "Model": {"builtin": False},
    "Collection": {"documents": 23, "chunks": 91, "embedded": 91, "search": "hybrid"},
    "McpServer": {"skills": ["tickets.search"]},
    "Skill": {"version": 3, "effect": "read", "runner": "kernel", "risk": "low"},
    "Policy": {"pendingApprovals": 1, "skills": ["refund_small"]},
    "Persona": {"version": 3},
    "Agent": {"personaVersion": 3, "model": "gpt-4o", "runs": 4, "openRuns": 2},
    "Budget": {"spentUsd": 0.0052, "tokens": 1700, "turns": 1},
    "Schedule": {
        "active": ["morning_report-29924646"],
        "lastScheduleTime": "2026-11-23T07:00:00Z",
        "missed": 0,
        "history": [{"time": "2026-11-23T07:00:00Z", "outcome": "fired", "run": "x"}],
    },
}


def as_resource(document: Document) -> Resource:
    return Resource(
        kind=document.kind,
        name=document.name,
        tenant=document.tenant,
        uid="0198c0de-0000-7000-8000-000000000001",
        generation=3,
        spec=document.spec,
        labels=document.labels,
        annotations=document.annotations,
        status=STATUS[document.kind],
        created_at=datetime(2026, 11, 22, 14, 5, 9, 120000, tzinfo=UTC),
    )


def example(kind: Kind, folder: Path) -> Document:
    (folder / "documents").mkdir(exist_ok=True)
    (folder / "documents" / "travel.md").write_text("Take the train.")
    return loads(kind.example, folder=folder)[0]


# The shipped manifests


@dataclass(frozen=True)
class Kernel:
    """What a fresh kernel with the quickstart applied has, as far as the examples need it."""

    def exists(self, kind: str, tenant: str | None, name: str) -> bool:
        return name in self.names(kind, tenant)

    def names(self, kind: str, tenant: str | None) -> list[str]:
        return {"Model": ["offline", "gpt-4o"], "Tenant": ["tech_corp"]}.get(kind, [])

    def embeds(self, model: str) -> bool:
        return False


@pytest.mark.parametrize("folder", SETS, ids=lambda path: path.name)
def test_a_shipped_set_of_manifests_is_valid(folder: Path) -> None:
    check_references(load([str(folder)]), Kernel())


def test_the_quickstart_is_the_agent_of_the_guide() -> None:
    documents = load([str(ROOT / "manifests" / "quickstart")])
    found = {(document.kind, document.name): document for document in documents}
    assert found["Agent", "my_pg_bot"].spec["persona"] == "pg_expert"
    assert set(found["Agent", "my_pg_bot"].spec["skills"]) == {
        "sql_query", "sql_execute", "rag_search", "memory_store", "memory_recall", "web_search",
    }  # fmt: skip
    assert set(found["Agent", "my_pg_bot"].spec["skills"]) < set(BUILTINS)
    prompt = found["Persona", "pg_expert"].spec["systemPrompt"]
    assert prompt.startswith("You are a PostgreSQL Database Administrator.")
    assert {document.tenant for document in documents} == {None, "tech_corp"}
    texts = [
        document["text"] for document in found["Collection", "postgres_notes"].spec["documents"]
    ]
    assert len(texts) >= 20
    assert all(80 <= len(text.split()) <= 200 for text in texts)


def test_every_text_of_the_quickstart_is_in_its_collection() -> None:
    folder = ROOT / "manifests" / "quickstart"
    (collection,) = load([str(folder / "25-collection.yaml")])
    listed = {document["source"] for document in collection.spec["documents"]}
    assert listed == {f"documents/{path.name}" for path in (folder / "documents").iterdir()}


# The table of kinds


@pytest.mark.parametrize(
    ("typed", "kind"),
    [
        ("persona", "Persona"),
        ("personas", "Persona"),
        ("per", "Persona"),
        ("Persona", "Persona"),
        ("personas.aos", "Persona"),
        ("ag", "Agent"),
        ("col", "Collection"),
        ("TENANTS", "Tenant"),
    ],
)
def test_a_kind_is_found_by_any_of_its_names(typed: str, kind: str) -> None:
    assert kind_named(typed).name == kind


def test_an_unknown_resource_type_has_kubectls_text_and_the_nearest_name() -> None:
    with pytest.raises(UnknownKind) as caught:
        kind_named("personae")
    assert str(caught.value) == (
        'the server doesn\'t have a resource type "personae"; did you mean "persona"?'
    )
    assert caught.value.hint == (
        "it has tenants, principals, secrets, models, collections, mcpservers, skills, policies,"
        " personas, agents, budgets, schedules"
    )


def test_no_two_kinds_share_a_name() -> None:
    typed = [name for kind in KINDS for name in (kind.singular, kind.plural, *kind.short_names)]
    assert len(typed) == len(set(typed))


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_knows_its_functions_in_the_kernel(kind: Kind) -> None:
    assert kind.apply_function == (kind.db_schema, f"apply_{kind.singular}")
    assert kind.delete_function == (kind.db_schema, f"delete_{kind.singular}")
    assert kind.view == (kind.db_schema, f"{kind.singular}_resource")


DEFAULTS: dict[str, dict[str, Any]] = {
    "Tenant": {"displayName": "x"},
    "Principal": {"type": "user", "displayName": "x", "roles": []},
    "Model": {
        "provider": "offline",
        "model": "x",
        "contextWindow": 128000,
        "maxOutputTokens": 4096,
        "timeoutSeconds": 120,
        "capabilities": {},
        "params": {},
        "pricing": {},
        "rateLimit": {},
        "retry": {"attempts": 3, "maxDelaySeconds": 20},
        "compaction": {"mode": "summarize", "at": 0.9, "keep": 0.3},
        "fallbacks": [],
        "active": True,
    },
    "Collection": {
        "description": "",
        "trust": "trusted",
        "chunking": {"characters": 1600, "overlap": 200},
        "documents": [],
    },
    "Skill": {
        "builtin": "sql_execute",
        "risk": "high",
        "approval": "risk",
        "roles": ["agent"],
        "timeoutSeconds": 30,
        "maxRows": 200,
        "maxBytes": 65536,
        "config": {},
        "touches": ["sensitive", "change"],
    },
    "Policy": {
        "skills": ["*"],
        "agents": ["*"],
        "roles": ["*"],
        "decision": "ask",
        "approvers": {"roles": [], "fourEyes": False},
    },
    "Persona": {
        "systemPrompt": "p",
        "description": "",
        "model": "m",
        "params": {},
        "rules": [],
        "traits": {},
    },
    "Agent": {
        "persona": "p",
        "description": "",
        "role": "agent",
        "collections": [],
        "limits": {"maxSteps": 50, "maxRepeats": 10},
    },
    "Budget": {
        "description": "",
        "scope": "tenant",
        "period": "day",
        "limits": {"maxUsd": 0.5},
    },
}
LEAST = {
    "Model": "{provider: offline}",
    "Skill": "{builtin: sql_execute}",
    "Policy": "{skills: ['*'], decision: ask}",
    "Persona": "{systemPrompt: p, model: m}",
    "Agent": "{persona: p}",
    "Budget": "{limits: {maxUsd: 0.5}}",
}


@pytest.mark.parametrize("kind", DEFAULTS)
def test_the_least_manifest_gets_every_default(kind: str) -> None:
    spec = LEAST.get(kind, "")
    text = f"apiVersion: aos/v1\nkind: {kind}\nmetadata: {{name: x}}\nspec: {spec}\n"
    assert loads(text)[0].spec == DEFAULTS[kind]


def test_absent_skills_differ_from_no_skills() -> None:
    text = "apiVersion: aos/v1\nkind: Agent\nmetadata: {name: x}\nspec: {persona: p, skills: []}\n"
    assert loads(text)[0].spec["skills"] == []


# Printing


CELLS = {
    "Tenant": ["tech_corp", "Tech Corp Inc.", 1, 2],
    "Principal": ["jane", "user", ["developer", "viewer"], "jane"],
    "Secret": ["openai", 1],
    "Model": ["local-qwen", "openai", "qwen3-32b", "chat", 32768, True],
    "Collection": ["handbook", 23, 91, 91, "text-embedding-3-small", "trusted"],
    "McpServer": ["tickets", "http", ["tickets.search"]],
    "Skill": ["sql_query", "sql_query", "read", "low", "risk"],
    "Policy": ["large_refunds", "ask", ["refund_*"], 1],
    "Persona": ["pg_expert", "gpt-4o", 3],
    "Agent": ["my_pg_bot", "pg_expert", "gpt-4o", 2],
    "Schedule": [
        "morning_report",
        "0 8 * * 1-5",
        "Europe/Berlin",
        "False",
        1,
        datetime(2026, 11, 23, 7, tzinfo=UTC),
    ],
    "Budget": ["team_day", "tenant", None, "day", "0.0052/25", "1700/5000000", None],
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_row_of_get_starts_with_the_name_and_ends_with_the_age(
    kind: Kind, tmp_path: Path
) -> None:
    resource = as_resource(example(kind, tmp_path))
    columns = [column for column in kind.columns if not column.wide]
    assert columns[0].header == "NAME"
    assert columns[-1].header == "AGE"
    cells = [column.value(resource) for column in columns]
    assert cells == [*CELLS[kind.name], resource.created_at]
    for column in kind.columns:
        column.value(resource)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_columns_bear_a_spec_that_lacks_everything(kind: Kind) -> None:
    bare = Resource(kind=kind.name, name="x", tenant=None, uid="u", generation=1, spec={})
    assert [column.value(bare) for column in kind.columns][:1] == ["x"]
    kind.describe(bare)


def test_describe_lists_the_fields_below_their_headings(tmp_path: Path) -> None:
    entries = BY_NAME["Skill"].describe(as_resource(example(BY_NAME["Skill"], tmp_path)))
    labels = [label for label, _ in entries]
    assert labels == [
        "Name", "Tenant", "Labels", "Annotations", "UID", "Generation", "Created", "Spec", "Status",
    ]  # fmt: skip
    spec = dict(dict(entries)["Spec"])
    assert spec["Max Rows"] == 100
    ((_, grant),) = dict(spec["Sql"])["Grants"]
    assert dict(grant)["Tables"] == ["customer", "product"]


def test_describe_shows_titles_and_sizes_of_documents_not_their_texts(tmp_path: Path) -> None:
    kind = BY_NAME["Collection"]
    entries = kind.describe(as_resource(example(kind, tmp_path)))
    assert entries[-1] == (
        "Documents",
        [("Holidays", "39 characters"), ("Travel", "15 characters")],
    )


# Back to a manifest


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_what_get_prints_applies_back_unchanged(kind: Kind, tmp_path: Path) -> None:
    document = example(kind, tmp_path)
    manifest = kind.to_manifest(as_resource(document))
    for text in (dump_yaml(manifest), json.dumps(manifest), json.dumps(manifest, indent="\t")):
        (again,) = loads(text)
        assert (again.kind, again.name, again.tenant) == (kind.name, document.name, document.tenant)
        assert again.spec == document.spec
        assert again.labels == document.labels
        assert again.generation == 3


def test_a_manifest_keeps_what_the_server_owns_apart(tmp_path: Path) -> None:
    kind = BY_NAME["Tenant"]
    document = replace(
        example(kind, tmp_path),
        spec={"displayName": "Tech Corp Inc.", "retention": {"content": "90d", "events": "400d"}},
    )
    assert kind.to_manifest(as_resource(document)) == {
        "apiVersion": "aos/v1",
        "kind": "Tenant",
        "metadata": {
            "name": "tech_corp",
            "uid": "0198c0de-0000-7000-8000-000000000001",
            "generation": 3,
            "creationTimestamp": "2026-11-22T14:05:09.120000Z",
        },
        "spec": {
            "displayName": "Tech Corp Inc.",
            "retention": {"content": "90d", "events": "400d"},
        },
        "status": {"agents": 1, "runs": 2},
    }


TEXT = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff")
    | st.sampled_from("\n\t\r \x85\u0301\u200d\u202e\ufe0f\U000e0100\U000e0041"),
    max_size=60,
) | st.sampled_from(
    ["no", "on", "null", "~", "true", "0777", "12:30", "1e3", "1E-3", "-0", "0x1f", "1_000", ".5",
     "2026-01-31", "<<", "=", "- a", "a: b", "# c", "'", '"', " a ", "\n", "a\n", "\na", "&a", "*a",
     "!x", "%a", "@a", "`a", "---", "...", "{", "[", "|", ">", "\\ud83d", "NaN", ".inf", "Null"]
)  # fmt: skip
FREE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(TEXT.filter(lambda key: key not in ("", "<<")), inner, max_size=4)
    ),
    max_leaves=12,
)
NAMES = st.from_regex(r"[a-z0-9][a-z0-9_.-]{0,20}", fullmatch=True)


def test_every_character_that_a_terminal_must_not_get_survives_printing_and_loading() -> None:
    """Wherever it stands in a text, and where it is all of it."""
    codes = [*range(0xA0, 0xD800), *range(0xE000, 0xE0000), *range(0xE0000, 0x110000, 16)]
    kept = set(clean("a".join(map(chr, codes))))
    stripped = [char for char in map(chr, codes) if char not in kept]
    assert len(stripped) > 200 and "\U000e0100" in stripped
    texts = [text for char in stripped for text in (char, f"a{char}b", f"{char}\n{char}")]
    spec = {"systemPrompt": "x", "model": "m", "traits": {"texts": texts}}
    persona = {"apiVersion": "aos/v1", "kind": "Persona", "metadata": {"name": "odd"}, "spec": spec}
    (document,) = loads(dump_yaml(persona))
    assert document.spec["traits"]["texts"] == texts


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    prompt=TEXT.filter(lambda text: text.strip() != ""),
    rules=st.lists(TEXT.filter(lambda text: text.strip() != ""), max_size=4),
    traits=st.dictionaries(TEXT.filter(lambda key: key.strip() != ""), FREE, max_size=4),
    name=NAMES,
    labels=st.dictionaries(NAMES, st.sampled_from(["", "no", "1.10", "a_b"]), max_size=3),
)
def test_any_spec_survives_printing_and_loading(
    prompt: str, rules: list[str], traits: dict[str, Any], name: str, labels: dict[str, str]
) -> None:
    spec: dict[str, Any] = {"systemPrompt": prompt, "description": "", "model": name}
    spec |= {"params": {}, "rules": rules, "traits": traits}
    resource = Resource(
        kind="Persona", name=name, tenant=name, uid="u", generation=1, spec=spec, labels=labels
    )
    manifest = BY_NAME["Persona"].to_manifest(resource)
    for text in (dump_yaml(manifest), json.dumps(manifest), json.dumps(manifest, indent=2)):
        (document,) = loads(text)
        assert json.dumps(document.spec, sort_keys=True) == json.dumps(spec, sort_keys=True)
        assert (document.name, document.tenant, document.labels) == (name, name, labels)


# The reference


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_every_field_is_documented(kind: Kind) -> None:
    for row in rows(kind.fields):
        assert row.field.doc.endswith(".")
        assert "|" not in row.field.doc


def test_the_reference_is_up_to_date() -> None:
    remedy = "run: python -m aosctl.domain.kinds.reference docs"
    assert (ROOT / "docs" / PAGE).read_text(encoding="utf-8") == reference(), remedy
    assert {p.name for p in (ROOT / "docs" / SCHEMAS).iterdir()} | {SCHEMA} == set(schema_files())
    for name, text in schema_files().items():
        place = ROOT / "docs" if name == SCHEMA else ROOT / "docs" / SCHEMAS
        assert (place / name).read_text(encoding="utf-8") == text, remedy


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_json_schema_of_a_kind_is_draft_7_and_knows_its_fields(kind: Kind) -> None:
    schema = schema_for(kind)
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    document = yaml.safe_load(kind.example)
    validator.validate(document)
    document["spec"]["modle"] = "x"
    with pytest.raises(jsonschema.ValidationError, match="modle"):
        validator.validate(document)


def test_a_field_type_takes_what_it_declares_and_is_never_changed() -> None:
    text: Any = Text
    with pytest.raises(TypeError, match="Text has no maxlength"):
        text(maxlength=3)
    with pytest.raises(TypeError, match="ListOf needs item"):
        ListOf()  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        text("x")
    short: Any = Text(max_length=3)
    with pytest.raises(AttributeError, match="never changed: max_length"):
        short.max_length = 4
    assert (short.max_length, Text().max_length, SecretReference().max_length) == (3, 2_000, 320)
