"""What a manifest must not be, and the exact words that say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aosctl.domain.document import FIELDS_HINT, fields_hint
from aosctl.domain.manifest import load, loads
from aosctl.errors import ManifestError
from refusals import COLLECTION, FIELDS, PERSONA, SKILL, TOGETHER

UTF8 = "a manifest is YAML or JSON in UTF-8; iconv -t utf-8 converts others"


def refusal(text: str | bytes, folder: Path | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        loads(text, "x.yaml", folder)
    return str(caught.value)


@pytest.mark.parametrize("case", FIELDS)
def test_a_wrong_field_is_refused_with_its_place_and_the_nearest_valid_name(case: str) -> None:
    text, expected = FIELDS[case]
    assert refusal(text) == expected


YAML = {
    "duplicate key": (
        SKILL + "  risk: high\n  risk: low\n",
        'x.yaml:8:3: duplicate key "risk", first given on line 7',
    ),
    "duplicate key in JSON": (
        '{"kind": "Tenant", "apiVersion": "aos/v1", "metadata": {"name": "a", "name": "b"}}',
        'x.yaml:1:70: duplicate key "name", first given on line 1',
    ),
    "anchor": (
        PERSONA.replace("hi", "&p hi"),
        'x.yaml:7:17: the anchor "&p" is not read; write the value out',
    ),
    "alias": (
        PERSONA.replace("hi", "*p"),
        'x.yaml:7:17: the alias "*p" is not read; write the value out',
    ),
    "merge key": (
        PERSONA + "  <<: {a: b}\n",
        "x.yaml:8:3: the merge key << is not read; write the fields out",
    ),
    "standard tag": (
        PERSONA.replace("hi", "!!str 1"),
        'x.yaml:7:17: the tag "!!str" is not read; write plain values',
    ),
    "tag of one's own": (
        PERSONA.replace("hi", "!env HOME"),
        'x.yaml:7:17: the tag "!env" is not read; write plain values',
    ),
    "number as a key": (
        PERSONA + "  traits: {1: a}\n",
        'x.yaml:8:12: a key is a string; quote it: "1"',
    ),
    "list as a key": (
        PERSONA + "  ? [a]\n  : b\n",
        "x.yaml:8:5: a key is a string, not a list or a mapping",
    ),
    "integer above 64 bits": (
        PERSONA + "  params: {seed: 9223372036854775808}\n",
        "x.yaml:8:18: the number 9223372036854775808 does not fit 64 bits",
    ),
    "number beyond all bounds": (
        PERSONA + "  params: {t: 1e999}\n",
        "x.yaml:8:15: the number 1e999 is too large",
    ),
    "escaped NUL": (
        PERSONA.replace("hi", '"a\\0b"'),
        "x.yaml:7:17: the text holds the control character U+0000",
    ),
    "escaped escape": (
        PERSONA.replace("hi", '"\\e[31mred"'),
        "x.yaml:7:17: the text holds the control character U+001B",
    ),
    "not YAML": (
        "kind: Persona: x\n",
        "x.yaml:1:14: mapping values are not allowed in this context",
    ),
    "a tab as indentation": (
        "kind: x\nmetadata:\n\tname: y\n",
        "x.yaml:3:1: a tab stands here: YAML is indented with spaces",
    ),
    "a file that was half written": (
        PERSONA.replace("hi", '"You are a Postg'),
        "x.yaml:8:1: while scanning a quoted scalar, found unexpected end of stream",
    ),
    "JSON that was half written": (
        '{"apiVersion": "aos/v1", "kind": "Tenant", "metadata": {"name": ',
        "x.yaml:2:1: while parsing a flow node, did not find expected node content",
    ),
}


@pytest.mark.parametrize("case", YAML)
def test_yaml_that_is_more_or_less_than_plain_data_is_refused(case: str) -> None:
    text, expected = YAML[case]
    assert refusal(text) == expected


BYTES = {
    "binary": (
        b"\x7fELF\x02\x01\x01\x00",
        "x.yaml:1:1: the control character 0x7f stands here: this is no text file",
    ),
    "NUL in the text": (
        PERSONA.encode().replace(b"hi", b"h\0i"),
        "x.yaml:7:18: the control character 0x00 stands here: this is no text file",
    ),
    "Latin-1": (
        PERSONA.encode().replace(b"hi", "Grüße".encode("latin-1")),
        "x.yaml:7:19: the byte 0xfc stands here: this is no UTF-8 text",
    ),
    "UTF-16": (
        PERSONA.encode("utf-16"),
        "x.yaml:1:4: the control character 0x00 stands here: this is no text file",
    ),
    "a lone surrogate": (
        PERSONA.encode().replace(b"hi", b"\xed\xa0\x80"),
        "x.yaml:7:17: the byte 0xed stands here: this is no UTF-8 text",
    ),
}


@pytest.mark.parametrize("case", BYTES)
def test_bytes_that_are_no_text_are_refused(case: str) -> None:
    data, expected = BYTES[case]
    assert refusal(data) == expected


@pytest.mark.parametrize("case", TOGETHER)
def test_values_that_do_not_go_together_are_refused(case: str) -> None:
    text, expected = TOGETHER[case]
    assert refusal(text) == expected


NAMES = [
    "x; drop table agent",
    'x"y',
    "x\ny",
    "x" * 10_000,
    "x" * 64,
    "-x",
    ".",
    "..",
    "../etc",
    "_x",
    "а",  # noqa: RUF001  # Cyrillic
    "x\u202ey",
    "x y",
    "X",
    "é",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_name_is_refused_on_one_printable_line(name: str) -> None:
    message = refusal(PERSONA.replace("pg_expert", json.dumps(name)))
    assert "is not a name: 1 to 63 of a-z 0-9 _ . -" in message or "at most 63 fit" in message
    assert message.isprintable()
    assert len(message) < 400


@pytest.mark.parametrize("name", ["x", "0", "my_pg_bot", "gpt-4o", "a.b", "x" * 63, "pg_x"])
def test_the_names_of_the_grammar_are_accepted(name: str) -> None:
    assert loads(PERSONA.replace("pg_expert", json.dumps(name)))[0].name == name


@pytest.fixture
def beside(tmp_path: Path) -> Path:
    folder = tmp_path / "manifests"
    (folder / "documents").mkdir(parents=True)
    (folder / "documents" / "good.md").write_text("fine")
    (folder / "empty.md").write_text(" \n")
    (folder / "binary.md").write_bytes(b"a\0b")
    (folder / "latin.md").write_bytes(b"Gr\xfc\xdfe")
    (folder / "large.md").write_text("x" * 1_000_001)
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "link.md").symlink_to(tmp_path / "secret.txt")
    (folder / "outside").symlink_to(tmp_path)
    (folder / "loop.md").symlink_to(folder / "loop.md")
    (folder / "inside.md").symlink_to(folder / "documents" / "good.md")
    return folder


ESCAPES = {
    "../secret.txt": '"../secret.txt" leaves the manifest\'s folder',
    "../../etc/passwd": '"../../etc/passwd" leaves the manifest\'s folder',
    "documents/../../secret.txt": '"documents/../../secret.txt" leaves the manifest\'s folder',
    "/etc/passwd": '"/etc/passwd" is not a path relative to the manifest\'s folder',
    "/proc/self/environ": '"/proc/self/environ" is not a path relative to the manifest\'s folder',
    "file:///etc/passwd": '"file:///etc/passwd" is not a path relative to the manifest\'s folder',
    "link.md": '"link.md" leaves the manifest\'s folder',
    "outside/secret.txt": '"outside/secret.txt" leaves the manifest\'s folder',
    "documents": 'the file "documents" can\'t be read: Is a directory',
    "missing.md": 'the file "missing.md" can\'t be read: No such file or directory',
    "empty.md": 'the file "empty.md" is empty',
    "binary.md": 'the file "binary.md" holds control characters',
    "latin.md": 'the file "latin.md" is no UTF-8 text',
    "large.md": 'the file "large.md" is larger than 1 MB',
}


@pytest.mark.parametrize("name", ESCAPES)
def test_a_file_that_leaves_the_folder_or_is_no_text_is_refused(name: str, beside: Path) -> None:
    message = refusal(COLLECTION + f"  - {{title: a, file: {name}}}\n", beside)
    where = 'x.yaml:7:22: Collection "notes": spec.documents[0].file'
    assert message == f"{where}: {ESCAPES[name]}"
    assert "secret" not in message.replace("secret.txt", "")


def test_a_symlink_that_goes_round_in_circles_is_refused(beside: Path) -> None:
    message = refusal(COLLECTION + "  - {title: a, file: loop.md}\n", beside)
    assert 'spec.documents[0].file: "loop.md" can\'t be followed: Symlink loop' in message


@pytest.mark.parametrize("name", ["documents/good.md", "inside.md", "documents/../inside.md"])
def test_a_file_inside_the_folder_is_read(name: str, beside: Path) -> None:
    text = COLLECTION + f"  - {{title: a, file: {name}}}\n"
    assert loads(text, folder=beside)[0].spec["documents"] == [
        {"title": "a", "source": name, "text": "fine"}
    ]


def test_every_problem_of_a_set_is_reported_and_nothing_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(PERSONA + "  modle: x\n  rules: none\n")
    (tmp_path / "b.yaml").write_text(SKILL)
    (tmp_path / "c.yaml").write_text("kind: [")
    with pytest.raises(ManifestError) as caught:
        load([str(tmp_path)])
    assert str(caught.value).splitlines() == [
        "3 problems, nothing was done:",
        f'{tmp_path}/a.yaml:8:3: Persona "pg_expert": spec.modle: unknown field;'
        ' did you mean "model"?',
        f'{tmp_path}/a.yaml:9:10: Persona "pg_expert": spec.rules: expected a list,'
        ' found the string "none"; write it as a list of one',
        f"{tmp_path}/c.yaml:2:1: while parsing a flow node, did not find expected node content",
    ]
    assert caught.value.hint == FIELDS_HINT


HINTS: dict[str, tuple[bytes, str | None]] = {
    "another apiVersion": (b"apiVersion: v9\nkind: Persona\nmetadata: {}\nspec: {x: y}\n", None),
    "no text": (b"\x00\x01", UTF8),
    "no UTF-8": (b"\xe9", UTF8),
    "a file that is missing": (
        b"apiVersion: aos/v1\nkind: Collection\nmetadata: {name: c}\n"
        b"spec: {documents: [{title: a, file: b.md}]}\n",
        "a file that a manifest names is looked for in the manifest's own folder",
    ),
    "a field": (b"kind: Persona\n", fields_hint("persona")),
    "a field and a file": (
        b"apiVersion: aos/v1\nkind: Collection\nmetadata: {name: c}\n"
        b"spec: {documents: [{title: a, file: b.md}]}\n---\nkind: Persona\n", FIELDS_HINT),
}  # fmt: skip


@pytest.mark.parametrize("name", HINTS)
def test_the_hint_fits_what_is_wrong(name: str, tmp_path: Path) -> None:
    data, hint = HINTS[name]
    (tmp_path / "x.yaml").write_bytes(data)
    with pytest.raises(ManifestError) as caught:
        load([str(tmp_path / "x.yaml")])
    assert caught.value.hint == hint
    assert ("\n" in str(caught.value)) is (name in ("a field and a file", "a field"))


def test_more_than_twenty_problems_are_counted_not_listed() -> None:
    message = refusal("---\n".join(["kind: Wizard\n"] * 25))
    assert message.splitlines()[0] == "25 problems, nothing was done:"
    assert len(message.splitlines()) == 22
    assert message.splitlines()[-1] == "… and 5 more"


def test_the_same_document_twice_is_refused() -> None:
    assert refusal(PERSONA + "---\n" + PERSONA) == (
        'x.yaml:12:9: Persona "pg_expert": metadata.name: is already given at x.yaml:4:9'
    )


def test_control_characters_of_a_manifest_never_reach_the_terminal() -> None:
    message = refusal('kind: "\\e]0;owned\\a"\n')
    assert message.replace("\n", "").isprintable()
