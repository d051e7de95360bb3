"""What kubectl's flags about manifests and single resources mean here."""

from __future__ import annotations

import json
from pathlib import Path

import psycopg
import pytest
import yaml

from command import Aosctl
from kernels import KernelDatabase, Tenant

SET = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: clerk7, tenant: acme, labels: {team: data}}
spec: {model: offline, systemPrompt: hi, colour: red}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: clerk7, tenant: acme}
spec: {persona: clerk7}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: lost, tenant: acme}
spec: {persona: nope}
"""
GOOD = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: scribe, tenant: acme, labels: {team: data}}
spec: {model: offline, systemPrompt: hi}
---
apiVersion: aos/v1
kind: Agent
metadata: {name: scribe, tenant: acme}
spec: {persona: scribe}
"""


@pytest.fixture
def mixed(tmp_path: Path, tenant: Tenant) -> str:
    """A file in which the first field of all is unknown and the last reference leads nowhere."""
    return written(tmp_path, SET)


@pytest.fixture
def good(tmp_path: Path, tenant: Tenant) -> str:
    return written(tmp_path, GOOD, "good.yaml")


def written(folder: Path, text: str, name: str = "set.yaml") -> str:
    path = folder / name
    path.write_text(text)
    return str(path)


def test_unknown_fields_are_errors_or_warnings_or_nothing(admin: Aosctl, mixed: str) -> None:
    unknown = f'{mixed}:4:42: Persona "clerk7": spec.colour: unknown field\n'
    for said in ("strict", "true"):
        done = admin("apply", "-f", mixed, "-l", "team", "--validate", said, "--dry-run=client")
        assert (done.status, done.out) == (1, "") and done.err.startswith(f"error: {unknown}")
    for said in ("warn", "ignore", "false"):
        done = admin("apply", "-f", mixed, "-l", "team", f"--validate={said}", "--dry-run=server")
        assert (done.status, done.out) == (0, "persona.aos/clerk7 created (server dry run)\n")
        assert done.err == (f"warning: {unknown}" if said == "warn" else "")
    done = admin("apply", "-f", mixed, "--validate=maybe")
    assert (done.status, done.err) == (
        2, 'error: invalid - validate option "maybe"; must be one of: strict (or true), warn,'
        " ignore (or false)\n",
    )  # fmt: skip


def test_what_looks_like_a_required_field_is_missing_all_the_same(
    admin: Aosctl, tmp_path: Path
) -> None:
    path = written(tmp_path, SET.partition("---")[0].replace("systemPrompt", "systemPromt"))
    done = admin("apply", "-f", path, "--validate=ignore")
    assert done.status == 1 and "spec.systemPrompt: is required" in done.err


def test_without_atomic_what_is_right_is_applied(admin: Aosctl, mixed: str, tenant: Tenant) -> None:
    done = admin("apply", "-f", mixed, "--validate=ignore")
    assert (done.status, done.out) == (1, "")  # the positive control: all or nothing
    nowhere = 'Agent "lost": spec.persona: no Persona "nope" exists\n'
    done = admin("apply", "-f", mixed, "--atomic=false", "--validate=ignore", "--dry-run=client")
    assert (done.status, done.out) == (1, "persona.aos/clerk7 created (dry run)\n")
    done = admin("apply", "-f", mixed, "--no-atomic", "--validate=ignore")
    assert (done.status, done.out) == (1, "persona.aos/clerk7 created\nagent.aos/clerk7 created\n")
    assert done.err.startswith(f"error: {mixed}:14:17: {nowhere}")
    done = admin("apply", "-f", mixed, "--no-atomic", "-o", "name")  # its persona can't be read
    assert (done.status, done.out) == (1, "agent.aos/clerk7\n")
    first, second, *_ = done.err.splitlines()
    assert first.endswith("spec.colour: unknown field") and second.endswith(nowhere.strip())
    done = admin("apply", "-f", mixed, "--atomic=false", "--prune", "--applyset", "x")
    assert (done.status, done.err) == (
        2, "error: --no-atomic and --prune exclude each other: it is about a whole set\n",
    )  # fmt: skip
    done = admin("apply", "-f", mixed, "--atomic=perhaps")
    assert (done.status, done.err) == (
        2, 'error: invalid argument "perhaps" for "--atomic" flag: true or false\n',
    )  # fmt: skip


