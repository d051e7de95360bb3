"""`aosctl create KIND NAME`: a manifest to begin with, or the resource at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from aosctl.domain.kinds import BY_NAME, KINDS
from command import Aosctl
from kernels import Tenant

LINES = (
    "create tenant made_here --display-name Made --dry-run=client -o yaml",
    "create model made --provider openai --model m --base-url http://127.0.0.1:9/v1"
    " --dry-run=client -o yaml",
    "create collection made --description Notes --dry-run=client -o yaml",
    "create skill made --builtin memory_store --description Keeps --dry-run=client -o yaml",
    "create policy made --skill send_* --decision ask --reason Look. --dry-run=client -o yaml",
    "create persona made --model offline --prompt Brief. --description B --dry-run=client -o yaml",
    "create agent made --persona made --skill rag_search --description A --dry-run=client -o yaml",
    "create budget made --max-usd 2.5 --max-tokens 9 --period total --dry-run=client -o yaml",
    "create schedule made --agent made --schedule @daily --timezone UTC --concurrency-policy Forbid"
    " --dry-run=client -o yaml work",
)
"""A generator of each kind; what they print can be applied together, in this order."""
EDITED = (
    "create tenant a --edit --output name",
    "create model a --provider openai --edit --output name",
    "create collection a --edit --output name",
    "create mcpserver a --url https://tools.example.com/mcp --edit --output name",
    "create skill a --builtin memory_store --edit --output name",
    "create policy a --skill x --decision ask --edit --output name",
    "create persona a --model offline --edit --output name",
    "create agent a --persona b --edit --output name",
    "create budget a --max-usd 1 --edit --output name",
    "create schedule a --agent b --schedule @daily --edit --output name x",
)
MODELINE = "# yaml-language-server: $schema=aos-v1.schema.json\n"


def test_each_kind_has_a_generator(aosctl: Aosctl) -> None:
    listed = aosctl("create", "--help").out
    for kind in KINDS:
        assert f"\n  {kind.singular} " in listed, kind.name


def test_what_is_printed_applies_as_it_is_and_then_changes_nothing(
    admin: Aosctl, tenant: Tenant
) -> None:
    whole = ""
    names = []
    for line in LINES:
        _, word, name, *_ = words = line.split()
        names.append(f"{word}.aos/{name}")
        done = admin(*words, AOSCTL_DSN="host=x")
        assert done.status == 0, done.err
        assert done.err == (
            f"hint: aosctl explain {word}.spec says what the fields mean; "
            "aosctl schema -o aos-v1.schema.json writes the schema of its first line, for editors\n"
        )
        assert done.out.startswith(MODELINE)
        assert max(map(len, done.out.splitlines())) <= 100
        kind = next(kind for kind in KINDS if kind.singular == word)
        given = yaml.safe_load(done.out)
        assert given["metadata"]["name"] == name
        for field in kind.fields:
            commented = f"\n  # {field.name}:" in done.out
            assert (field.name in (given["spec"] or {})) != commented, (word, field.name)
        whole += f"---\n{done.out}"
    for outcome in ("created", "unchanged"):
        applied = admin("apply", "-n", "acme", "-f", "-", stdin=whole)
        assert (applied.status, applied.err) == (0, "")
        assert sorted(applied.out.splitlines()) == sorted(f"{name} {outcome}" for name in names)
    for line in reversed(LINES):
        _, word, name, *_ = line.split()
        tenancy = (f"--confirm={name}",) if word == "tenant" else ("-n", "acme")
        done = admin("delete", word, name, *tenancy)
        assert done.status == 0, done.err


def test_an_editor_that_fails_makes_nothing(aosctl: Aosctl) -> None:
    for line in EDITED:
        done = aosctl(*line.split(), EDITOR="false", AOSCTL_DSN="host=/nowhere")
        assert (done.status, done.out) == (1, ""), line
        assert 'error: there was a problem with the editor "false": exit status 1\n' in done.err


def test_it_is_made_once_and_a_trial_leaves_nothing(developer: Aosctl, tenant: Tenant) -> None:
    flags = ("create", "persona", "clever", "--model", "offline")
    tried = developer(*flags, "--dry-run", "server", "--output", "name")
    assert (tried.status, tried.out, tried.err) == (0, "persona.aos/clever\n", "")
    made = developer(*flags)
    assert (made.status, made.out, made.err) == (0, "persona.aos/clever created\n", "")
    again = developer(*flags)
    assert (again.status, again.out) == (1, "")
    assert again.err == (
        'Error from server (AlreadyExists): personas.aos "clever" already exists\n'
        "hint: aosctl edit persona clever\n"
    )
    gone = developer("create", "agent", "lost", "--persona", "nobody")
    assert (gone.status, gone.out) == (1, "")
    assert "nobody" in gone.err and "Traceback" not in gone.err


@pytest.mark.parametrize(
    ("words", "status", "error"),
    [
        (("agent", "a"), 2, "error: required flag not set: --persona\n"),
        (("persona", "a"), 2, "error: required flag not set: --model\n"),
        (("persona",), 2, "error: missing argument: NAME\n"),
        (("wizard", "a"), 2, 'error: unknown command "wizard" for "aosctl create"\n'),
        (("budget", "a"), 1, 'error: Budget "a": spec.limits: '),
        (("budget", "a", "--max-usd", "x"), 2, "error: invalid value for --max-usd: "),
        (("policy", "a", "--skill", "x", "--decision", "maybe"), 1,
         'error: Policy "a": spec.decision: "maybe" is not one of ask, deny, allow\n'),
        (("tenant", "No Name"), 1, 'error: Tenant "No Name": metadata.name: '),
        (("tenant", "a", "-o", "wide"), 2, "error: unable to match a printer suitable for the"),
        (("tenant", "a", "--dry-run=maybe"), 2, "error: Invalid dry-run value (maybe). "),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_before_anything_is_connected(
    aosctl: Aosctl, words: tuple[str, ...], status: int, error: str
) -> None:
    done = aosctl("create", *words, AOSCTL_DSN="host=/nowhere")
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(error)


def seen(folder: Path) -> str:
    """Return what the editor of a test was given."""
    return (folder / "seen").read_text()


def test_in_the_editor_a_mistake_opens_it_again(
    developer: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    editor = tmp_path / "editor"
    editor.write_text(
        "#!/bin/sh\n"
        f'cat "$1" >> {tmp_path}/seen\n'
        f"if [ -e {tmp_path}/again ]; then sed -i 's/modell/model/' \"$1\"\n"
        f"else touch {tmp_path}/again; sed -i 's/model: offline/modell: offline/' \"$1\"; fi\n"
    )
    os.chmod(editor, 0o700)
    flags = ("create", "persona", "edited", "--model", "offline", "--edit")
    done = developer(*flags, EDITOR=str(editor))
    assert (done.status, done.out) == (0, "persona.aos/edited created\n")
    wrong = 'Persona "edited": spec.modell: unknown field; did you mean "model"?\n'
    assert done.err.endswith(wrong) and f"line 14, column 3: {wrong}" in seen(tmp_path)
    assert "# rules: []" in seen(tmp_path)
    emptied = developer(*flags, EDITOR="cp /dev/null")
    assert emptied.status == 1
    assert emptied.err.splitlines()[-1] == "error: Edit cancelled, saved file was empty."
    assert BY_NAME["Persona"].singular in developer("get", "persona", "edited", "-o", "name").out


def test_an_mcp_server_of_a_url_is_printed_as_its_manifest(aosctl: Aosctl) -> None:
    url = "https://tools.example.com/mcp"
    line = ("create", "mcpserver", "tools", "--url", url, "--dry-run=client", "-o", "yaml")
    done = aosctl(*line, AOSCTL_DSN="host=x")
    assert done.status == 0 and f"url: {url}" in done.out
    aosctl("create", "mcpserver", "tools", "--url", url, "--dry-run=client", "-o", "json")
