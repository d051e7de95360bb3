"""What a manifest must not be, and the exact words that say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from aosctl.domain.manifest import load, loads
from aosctl.errors import ManifestError

HINT = "every field of every kind: docs/manifests.md; worked examples: manifests/quickstart"
UTF8 = "a manifest is YAML or JSON in UTF-8; iconv -t utf-8 converts others"

PERSONA = """\
apiVersion: aos/v1
kind: Persona
metadata:
  name: pg_expert
spec:
  model: gpt-4o
  systemPrompt: hi
"""
SKILL = """\
apiVersion: aos/v1
kind: Skill
metadata:
  name: sql
spec:
  builtin: sql_query
"""
MODEL = """\
apiVersion: aos/v1
kind: Model
metadata:
  name: mine
spec:
  provider: openai
"""
COLLECTION = """\
apiVersion: aos/v1
kind: Collection
metadata:
  name: notes
spec:
  documents:
"""


def refusal(text: str | bytes, folder: Path | None = None) -> str:
    with pytest.raises(ManifestError) as caught:
        loads(text, "x.yaml", folder)
    return str(caught.value)


FIELDS = {
    "an unknown field": (
        PERSONA + "  modle: x\n",
        'x.yaml:8:3: Persona "pg_expert": spec.modle: unknown field; did you mean "model"?',
    ),
    "another spelling of a field": (
        PERSONA.replace("systemPrompt", "system_prompt"),
        'x.yaml:7:3: Persona "pg_expert": spec.system_prompt: unknown field;'
        ' did you mean "systemPrompt"?',
    ),
    "an unknown field with nothing near it": (
        PERSONA + "  zzz: x\n",
        'x.yaml:8:3: Persona "pg_expert": spec.zzz: unknown field',
    ),
    "an unknown field beside spec": (
        PERSONA + "spek: {}\n",
        'x.yaml:8:1: Persona "pg_expert": spek: unknown field; did you mean "spec"?',
    ),
    "an unknown field of metadata": (
        PERSONA.replace("name: pg_expert", "name: pg_expert\n  lables: {a: b}"),
        'x.yaml:5:3: Persona "pg_expert": metadata.lables: unknown field; did you mean "labels"?',
    ),
    "a missing field": (
        PERSONA.replace("  model: gpt-4o\n", ""),
        'x.yaml:6:3: Persona "pg_expert": spec.model: is required',
    ),
    "a misspelt field that is needed": (
        PERSONA.replace("model", "modle"),
        'x.yaml:6:3: Persona "pg_expert": spec.modle: unknown field; did you mean "model"?',
    ),
    "a null where a value is needed": (
        PERSONA.replace("model: gpt-4o", "model: ~"),
        'x.yaml:6:3: Persona "pg_expert": spec.model: is required',
    ),
    "a missing spec": (
        "apiVersion: aos/v1\nkind: Agent\nmetadata: {name: a}\n",
        'x.yaml:1:1: Agent "a": spec.persona: is required',
    ),
    "a missing name": (
        "apiVersion: aos/v1\nkind: Tenant\nmetadata: {labels: {}}\n",
        "x.yaml:3:11: Tenant: metadata.name: is required",
    ),
    "an empty prompt": (
        PERSONA.replace("hi", '"  "'),
        'x.yaml:7:17: Persona "pg_expert": spec.systemPrompt: must not be empty',
    ),
    "a number for a string": (
        PERSONA.replace("model: gpt-4o", "model: 4"),
        'x.yaml:6:10: Persona "pg_expert": spec.model: expected a string, found the number 4;'
        ' quote it: "4"',
    ),
    "a boolean for a string": (
        PERSONA.replace("hi", "true"),
        'x.yaml:7:17: Persona "pg_expert": spec.systemPrompt: expected a string,'
        ' found the boolean true; quote it: "true"',
    ),
    "a mapping for a string": (
        PERSONA.replace("hi", "{a: b}"),
        'x.yaml:7:17: Persona "pg_expert": spec.systemPrompt: expected a string, found a mapping',
    ),
    "no is a string": (
        MODEL + "  active: no\n",
        'x.yaml:7:11: Model "mine": spec.active: expected true or false, found the string "no";'
        " only these two words, unquoted, are booleans",
    ),
    "a quoted boolean": (
        MODEL + '  active: "true"\n',
        'x.yaml:7:11: Model "mine": spec.active: expected true or false, found the string "true";'
        " only these two words, unquoted, are booleans",
    ),
    "12:30 is a string": (
        SKILL + "  maxRows: 12:30\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the string "12:30";'
        " it is written in plain digits, no quotes, no leading zero",
    ),
    "0777 is a string": (
        SKILL + "  maxRows: 0777\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the string "0777";'
        " it is written in plain digits, no quotes, no leading zero",
    ),
    "1_000 is a string": (
        SKILL + "  timeoutSeconds: 1_000\n",
        'x.yaml:7:19: Skill "sql": spec.timeoutSeconds: expected a number, found the string'
        ' "1_000"; it is written in plain digits, no quotes, no leading zero',
    ),
    "a fraction for an integer": (
        SKILL + "  maxRows: 1.5\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the number 1.5',
    ),
    "a boolean for an integer": (
        SKILL + "  maxRows: true\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: expected an integer, found the boolean true',
    ),
    "too small a number": (
        SKILL + "  maxRows: 0\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: 0 is too small; at least 1 is needed',
    ),
    "too large a number": (
        SKILL + "  maxRows: 100001\n",
        'x.yaml:7:12: Skill "sql": spec.maxRows: 100001 is too large; at most 100,000 is allowed',
    ),
    "a word for a list": (
        SKILL + "  roles: agent\n",
        'x.yaml:7:10: Skill "sql": spec.roles: expected a list, found the string "agent";'
        " write it as a list of one",
    ),
    "a list for a mapping": (
        PERSONA + "  params: [1]\n",
        'x.yaml:8:11: Persona "pg_expert": spec.params: expected a mapping, found a list',
    ),
    "a value twice in a list": (
        SKILL + "  roles: [a, b, a]\n",
        'x.yaml:7:17: Skill "sql": spec.roles[2]: "a" is listed twice',
    ),
    "a word that is no choice": (
        SKILL.replace("sql_query", "sql_qery"),
        'x.yaml:6:12: Skill "sql": spec.builtin: "sql_qery" is not one of sql_query, sql_execute,'
        ' rag_search, memory_store, memory_recall, web_search; did you mean "sql_query"?',
    ),
    "another apiVersion": (
        PERSONA.replace("aos/v1", "aos/v2"),
        'x.yaml:1:13: Persona "pg_expert": apiVersion: expected "aos/v1", found "aos/v2"',
    ),
    "an unknown kind": (
        'apiVersion: aos/v1\nkind: Wizard\nmetadata: {name: "bad"}\n',
        'x.yaml:2:7: "bad": no matches for kind "Wizard" in version "aos/v1"; the kinds are'
        " Tenant, Principal, Secret, Model, Collection, Skill, Policy, Persona, Agent, Budget",
    ),
    "a kind in small letters": (
        PERSONA.replace("Persona", "persona"),
        'x.yaml:2:7: "pg_expert": no matches for kind "persona" in version "aos/v1";'
        ' did you mean "Persona"?',
    ),
    "no kind": ("apiVersion: aos/v1\n", "x.yaml:1:1: kind: is required"),
    "a kind that is no string": ("kind: [Persona]\n", "x.yaml:1:7: kind: expected a string"),
    "a document that is no mapping": (
        "hello\n",
        "x.yaml:1:1: a manifest is a mapping with apiVersion, kind, metadata and spec;"
        ' found the string "hello"',
    ),
    "a cluster-wide kind with a tenant": (
        MODEL.replace("name: mine", "name: mine\n  tenant: t"),
        'x.yaml:5:3: Model "mine": metadata.tenant: this kind belongs to no tenant; leave it out',
    ),
    "a name with capitals": (
        PERSONA.replace("pg_expert", "PgExpert"),
        'x.yaml:4:9: Persona "PgExpert": metadata.name: "PgExpert" is not a name:'
        " 1 to 63 of a-z 0-9 _ . -, the first a letter or a digit",
    ),
    "a label that can't be selected": (
        PERSONA.replace("name: pg_expert", "name: pg_expert\n  labels: {team: a b}"),
        'x.yaml:5:18: Persona "pg_expert": metadata.labels.team: "a b" is not a label\'s value:'
        " letters, digits, _ . -, the first and last a letter or a digit",
    ),
    "a label that is a number": (
        PERSONA.replace("name: pg_expert", "name: pg_expert\n  labels: {rev: 1.10}"),
        'x.yaml:5:17: Persona "pg_expert": metadata.labels.rev: expected a string,'
        ' found the number 1.10; quote it: "1.10"',
    ),
    "an item of a List": (
        "apiVersion: v1\nkind: List\nitems:\n- apiVersion: aos/v1\n  kind: Agent\n"
        "  metadata: {name: a}\n  spec: {}\n",
        'x.yaml:7:9: Agent "a": spec.persona: is required',
    ),
    "a List without items as a list": (
        "apiVersion: v1\nkind: List\nitems: {}\n",
        "x.yaml:3:8: List: items: expected a list",
    ),
}


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
        "x.yaml:3:1: while scanning for the next token, found character that cannot start any"
        " token",
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


TOGETHER = {
    "the key itself in place of its variable": (
        MODEL + "  apiKeyEnv: sk-proj-0123456789abcdef\n",
        'x.yaml:7:14: Model "mine": spec.apiKeyEnv: takes the name of an environment variable,'
        " such as OPENAI_API_KEY, never the key itself",
    ),
    "an endpoint of another scheme": (
        MODEL + "  baseUrl: file:///etc/passwd\n",
        'x.yaml:7:12: Model "mine": spec.baseUrl: is not an http or https URL',
    ),
    "an endpoint with a password": (
        MODEL + "  baseUrl: https://me:secret@host/v1\n",
        'x.yaml:7:12: Model "mine": spec.baseUrl: holds a user name or password;'
        " keys come from the variable in apiKeyEnv",
    ),
    "a script for a real provider": (
        MODEL + "  script: [{text: a}]\n",
        'x.yaml:7:11: Model "mine": spec.script: goes with the provider script only',
    ),
    "the provider script without one": (
        MODEL.replace("openai", "script"),
        'x.yaml:6:3: Model "mine": spec.script: is required with the provider script',
    ),
    "an empty step of a script": (
        MODEL.replace("openai", "script") + "  script: [{text: a}, {}]\n",
        'x.yaml:7:23: Model "mine": spec.script[1]: needs a text, a think or calls',
    ),
    "an answer longer than the window": (
        MODEL + "  contextWindow: 1000\n",
        'x.yaml:6:3: Model "mine": spec.maxOutputTokens: is larger than the context window',
    ),
    "tables for a skill without SQL": (
        SKILL.replace("sql_query", "rag_search") + "  sql: {}\n",
        'x.yaml:7:8: Skill "sql": spec.sql: goes with sql_query and sql_execute only',
    ),
    "a write for a skill that reads": (
        SKILL + "  sql: {grants: [{schema: shop, tables: [a], privileges: [select, delete]}]}\n",
        'x.yaml:7:58: Skill "sql": spec.sql.grants[0].privileges: sql_query only reads;'
        " delete goes with sql_execute",
    ),
    "a grant on the kernel": (
        SKILL + "  sql: {grants: [{schema: aos_auth, tables: [a], privileges: [select]}]}\n",
        'x.yaml:7:27: Skill "sql": spec.sql.grants[0].schema: the schema aos_auth is not open'
        " to agents",
    ),
    "a grant on the catalog": (
        SKILL + "  sql: {searchPath: [pg_catalog]}\n",
        'x.yaml:7:22: Skill "sql": spec.sql.searchPath[0]: the schema pg_catalog is not open'
        " to agents",
    ),
    "columns of all tables": (
        SKILL + "  sql: {grants: [{schema: s, tables: ['*'], columns: [a],"
        " privileges: [select]}]}\n",
        'x.yaml:7:54: Skill "sql": spec.sql.grants[0].columns: needs tables by name, not "*"',
    ),
    "all tables and one of them": (
        SKILL + "  sql: {grants: [{schema: s, tables: ['*', a], privileges: [select]}]}\n",
        'x.yaml:7:38: Skill "sql": spec.sql.grants[0].tables: lists "*" beside other tables;'
        ' "*" is all of them',
    ),
    "a delete of columns": (
        SKILL.replace("sql_query", "sql_execute")
        + "  sql: {grants: [{schema: s, tables: [a], columns: [b], privileges: [delete]}]}\n",
        'x.yaml:7:52: Skill "sql": spec.sql.grants[0].columns: goes with select, insert and'
        " update; delete takes whole rows",
    ),
    "a login that PostgreSQL keeps": (
        "apiVersion: aos/v1\nkind: Principal\nmetadata: {name: p}\nspec: {dbRole: pg_monitor}\n",
        'x.yaml:4:16: Principal "p": spec.dbRole: is a name that PostgreSQL keeps for itself',
    ),
    "a document without a text": (
        COLLECTION + "  - title: a\n",
        'x.yaml:7:5: Collection "notes": spec.documents[0]: needs either text or file',
    ),
    "a document with text and file": (
        COLLECTION + "  - {title: a, text: b, file: c}\n",
        'x.yaml:7:5: Collection "notes": spec.documents[0]: needs either text or file',
    ),
    "two documents with one title": (
        COLLECTION + "  - {title: a, text: b}\n  - {title: a, text: c}\n",
        'x.yaml:8:13: Collection "notes": spec.documents[1].title: "a" is listed twice',
    ),
    "a file of a manifest from stdin": (
        COLLECTION + "  - {title: a, file: b.md}\n",
        'x.yaml:7:22: Collection "notes": spec.documents[0].file: a manifest that is no file has'
        " no folder to read from; give the text",
    ),
}


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
    assert caught.value.hint == HINT


HINTS: dict[str, tuple[bytes, str | None]] = {
    "another apiVersion": (b"apiVersion: v9\nkind: Persona\nmetadata: {}\nspec: {x: y}\n", None),
    "no text": (b"\x00\x01", UTF8),
    "no UTF-8": (b"\xe9", UTF8),
    "a file that is missing": (
        b"apiVersion: aos/v1\nkind: Collection\nmetadata: {name: c}\n"
        b"spec: {documents: [{title: a, file: b.md}]}\n",
        "a file that a manifest names is looked for in the manifest's own folder",
    ),
    "a field": (b"kind: Persona\n", HINT),
    "a field and a file": (
        b"apiVersion: aos/v1\nkind: Collection\nmetadata: {name: c}\n"
        b"spec: {documents: [{title: a, file: b.md}]}\n---\nkind: Persona\n", HINT),
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
