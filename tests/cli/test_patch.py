"""`aosctl patch` and `aosctl rollout`: fields changed, versions taken back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from command import Aosctl
from kernels import Tenant, apply

PROMPTS = ("Be brief.", "Be kind.", "Be exact.")


def make(tenant: Tenant, name: str, *prompts: str, **fields: Any) -> None:
    for prompt in prompts or PROMPTS[:1]:
        spec = {"systemPrompt": prompt, "model": "offline", **fields}
        apply(tenant.database.superuser, "aos_persona.apply_persona", tenant.id, name, spec)


def spec_of(developer: Aosctl, name: str) -> dict[str, Any]:
    return dict(json.loads(developer("get", "persona", name, "-o", "json").out)["spec"])


def test_a_merge_patch_sets_removes_and_keeps(
    developer: Aosctl, tenant: Tenant, tmp_path: Path
) -> None:
    make(tenant, "merged", description="old", traits={"tone": "dry", "size": 1})
    patch = '{"spec": {"description": null, "traits": {"tone": "warm"}, "rules": ["One."]}}'
    done = developer("patch", "persona", "merged", "-p", patch)
    assert (done.status, done.out, done.err) == (0, "persona.aos/merged patched\n", "")
    found = spec_of(developer, "merged")
    assert (found["description"], found["traits"]) == ("", {"tone": "warm", "size": 1})
    assert (found["rules"], found["systemPrompt"]) == (["One."], PROMPTS[0])
    same = developer("patch", "persona/merged", "-p", "spec: {rules: [One.]}")
    assert (same.status, same.out) == (0, "persona.aos/merged patched (no change)\n")
    path = tmp_path / "patch.yaml"
    path.write_text("spec:\n  systemPrompt: |\n    Two\n    lines.\n")
    from_file = developer("patch", "persona", "merged", "--patch-file", str(path), "-o", "json")
    assert json.loads(from_file.out)["spec"]["systemPrompt"] == "Two\nlines.\n"
    piped = developer("patch", "persona", "merged", "--patch-file", "-", stdin="spec: {rules: []}")
    assert piped.out == "persona.aos/merged patched\n"


def test_a_json_patch_does_its_operations_or_none(developer: Aosctl, tenant: Tenant) -> None:
    make(tenant, "operated", rules=["One.", "Two."], traits={"a/b": 1, "c": True})
    operations = [
        {"op": "test", "path": "/spec/rules/0", "value": "One."},
        {"op": "add", "path": "/spec/rules/-", "value": "Last."},
        {"op": "add", "path": "/spec/rules/0", "value": "First."},
        {"op": "remove", "path": "/spec/rules/1"},
        {"op": "replace", "path": "/spec/systemPrompt", "value": "New."},
        {"op": "copy", "from": "/spec/systemPrompt", "path": "/spec/description"},
        {"op": "move", "from": "/spec/traits/a~1b", "path": "/spec/traits/moved"},
    ]
    words = ("patch", "persona", "operated", "--type", "json", "-p")
    done = developer(*words, json.dumps(operations))
    assert (done.status, done.out, done.err) == (0, "persona.aos/operated patched\n", "")
    found = spec_of(developer, "operated")
    assert found["rules"] == ["First.", "Two.", "Last."]
    assert (found["description"], found["traits"]) == ("New.", {"moved": 1, "c": True})
    operations = [
        {"op": "replace", "path": "/spec/systemPrompt", "value": "Never."},
        {"op": "test", "path": "/spec/traits/c", "value": 1},
    ]
    failed = developer(*words, json.dumps(operations))
    assert (failed.status, failed.out) == (1, "")
    assert failed.err == 'error: the test of "/spec/traits/c" failed\nhint: nothing was done\n'
    assert spec_of(developer, "operated") == found


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["--type", "strategic", "-p", "{}"], 2,
         "error: strategic merge patches are not built\nhint: --type merge replaces lists whole; "
         "--type json changes items of a list\n"),
        (["--type", "yaml", "-p", "{}"], 2, 'error: --type must be one of [json merge], not'),
        ([], 2, "error: must specify one of --patch or --patch-file\n"),
        (["-p", "{}", "--patch-file", "x"], 2, "error: must specify one of --patch or"),
        (["--patch-file", "/no/such"], 1, "error: unable to read patch file: /no/such: No such"),
        (["-p", "{"], 1, "error: --patch:2:1: while parsing a flow node, did not find"),
        (["-p", ""], 1, "error: --patch: a patch is one document, and this is 0\n"),
        (["-p", "[]"], 2, "error: a merge patch is a mapping\n"),
        (["-p", "spec: {modell: x}"], 1,
         'error: Persona "expert": spec.modell: unknown field; did you mean "model"?\n'),
        (["-p", "spec: {model: null}"], 1, 'error: Persona "expert": spec.model: is required\n'),
        (["-p", "spec: {model: nope}"], 1, 'error: Persona "expert": spec.model: no Model "nope"'),
        (["-p", "metadata: {name: other}"], 1,
         'error: Persona "expert": kind, metadata.name and metadata.tenant can\'t be changed\n'),
        (["-p", "metadata: {tenant: other}"], 1, 'error: Persona "expert": kind,'),
        (["-p", "kind: Agent"], 1, "error: "),
        (["-p", "metadata: {generation: 99}, spec: {rules: [x]}"], 1, "error: "),
        (["--type", "json", "-p", "{}"], 1, "error: a JSON patch is a list of operations\n"),
        (["--type", "json", "-p", '[{"op": "ad"}]'], 1, "error: operation 0: op is one of add, "),
        (["--type", "json", "-p", '[{"op": "add", "path": "x", "value": 1}]'], 1,
         "error: operation 0: path is a path such as /spec/model\n"),
        (["--type", "json", "-p", '[{"op": "add", "path": "/spec"}]'], 1,
         "error: operation 0: add needs a value\n"),
        (["--type", "json", "-p", '[{"op": "remove", "path": "/spec/rules/9"}]'], 1,
         'error: the path "/spec/rules/9" leads nowhere\n'),
        (["--type", "json", "-p", '[{"op": "remove", "path": "/spec/rules/00"}]'], 1,
         'error: the path "/spec/rules/00" leads nowhere\n'),
        (["--type", "json", "-p", '[{"op": "remove", "path": ""}]'], 1,
         "error: the patch leaves no Persona\n"),
        (["--type", "json", "-p", '[{"op": "move", "from": "/spec", "path": "/spec/x"}]'], 1,
         'error: "/spec" can\'t be moved into itself\n'),
    ],
)  # fmt: skip
def test_wrong_patches(
    developer: Aosctl, tenant: Tenant, words: list[str], status: int, text: str
) -> None:
    before = spec_of(developer, "expert")
    done = developer("patch", "persona", "expert", *words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(text)
    assert spec_of(developer, "expert") == before


@pytest.mark.parametrize("mode", ["client", "server"])
def test_a_dry_run_patches_nothing(developer: Aosctl, tenant: Tenant, mode: str) -> None:
    words = ("patch", "persona", "expert", "-p", "spec: {description: x}", f"--dry-run={mode}")
    done = developer(*words)
    after = "(dry run)" if mode == "client" else "(server dry run)"
    assert (done.status, done.out) == (0, f"persona.aos/expert patched {after}\n")
    assert spec_of(developer, "expert")["description"] == ""


def test_history_lists_versions_and_shows_one(developer: Aosctl, tenant: Tenant) -> None:
    make(tenant, "aged", *PROMPTS)
    done = developer("rollout", "history", "persona/aged")
    assert (done.status, done.err) == (0, "")
    title, head, *rows = done.out.splitlines()
    assert (title, head.split()) == ("persona.aos/aged", ["REVISION", "MODEL", "CHANGED-BY", "AGE"])
    assert [row.split()[:2] for row in rows] == [
        ["1", "offline"],
        ["2", "offline"],
        ["3", "offline"],
    ]
    one = developer("rollout", "history", "persona", "aged", "--revision", "2")
    assert one.out.startswith("persona.aos/aged with revision #2\n")
    assert "Be kind." in one.out
    manifest = developer("rollout", "history", "persona/aged", "--revision=2", "-o", "yaml")
    applied = developer("apply", "-f", "-", stdin=manifest.out)
    assert (applied.status, applied.out) == (0, "persona.aos/aged configured\n")
    assert spec_of(developer, "aged")["systemPrompt"] == "Be kind."


def test_an_undo_is_a_new_version(developer: Aosctl, tenant: Tenant) -> None:
    make(tenant, "undone", *PROMPTS, description="stays")
    developer("label", "persona", "undone", "stays=too")
    done = developer("rollout", "undo", "persona/undone")
    assert (done.status, done.out, done.err) == (0, "persona.aos/undone rolled back\n", "")
    row = json.loads(developer("get", "persona", "undone", "-o", "json").out)
    assert (row["spec"]["systemPrompt"], row["status"]["version"]) == ("Be kind.", 4)
    assert (row["spec"]["description"], row["metadata"]["labels"]) == ("stays", {"stays": "too"})
    back = developer("rollout", "undo", "persona", "undone", "--to-revision=1")
    assert back.out == "persona.aos/undone rolled back\n"
    assert spec_of(developer, "undone")["systemPrompt"] == "Be brief."
    same = developer("rollout", "undo", "persona/undone", "--to-revision", "5")
    assert (same.status, same.out) == (
        0,
        "persona.aos/undone skipped rollback (the current persona already matches revision 5)\n",
    )
    dry = developer("rollout", "undo", "persona/undone", "--dry-run=server")
    assert dry.out == "persona.aos/undone rolled back (server dry run)\n"
    assert spec_of(developer, "undone")["systemPrompt"] == "Be brief."
    assert developer("rollout", "history", "persona/undone").out.count("offline") == 5


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["history"], 2, "error: which persona? aosctl rollout history|undo persona/NAME\n"),
        (["undo", "agent/bot"], 2, "error: agents keep no versions\nhint: personas do"),
        (["undo", "persona"], 2, "error: resource(s) were provided, but no name was specified\n"),
        (["undo", "persona/expert"], 1,
         'Error from server (NotFound): no rollout history found for persona "expert"\n'),
        (["undo", "persona/expert", "--to-revision=9"], 1,
         "Error from server (NotFound): unable to find specified revision 9 in history\n"
         "hint: aosctl rollout history persona/expert\n"),
        (["history", "persona/expert", "--revision=0"], 1,
         "Error from server (NotFound): unable to find specified revision 0 in history\n"),
        (["history", "persona/exprt"], 1, 'Error from server (NotFound): personas.aos "exprt" not '
                                          'found\nhint: did you mean "expert"?\n'),
        (["undoo", "persona/expert"], 2, 'error: unknown command "undoo" for "aosctl rollout"'),
        (["undo", "persona/expert", "--to-revision=x"], 2, "error: invalid value for --to-rev"),
    ],
)  # fmt: skip
def test_wrong_rollouts(
    developer: Aosctl, tenant: Tenant, words: list[str], status: int, text: str
) -> None:
    done = developer("rollout", *words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(text)
