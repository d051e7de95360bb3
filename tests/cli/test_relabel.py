"""`aosctl label` and `annotate`, in kubectl's words."""

from __future__ import annotations

import json
from collections.abc import Callable
from threading import Thread
from typing import Any

import psycopg
import pytest

from command import Aosctl
from kernels import META, Tenant, call
from talks import until

Make = Callable[..., str]
FAR = """\
{apiVersion: aos/v1, kind: Tenant, metadata: {name: relabelled}}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: s_far, tenant: relabelled, labels: {app: s}}
spec: {model: offline, systemPrompt: Far away.}
"""


@pytest.fixture
def make(tenant: Tenant) -> Make:
    """Make a persona with these labels; return its name."""

    def make(name: str, **labels: str) -> str:
        meta = {**META, "labels": labels}
        spec = {"systemPrompt": "Be brief.", "model": "offline"}
        superuser = tenant.database.superuser
        call(superuser, "aos_persona.apply_persona", tenant.id, name, meta, spec)
        return name

    return make


def metadata(developer: Aosctl, name: str, *words: str) -> dict[str, Any]:
    found = json.loads(developer("get", "persona", name, "-o", "json", *words).out)
    return dict(found["metadata"])


def test_a_label_is_set_kept_changed_and_removed(developer: Aosctl, make: Make) -> None:
    make("one", kept="yes")
    set_ = developer("label", "persona", "one", "team=data", "tier=gold")
    assert (set_.status, set_.out, set_.err) == (0, "persona.aos/one labeled\n", "")
    same = developer("label", "persona/one", "team=data")
    assert (same.status, same.out, same.err) == (0, "persona.aos/one not labeled\n", "")
    taken = developer("label", "per", "one", "team=web")
    assert (taken.status, taken.out) == (1, "")
    assert taken.err == (
        "error: 'team' already has a value (data), and --overwrite is false\n"
        "hint: add --overwrite to change it; nothing was changed\n"
    )
    assert metadata(developer, "one")["labels"] == {"kept": "yes", "team": "data", "tier": "gold"}
    over = developer("label", "persona", "one", "team=web", "tier-", "--overwrite")
    assert (over.status, over.out, over.err) == (0, "persona.aos/one labeled\n", "")
    gone = developer("label", "persona", "one", "team-")
    assert (gone.status, gone.out, gone.err) == (0, "persona.aos/one unlabeled\n", "")
    none = developer("label", "persona", "one", "team-")
    assert (none.status, none.out) == (0, "persona.aos/one not labeled\n")
    assert none.err == 'label "team" not found on persona.aos/one\n'
    assert metadata(developer, "one")["labels"] == {"kept": "yes"}
    status = developer("get", "persona", "one", "-o", "jsonpath={.status.version}")
    assert status.out == "1"  # what the model reads is as it was


def test_annotations_take_any_text(developer: Aosctl, make: Make) -> None:
    make("noted", kept="yes")
    done = developer("annotate", "persona", "noted", "owner=Jane Doe", "ops/ticket=a=b; ünïcode")
    assert (done.status, done.out, done.err) == (0, "persona.aos/noted annotated\n", "")
    found = metadata(developer, "noted")
    assert found["annotations"] == {"owner": "Jane Doe", "ops/ticket": "a=b; ünïcode"}
    assert found["labels"] == {"kept": "yes"}
    gone = developer("annotate", "persona", "noted", "owner-", "ops/ticket-")
    assert (gone.status, gone.out) == (0, "persona.aos/noted annotated\n")
    assert "annotations" not in metadata(developer, "noted")


def test_selectors_choose_and_all_takes_all_of_the_tenant(
    developer: Aosctl, admin: Aosctl, make: Make, tenant: Tenant
) -> None:
    assert admin("apply", "-f", "-", stdin=FAR).status == 0
    make("s_one", app="s")
    make("s_two", app="s")
    make("s_out", app="t")
    done = developer("label", "personas", "-l", "app=s", "hit=yes")
    assert done.out == "persona.aos/s_one labeled\npersona.aos/s_two labeled\n"
    fields = developer("label", "personas", "--field-selector", "metadata.name=s_out", "hit=no")
    assert (fields.out, fields.err) == ("persona.aos/s_out labeled\n", "")
    none = developer("label", "personas", "-l", "app=nothing", "hit=yes")
    assert (none.status, none.out, none.err) == (0, "", "No resources found in acme tenant.\n")
    all_ = developer("label", "personas", "--all", "swept=yes")
    assert all_.status == 0
    assert "persona.aos/s_out labeled\n" in all_.out
    assert "s_far" not in all_.out
    assert metadata(admin, "s_far", "-n", "relabelled")["labels"] == {"app": "s"}
    developer("label", "personas", "--all", "swept-")


def test_one_that_is_missing_leaves_all_as_they_were(developer: Aosctl, make: Make) -> None:
    make("there")
    done = developer("label", "persona", "there", "theer", "a=b")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'Error from server (NotFound): personas.aos "theer" not found\n'
        'hint: did you mean "there"?\n'
    )
    assert "labels" not in metadata(developer, "there")