def test_labels_choose_among_the_documents(admin: Aosctl, good: str) -> None:
    chosen = (("apply", "--selector"), ("diff", "-l"), ("delete", "-l"), ("create", "-l"),
              ("create", "--selector"), ("diff", "--selector"))  # fmt: skip
    for verb, flag in chosen:
        done = admin(verb, "--filename", good, flag, "team=none")
        assert done.err == (
            f"error: no objects passed to {verb}\nhint: none of the 2 has the labels of -l\n"
        )
    done = admin("create", "-f", good, "-R", "-l", "team=data", "--dry-run=server", "-o", "name")
    assert (done.status, done.out) == (0, "persona.aos/scribe\n")
    done = admin("create", "-f", good, "--output=name")
    assert (done.status, done.out) == (0, "persona.aos/scribe\nagent.aos/scribe\n")
    done = admin("create", "-f", good, "--recursive")
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(
        f'Error from server (AlreadyExists): error when creating "{good}": personas.aos "scribe"'
        " already exists\n"
    )
    done = admin("create", "-f", good, "agent", "x", "--persona", "scribe")
    assert (done.status, done.err) == (2, "error: -f says what to make: leave the kind out\n")
    for given in (
        ("--dry-run=client", "persona", "x", "--model=offline"),
        ("-o", "name", "tenant", "x"),
    ):
        done = admin("create", *given)
        assert (done.status, done.out) == (2, "") and done.err == (
            "error: flags stand after the kind: aosctl create KIND NAME --dry-run=client\n"
        )
    done = admin("create", "-R")
    assert done.err == "error: must specify -f, or a kind\nhint: aosctl create -f FILE\n"
    done = admin("describe", "-f", good, "-R", "-l", "team", "--show-events=false")
    assert done.status == 0 and "Name:         scribe" in done.out and "Events" not in done.out
    shown = admin("describe", "--filename", good, "--recursive", "--show-events")
    assert shown.out.count("Events:") == 2 and "persona.created" in shown.out
    assert "Events" not in admin("describe", "persona", "scribe", "-n", "acme", "--no-events").out
    done = admin("describe", "-f", good, "agents")
    assert (done.status, done.err) == (
        2, "error: -f says what to describe: leave the names out\n"
    )  # fmt: skip
    done = admin("delete", "-f", good, "-l", "team=data")
    assert done.status == 1 and 'persona "scribe" is still used by agents' in done.err
    done = admin("delete", "-f", good, "--wait=false", "--timeout", "1m")
    assert (done.status, done.out) == (
        0,
        'agent.aos "scribe" deleted\npersona.aos "scribe" deleted\n',
    )
    done = admin("describe", "-f", good)
    assert (done.status, done.out) == (1, "")
    lost = 'Error from server (NotFound): {}.aos "scribe" not found\n'
    assert done.err == lost.format("personas") + lost.format("agents")


def test_replace_makes_nothing_new(admin: Aosctl, good: str) -> None:
    done = admin("replace", "-f", good)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'Error from server (NotFound): {good}:3:18: Persona "scribe": metadata.name:'
        ' personas.aos "scribe" not found\n'
        "hint: nothing was replaced; aosctl apply makes it\n"
    )
    assert admin("apply", "-f", good, "--wait", "--timeout=1m").status == 0
    done = admin("replace", "--filename", good, "--recursive", "--dry-run=server")
    assert done.out == (
        "persona.aos/scribe replaced (server dry run)\nagent.aos/scribe replaced (server dry run)\n"
    )
    listed = yaml.safe_load(admin("replace", "-R", "-f", good, "-o", "yaml").out)
    assert [item["kind"] for item in listed["items"]] == ["Persona", "Agent"]
    assert admin("replace", "-f", good, "--output", "name").out == (
        "persona.aos/scribe\nagent.aos/scribe\n"
    )
    assert admin("replace").err.startswith("error: must specify -f\n")
    assert admin("delete", "-f", good).status == 0


def test_another_sessions_lock_is_waited_for_as_long_as_is_said(
    admin: Aosctl, good: str, kernel_database: KernelDatabase
) -> None:
    assert admin("apply", "-f", good).status == 0
    dsn = kernel_database.cluster.dsn(dbname=kernel_database.name)
    with psycopg.connect(dsn) as other:
        other.execute("lock table aos_persona.persona in access exclusive mode")
        for line in (
            ("apply", "-f", good, "--timeout", "1s"), ("apply", "-f", good, "--no-wait"),
            ("delete", "-f", good, "--timeout=1s"), ("delete", "-f", good, "--no-wait"),
            ("delete", "persona", "scribe", "-n", "acme", "--wait=false"),
        ):  # fmt: skip
            done = admin(*line)
            assert (done.status, done.out) == (1, ""), line
            assert "another session holds what this needs: " in done.err, line
        done = admin("apply", "-f", good, PGOPTIONS="-c lock_timeout=200ms")  # one's own stays
        assert done.status == 1 and "another session holds what this needs: " in done.err
    assert admin("delete", "-f", good, "--wait").status == 0


