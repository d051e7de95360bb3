"""`aosctl schema`: what editors are given, held against manifests that are good and bad."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from aosctl.domain.fields import plain
from aosctl.domain.kinds import KINDS
from aosctl.domain.kinds.base import Kind
from aosctl.domain.kinds.json_schema import DECLARED
from aosctl.domain.kinds.reference import SCHEMA, SCHEMAS
from aosctl.domain.yaml_text import read_documents
from aosctl.resources import resource_dir
from command import Aosctl
from refusals import FIELDS, TOGETHER

SHIPPED = sorted(resource_dir("manifests").rglob("*.yaml"))
MARK = "# yaml-language-server: $schema="


def documents(text: str) -> Iterator[Any]:
    """Read manifests as aosctl does, without looking at what they say."""
    problems: list[str] = []
    for node in read_documents(text.encode(), lambda _l, _c, said: problems.append(said)):
        yield plain(node)
    assert not problems


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft7Validator:
    """The schema of all kinds."""
    schema = json.loads((resource_dir("docs") / SCHEMA).read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    return jsonschema.Draft7Validator(schema)


def test_the_verb_prints_what_is_shipped(aosctl: Aosctl) -> None:
    done = aosctl("schema")
    assert (done.status, done.err) == (0, "")
    assert done.out == (resource_dir("docs") / SCHEMA).read_text()
    done = aosctl("schema", "per")
    assert (done.status, done.err) == (0, "")
    assert done.out == (resource_dir("docs") / SCHEMAS / "persona.schema.json").read_text()


def test_schemas_are_written_into_files(aosctl: Aosctl, tmp_path: Path) -> None:
    file = tmp_path / "agent.json"
    done = aosctl("schema", "agents", "-o", str(file))
    assert (done.status, done.out, done.err) == (0, "", "")
    assert json.loads(file.read_text())["title"] == "Agent"
    folder = tmp_path / "new" / "schemas"
    done = aosctl("schema", "--all", str(folder))
    assert (done.status, done.err) == (0, "")
    names = {path.name for path in folder.iterdir()}
    assert names == {SCHEMA, *(f"{kind.singular}.schema.json" for kind in DECLARED)}
    assert sorted(done.out.splitlines()) == sorted(str(folder / name) for name in names)


def test_what_can_not_be_written_is_said(aosctl: Aosctl, tmp_path: Path) -> None:
    missing = tmp_path / "none" / "x.json"
    for words, status, text in (
        (["nope"], 1, 'error: the server doesn\'t have a resource type "nope"'),
        (["run"], 2, "error: runs are not declared in manifests"),
        (
            ["agent", "--all", "x"],
            2,
            "error: --all and KIND exclude each other: --all DIR writes every schema",
        ),
        (["-o", str(missing)], 1, f"error: can't write {missing}: No such file or directory"),
        (["--all", "/dev/null"], 1, "error: can't make the folder /dev/null: File exists"),
    ):
        done = aosctl("schema", *words)
        assert (done.status, done.out, done.err.splitlines()[0]) == (status, "", text)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.name)
def test_a_shipped_manifest_fits_and_says_where_the_schema_is(
    path: Path, validator: jsonschema.Draft7Validator
) -> None:
    text = path.read_text()
    for document in documents(text):
        validator.validate(document)
    schema = (resource_dir("docs") / SCHEMA).resolve()
    for part in text.split("\n---\n"):  # yaml-language-server reads the line of each document alone
        head = part.partition("apiVersion")[0]
        (mark,) = [line for line in head.splitlines() if line.startswith(MARK)]
        assert (path.parent / mark.removeprefix(MARK)).resolve() == schema


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_an_example_fits_its_kind_and_no_other(kind: Kind) -> None:
    (document,) = documents(kind.example)
    for other in KINDS:
        text = (resource_dir("docs") / SCHEMAS / f"{other.singular}.schema.json").read_text()
        fits = jsonschema.Draft7Validator(json.loads(text)).is_valid(document)
        assert fits == (other is kind)


@pytest.mark.parametrize("case", FIELDS)
def test_an_editor_sees_what_apply_refuses_of_a_field(
    case: str, validator: jsonschema.Draft7Validator
) -> None:
    text, _ = FIELDS[case]
    assert not all(validator.is_valid(document) for document in documents(text))


def test_what_concerns_several_fields_is_left_to_apply(
    validator: jsonschema.Draft7Validator,
) -> None:
    seen = {
        case
        for case, (text, _) in TOGETHER.items()
        if not all(validator.is_valid(document) for document in documents(text))
    }
    assert seen == {"the key itself in place of its variable"}