@pytest.mark.parametrize("mode", ["client", "server"])
def test_a_dry_run_changes_nothing(developer: Aosctl, make: Make, mode: str) -> None:
    make(f"dry_{mode}")
    after = {"client": " (dry run)", "server": " (server dry run)"}[mode]
    done = developer("label", "persona", f"dry_{mode}", "a=b", f"--dry-run={mode}")
    assert (done.status, done.out) == (0, f"persona.aos/dry_{mode} labeled{after}\n")
    shown = developer("label", "persona", f"dry_{mode}", "a=b", f"--dry-run={mode}", "-o", "json")
    assert json.loads(shown.out)["metadata"]["labels"] == {"a": "b"}
    assert "labels" not in metadata(developer, f"dry_{mode}")


def test_output_and_list(developer: Aosctl, make: Make) -> None:
    make("shown", a="b")
    assert developer("label", "persona/shown", "c=d", "-o", "name").out == "persona.aos/shown\n"
    listed = developer("label", "persona", "shown", "--list")
    assert (listed.status, listed.out, listed.err) == (0, "a=b\nc=d\n", "")
    for verb in ("label", "annotate"):
        whole = json.loads(developer(verb, "persona", "shown", "--list", "-o", "json").out)
        assert whole["metadata"]["labels"] == {"a": "b", "c": "d"}
    manifest = json.loads(developer("label", "persona/shown", "e=f", "-o", "json").out)
    assert manifest["metadata"]["labels"] == {"a": "b", "c": "d", "e": "f"}
    assert manifest["metadata"]["generation"] == 3


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["label"], 2, "error: at least one label update is required\n"),
        (["annotate", "persona", "expert"], 2, "error: at least one annotation update is"),
        (["label", "a=b"], 2, "error: You must specify the type of resource to label\n"),
        (["label", "persona", "a=b"], 2, "error: resource(s) were provided, but no name was"),
        (["label", "persona", "expert", "a=b", "more"], 2,
         "error: all resources must be specified before label changes: more\n"),
        (["label", "persona", "expert", "a=b", "a-"], 2,
         "error: can not both modify and remove label a in the same command\n"),
        (["label", "persona", "expert", "a=b", "a=c"], 2, "error: label a is given two values\n"),
        (["label", "persona", "expert", "=b"], 2, "error: all resources must be specified"),
        (["label", "persona", "expert", "a=b c"], 1,
         'error: Persona "expert": metadata.labels.a: "b c" is not a label\'s value'),
        (["label", "persona", "expert", "a!=c"], 1, 'error: Persona "expert": metadata.labels: '
                                                    '"a!" is not a label\'s key'),
        (["annotate", "persona", "expert", "a=\x1b[31m"], 1,
         "error: the text holds the control character U+001B\n"),
        (["label", "run", "x", "a=b"], 2, "error: runs have no manifest that label could change\n"),
        (["label", "persona", "expert", "--all", "a=b"], 2, "error: name cannot be provided when"),
        (["label", "persona", "-l", "a", "--all", "a=b"], 2, "error: cannot set --all and"),
        (["label", "persona", "-l", "a b", "a=b"], 2, "error: unable to parse the selector"),
        (["label", "personas", "--field-selector", "spec.modell=x", "a=b"], 2,
         "error: field label not supported: spec.modell; did you mean \"spec.model\"?\n"),
        (["label", "personas", "--field-selector", "model", "a=b"], 2, "error: invalid selector"),
        (["label", "persona", "expert", "a=b", "--dry-run=yes"], 2, "error: Invalid dry-run value"),
        (["lable", "persona", "expert", "a=b"], 2, 'error: unknown command "lable" for "aosctl"'
                                                   "\n\nDid you mean this?\n\tlabel\n"),
        (["label", "persona", "expert", "a=b", "--overwite"], 2,
         "error: unknown flag: --overwite, did you mean --overwrite?\n"),
    ],
)  # fmt: skip
def test_wrong_words(developer: Aosctl, words: list[str], status: int, text: str) -> None:
    done = developer(*words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(text)
    assert "labels" not in metadata(developer, "expert")


def test_two_at_the_same_time_lose_neither_label(
    developer: Aosctl, tenant: Tenant, make: Make
) -> None:
    """The first one to write is let through; the second one reads again."""
    make("busy")
    database = tenant.database
    with psycopg.connect(database.cluster.dsn(dbname=database.name)) as holder:
        holder.execute(
            'update aos_persona.persona set labels = labels || \'{"first": "yes"}\''
            " where tenant_id = %s and name = 'busy'",
            (tenant.id,),
        )
        ended = []
        second = Thread(
            target=lambda: ended.append(developer("label", "persona", "busy", "second=yes"))
        )
        second.start()
        with psycopg.connect(database.cluster.dsn(), autocommit=True) as watcher:
            waits = "select from pg_stat_activity where datname = %s and wait_event_type = 'Lock'"
            until(lambda: watcher.execute(waits, (database.name,)).fetchall(), "the second")
        assert second.is_alive()
        holder.commit()
    second.join()
    assert (ended[0].status, ended[0].out) == (0, "persona.aos/busy labeled\n")
    assert metadata(developer, "busy")["labels"] == {"first": "yes", "second": "yes"}