def test_only_the_listed_kinds_are_pruned(admin: Aosctl, good: str, tmp_path: Path) -> None:
    made = ("--applyset", "shelf", "-n", "acme")
    assert admin("apply", "-f", good, *made).status == 0
    rest = written(tmp_path, "apiVersion: aos/v1\nkind: Collection\n"
                   "metadata: {name: shelf, tenant: acme}\nspec: {documents: []}\n")  # fmt: skip
    agents = ("--prune", "--prune-allowlist=aos/v1/Agent")
    assert admin("diff", "-f", rest, *made, *agents).out.count("-kind: ") == 1
    done = admin("apply", "-f", rest, *made, *agents)
    assert done.out == "collection.aos/shelf created\nagent.aos/scribe pruned\n"
    done = admin("apply", "-f", rest, *made, "--prune", "--prune-allowlist", "personas",
                 "--prune-allowlist", "ag")  # fmt: skip
    assert done.out == "collection.aos/shelf unchanged\npersona.aos/scribe pruned\n"
    for given, error in (
        ("v2/Agent", "error: invalid GroupVersionKind format: v2/Agent, please follow"
                     " <group/version/kind>\nhint: such as aos/v1/Agent\n"),
        ("models", "error: models are in no apply-set, and are not pruned\n"),
        ("runs", "error: runs are in no apply-set, and are not pruned\n"),
    ):  # fmt: skip
        done = admin("apply", "-f", rest, *made, "--prune", "--prune-allowlist", given)
        assert (done.status, done.err) == (2, error.replace("aos/v1/Agent", "aos/v1/Persona"))
    for verb in ("apply", "diff"):  # what -l leaves out is in the files still
        done = admin(verb, "-f", rest, *made, "--prune", "-l", "team=none")
        assert (done.status, done.out) == (2, "")
        assert done.err.startswith("error: --prune and -l exclude each other: it takes the "), verb
    done = admin("apply", "-f", rest, "--prune-allowlist", "agents")
    assert (done.status, done.err) == (2, "error: --prune-allowlist belongs to --prune\n")


def test_a_list_may_name_kinds_and_be_json_of_a_path(admin: Aosctl, tenant: Tenant) -> None:
    assert admin("get", "agents", "-n", "acme", "--show-kind", "--no-headers").out.startswith(
        "agent.aos/bot "
    )
    done = admin("get", "agents", "-n", "acme", "-o", "jsonpath-as-json={.items[*].metadata.name}")
    assert json.loads(done.out)[:2] == ["bot", "clerk"]
    assert done.out.startswith('[\n    "bot"')
    assert admin("--quiet", "get", "agents", "-n", "acme", "-l", "a=none").err == ""
    done = admin("get", "agents", "-o", "jsonpath-as-json={.items[")
    assert done.status == 2 and done.out == ""
    done = admin(
        "get", "agents", "-n", "acme", "--show-labels=false", "--watch=0", "--no-headers=t"
    )
    assert done.status == 0 and "LABELS" not in done.out and not done.out.startswith("NAME")


def test_a_label_is_set_on_the_version_that_was_read(admin: Aosctl, tenant: Tenant) -> None:
    made = admin("label", "agent", "bot", "-n", "acme", "a=b", "-o", "json")
    version = json.loads(made.out)["metadata"]["generation"]
    done = admin("annotate", "agent", "bot", "-n", "acme", "a=b", "--resource-version", "99")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        f'error: Agent "bot" was changed meanwhile: --resource-version is 99, the database has'
        f" {version}\nhint: look again, then repeat it\n"
    )
    done = admin("label", "agent", "bot", "-n", "acme", "a-", f"--resource-version={version}")
    assert (done.status, done.out) == (0, "agent.aos/bot unlabeled\n")
    for line in (("label", "agents", "--all", "a=b"), ("label", "agent", "bot", "clerk", "a=b")):
        done = admin(*line, "-n", "acme", "--resource-version=1")
        assert (done.status, done.err) == (
            2, "error: --resource-version may only be used with a single resource\n"
        )  # fmt: skip


def test_an_edit_prints_its_patch(admin: Aosctl, good: str) -> None:
    assert admin("apply", "-f", good).status == 0
    done = admin("edit", "persona", "scribe", "-n", "acme", "--output-patch",
                 EDITOR="sed -i -e s/hi/ho/ -e /team:/d -e /labels:/d")  # fmt: skip
    assert (done.status, done.err) == (0, "")
    patch, edited = done.out.splitlines()
    assert edited == "persona.aos/scribe edited" and patch.startswith("Patch: ")
    assert json.loads(patch.removeprefix("Patch: ")) == {
        "metadata": {"labels": None}, "spec": {"systemPrompt": "ho"},
    }  # fmt: skip
    assert admin("apply", "-f", good).status == 0
    given = patch.removeprefix("Patch: ")
    again = admin("patch", "persona", "scribe", "-n", "acme", "-p", given, "-o", "json")
    assert json.loads(again.out)["spec"]["systemPrompt"] == "ho"
    assert admin("delete", "-f", good).status == 0


def test_explain_prints_a_schema(aosctl: Aosctl) -> None:
    schema = json.loads(aosctl("explain", "budget", "-o", "json-schema").out)
    assert schema["title"] == "Budget" and schema["$schema"].endswith("draft-07/schema#")
    plain = aosctl("explain", "budget", "--output=plaintext", "--api-version", "aos/v1")
    assert plain.out == aosctl("explain", "budget").out
    for line, error in (
        (("budget", "--api-version", "aos/v2"), 'error: no matches for kind "Budget" in version'
         ' "aos/v2"\nhint: there is aos/v1 alone\n'),
        (("runs", "-o", "json-schema"), "error: runs have no manifest, and no schema\n"),
        (("budget.spec", "-o", "json-schema"), "error: -o json-schema is about a whole kind\n"
         "hint: aosctl explain budget\n"),
        (("budget", "-o", "xml"), "error: unable to match a printer suitable for the output format"
         ' "xml", allowed formats are: plaintext,json-schema\n'),
    ):  # fmt: skip
        done = aosctl("explain", *line)
        assert (done.status, done.out, done.err) == (2, "", error)


def test_a_principal_is_tried_first(
    admin: Aosctl, tenant: Tenant, kernel_database: KernelDatabase, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    line = ("create", "principal", "flags_zed", "-n", "acme", "--role", "viewer", "--login",
            "--password-file", str(file))  # fmt: skip
    done = admin("create", "principal", "flags_zed", *line[3:], "--dry-run=server")
    assert (done.status, done.out, done.err) == (
        0, "principal.aos/flags_zed created (server dry run)\n", "",
    )  # fmt: skip
    done = admin("create", "principal", *line[2:], "--dry-run", "client", "-o", "yaml")
    assert yaml.safe_load(done.out)["spec"]["dbRole"] == "flags_zed"
    logins = "select count(*) from pg_roles where rolname = 'flags_zed'"
    (count,) = kernel_database.superuser.execute(logins).fetchone() or (None,)
    assert count == 0 and not file.exists()
    assert admin("get", "principal", "flags_zed", "-n", "acme").status == 1
    made = admin("create", "principal", "flags_zed", "-n", "acme", "--output", "json")
    assert json.loads(made.out)["metadata"]["name"] == "flags_zed"
    assert admin("delete", "principal", "flags_zed", "-n", "acme").status == 0


def test_flags_of_kubectl_that_mean_nothing_here_are_named(aosctl: Aosctl) -> None:
    for line, text in (
        (("apply", "-k", "x"), "-k is not supported: kustomize is not built in: kustomize build DIR"
         " | aosctl apply -f -"),
        (("apply", "-f", "x", "--server-side"), "--server-side is not supported: a manifest's spec"
         " is whole, and the server merges nothing: leave it out"),
        (("delete", "agent", "x", "--grace-period=0"), "--grace-period is not supported: what is"
         " deleted is gone at once; a run is ended by aosctl kill -s TERM|KILL"),
        (("get", "runs", "--chunk-size=5"), "--chunk-size is not supported: a list is read as one"
         " snapshot, in one piece"),
    ):  # fmt: skip
        done = aosctl(*line)
        assert (done.status, done.out) == (2, "")
        assert done.err == f"error: {text}\nSee 'aosctl {line[0]} --help' for usage.\n"
