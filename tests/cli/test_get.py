"""`aosctl get`, `describe` and `delete`: kubectl's words, tables and exit statuses."""

from __future__ import annotations

import json
import re

import pytest

from command import Aosctl
from kernels import KernelDatabase, Tenant

MORE = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: alpha, tenant: acme, labels: {team: data, tier: gold}}
spec: {model: offline, systemPrompt: "a\\nb", description: first}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: beta, tenant: acme, labels: {team: web}}
spec: {model: gpt-4o, systemPrompt: b, params: {temperature: 0.5, top_p: 1.0}}
---
apiVersion: aos/v1
kind: Collection
metadata: {name: notes, tenant: acme}
spec:
  documents:
    - {title: One, text: "no: 12:30\\n- *x\\n"}
---
apiVersion: aos/v1
kind: Tenant
metadata: {name: globex}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: alpha, tenant: globex}
spec: {model: offline, systemPrompt: g}
"""
AGE = r"\d+[smh][0-9ms]*"


@pytest.fixture(scope="module", autouse=True)
def manifests(tenant: Tenant) -> Tenant:
    """Two tenants with something of most kinds."""
    import psycopg

    from aosctl.domain.applying import Tenancy, apply_set
    from aosctl.domain.manifest import loads

    database = tenant.database
    with psycopg.connect(
        database.cluster.dsn("aos_installer", database.name), autocommit=True
    ) as connection:
        apply_set(connection, loads(MORE), Tenancy(None, None))
    return tenant


def test_a_table_has_the_columns_of_its_kind(developer: Aosctl) -> None:
    done = developer("get", "personas")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == "NAME     MODEL     VERSION   AGE"
    assert [re.sub(AGE + "$", "AGE", line) for line in lines[1:]] == [
        "alpha    offline   1         AGE",
        "beta     gpt-4o    1         AGE",
        "expert   offline   1         AGE",
    ]


@pytest.mark.parametrize("word", ["per", "persona", "Persona", "personas.aos", "PERSONAS"])
def test_a_kind_answers_to_all_its_names(developer: Aosctl, word: str) -> None:
    assert developer("get", word, "-o", "name").out == (
        "persona.aos/alpha\npersona.aos/beta\npersona.aos/expert\n"
    )


def test_two_kinds_are_two_tables_with_full_names(developer: Aosctl) -> None:
    done = developer("get", "collections,persona")
    tables = done.out.split("\n\n")
    assert [table.split()[0] for table in tables] == ["NAME", "NAME"]
    row = tables[0].splitlines()[1].split()
    assert row[:-1] == ["collection.aos/notes", "1", "1", "<none>", "<none>", "trusted"]
    assert tables[1].splitlines()[1].startswith("persona.aos/alpha    offline   1 ")


def test_kind_and_name_in_one_word(developer: Aosctl) -> None:
    done = developer("get", "persona/beta", "col/notes", "persona/alpha", "-o", "name")
    assert done.out == "persona.aos/beta\npersona.aos/alpha\ncollection.aos/notes\n"
    done = developer("get", "persona/beta", "alpha")
    assert done.status == 2
    assert done.err.startswith("error: there is no need to specify a resource type as a separate")


def test_wide_labels_headers_and_order(developer: Aosctl) -> None:
    done = developer("get", "per", "-o", "wide", "--show-labels", "-L", "team", "--no-headers")
    cells = [re.split(r" {3,}", line) for line in done.out.splitlines()]
    assert [[*row[:3], *row[4:]] for row in cells] == [
        ["alpha", "offline", "1", "first", "data", "team=data,tier=gold"],
        ["beta", "gpt-4o", "1", "web", "team=web"],
        ["expert", "offline", "1", "<none>", "<none>"],
    ]
    done = developer("get", "per", "-o", "name", "--sort-by", ".spec.model")
    assert done.out.split() == ["persona.aos/beta", "persona.aos/alpha", "persona.aos/expert"]
    done = developer("get", "per", "--sort-by", ".spec.nope")
    assert (done.status, done.out, done.err) == (1, "", (
        'error: couldn\'t find any field with path "{.spec.nope}" in the list of objects\n'
        "hint: -o yaml shows the fields that there are\n"
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("team=data", ["alpha"]),
        ("team!=data", ["beta", "expert"]),
        ("team in (data, web),!tier", ["beta"]),
        ("team", ["alpha", "beta"]),
        ("", ["alpha", "beta", "expert"]),
    ],
)
def test_labels_select(developer: Aosctl, selector: str, names: list[str]) -> None:
    done = developer("get", "personas", "-l", selector, "-o", "name")
    assert done.out.split() == [f"persona.aos/{name}" for name in names]


def test_a_selector_that_selects_nothing_and_one_that_is_none(developer: Aosctl) -> None:
    done = developer("get", "personas", "-l", "team=x")
    assert (done.status, done.out, done.err) == (0, "", "No resources found in acme tenant.\n")
    done = developer("get", "personas", "-l", "team in data")
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(
        'error: unable to parse the selector "team in data" at "team in data"\n'
    )
    done = developer("get", "persona", "alpha", "-l", "team=data")
    assert done.err == "error: name cannot be provided when a selector is specified\n"


def test_nothing_found_is_no_error(developer: Aosctl) -> None:
    for words in (["runs"], ["models", "-l", "a=b"]):
        done = developer("get", *words)
        where = " in acme tenant." if words == ["runs"] else ""
        assert (done.status, done.out, done.err) == (0, "", f"No resources found{where}\n")
    assert json.loads(developer("get", "runs", "-o", "json").out)["items"] == []


def test_rows_that_exist_print_beside_the_error_for_those_that_do_not(developer: Aosctl) -> None:
    done = developer("get", "persona", "alpha", "nope", "nada", "-o", "name")
    assert (done.status, done.out) == (1, "persona.aos/alpha\n")
    assert done.err == (
        'Error from server (NotFound): personas.aos "nope" not found\n'
        'Error from server (NotFound): personas.aos "nada" not found\n'
    )
    done = developer("get", "persona", "nope", "--ignore-not-found")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_a_kind_that_does_not_exist_and_none_at_all(developer: Aosctl) -> None:
    done = developer("get", "personnas")
    assert (done.status, done.out) == (1, "")
    assert done.err.splitlines()[0] == (
        'error: the server doesn\'t have a resource type "personnas"; did you mean "personas"?'
    )
    done = developer("get", "pods")
    assert done.err.startswith(
        'error: the server doesn\'t have a resource type "pods"; did you mean "runs"?\n'
    )
    done = developer("get")
    assert done.status == 2
    assert done.err.splitlines()[0] == "error: You must specify the type of resource to get"


def test_all_tenants_have_a_column(admin: Aosctl) -> None:
    done = admin("get", "personas", "-A")
    rows = [line.split()[:2] for line in done.out.splitlines()]
    assert rows == [
        ["TENANT", "NAME"],
        ["acme", "alpha"],
        ["acme", "beta"],
        ["acme", "expert"],
        ["globex", "alpha"],
    ]
    done = admin("get", "persona", "alpha", "-A")
    assert done.err == "error: a resource cannot be retrieved by name across all namespaces\n"


def test_a_developer_sees_with_all_tenants_only_their_own(developer: Aosctl) -> None:
    out = developer("get", "personas", "-A", "--no-headers").out
    assert {line.split()[0] for line in out.splitlines()} == {"acme"}
    assert developer("get", "tenants", "-o", "name").out == "tenant.aos/acme\n"
    done = developer("get", "personas", "-n", "globex")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'Error from server (NotFound): tenant "globex" not found\nhint: your tenants: acme\n'
    )


def test_which_tenant_is_asked_where_there_are_several(admin: Aosctl) -> None:
    done = admin("get", "personas")
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        "error: which tenant? choose one with -n: acme, globex\n"
        "hint: or once for all: aosctl config set-context --current --tenant TENANT\n"
    )
    assert admin("get", "tenants", "-o", "name").out == "tenant.aos/acme\ntenant.aos/globex\n"
    assert admin("get", "personas", "-o", "name", AOSCTL_TENANT="globex").out == (
        "persona.aos/alpha\n"
    )


def test_one_by_name_is_an_object_and_several_are_a_list(developer: Aosctl) -> None:
    one = json.loads(developer("get", "persona", "alpha", "-o", "json").out)
    assert (one["apiVersion"], one["kind"], one["metadata"]["name"]) == (
        "aos/v1",
        "Persona",
        "alpha",
    )
    many = json.loads(developer("get", "persona", "-o", "json").out)
    assert (many["apiVersion"], many["kind"], len(many["items"])) == ("v1", "List", 3)
    path = "jsonpath={.items[*].metadata.name}"
    assert developer("get", "per", "-o", path).out == "alpha beta expert"
    columns = "custom-columns=N:.metadata.name,T:.metadata.labels.team"
    assert developer("get", "per", "-o", columns).out == (
        "N        T\nalpha    data\nbeta     web\nexpert   <none>\n"
    )


def test_what_get_prints_as_yaml_applies_back_unchanged(
    admin: Aosctl, kernel_database: KernelDatabase
) -> None:
    kinds = "tenants,principals,models,collections,skills,personas,agents"
    # Skills that were made with half a spec, past the manifests, are completed first.
    skills = admin("get", "skills", "-A", "-o", "yaml").out
    assert admin("apply", "-f", "-", stdin=skills).status == 0
    printed = admin("get", kinds, "-o", "yaml", "-A").out
    before = kernel_database.fingerprint()
    done = admin("apply", "-f", "-", stdin=printed)
    assert (done.status, done.err) == (0, "")
    assert {line.split()[1] for line in done.out.splitlines()} == {"unchanged"}
    assert kernel_database.fingerprint() == before


def test_describe_shows_spec_status_and_changes(developer: Aosctl) -> None:
    done = developer("describe", "persona", "alpha")
    assert (done.status, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:4] == [
        "Name:         alpha",
        "Tenant:       acme",
        "Labels:       team=data",
        "              tier=gold",
    ]
    start = lines.index("  System Prompt:")
    assert lines[start : start + 3] == ["  System Prompt:", "    a", "    b"]
    # How wide the column of ages is depends on how old the persona is by now.
    *heading, row = [line.split() for line in lines[-4:]]
    assert heading == [["Events:"], ["AGE", "EVENT", "BY"], ["---", "-----", "--"]]
    assert re.fullmatch(AGE, row[0])
    assert row[1:] == ["persona.created", "role:aos_installer"]


def test_describe_takes_the_beginning_of_names(developer: Aosctl) -> None:
    done = developer("describe", "persona", "alp", "nope")
    assert done.status == 1
    assert done.out.startswith("Name:         alpha\n")
    assert done.err == 'Error from server (NotFound): personas.aos "nope" not found\n'


def test_delete_names_one_by_one(admin: Aosctl, developer: Aosctl) -> None:
    text = MORE.partition("---")[0]
    for name in ("gone", "away"):
        developer("apply", "-f", "-", stdin=text.replace("alpha", name))
    tried = developer("delete", "persona", "gone", "--dry-run=server")
    assert tried.out == 'persona.aos "gone" deleted (server dry run)\n'
    tried = developer("delete", "persona", "gone", "--dry-run=client")
    assert tried.out == 'persona.aos "gone" deleted (dry run)\n'
    done = developer("delete", "persona", "gone", "nope", "away")
    assert done.status == 1
    assert done.out == 'persona.aos "gone" deleted\npersona.aos "away" deleted\n'
    assert done.err == 'Error from server (NotFound): personas.aos "nope" not found\n'
    done = developer("delete", "persona/gone", "--ignore-not-found")
    assert (done.status, done.out, done.err) == (0, "", "")


def test_what_is_still_used_is_not_deleted(developer: Aosctl) -> None:
    done = developer("delete", "persona", "expert")
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'error: persona "expert" is still used by agents\n'
        "hint: delete those agents, or give them another persona\n"
    )


def test_delete_from_a_file_is_all_or_nothing(admin: Aosctl, developer: Aosctl) -> None:
    text = MORE.partition("---")[0]
    two = f"{text.replace('alpha', 'p1')}---\n{text.replace('alpha', 'p2')}"
    developer("apply", "-f", "-", stdin=text.replace("alpha", "p1"))
    done = developer("delete", "-f", "-", stdin=two)
    assert (done.status, done.out) == (1, "")
    assert done.err == (
        'Error from server (NotFound): stdin:8:18: Persona "p2": metadata.name: personas.aos "p2"'
        " not found\n"
        "hint: nothing was deleted; --ignore-not-found deletes the rest\n"
    )
    assert developer("get", "persona", "p1", "-o", "name").status == 0
    done = developer("delete", "-f", "-", "--ignore-not-found", stdin=two)
    assert (done.status, done.out, done.err) == (0, 'persona.aos "p1" deleted\n', "")


def test_delete_by_label_takes_what_refers_to_others_first(admin: Aosctl) -> None:
    text = (
        "apiVersion: aos/v1\nkind: Tenant\nmetadata: {name: short, labels: {stage: x}}\n---\n"
        "apiVersion: aos/v1\nkind: Persona\n"
        "metadata: {name: p, tenant: short, labels: {stage: x}}\n"
        "spec: {model: offline, systemPrompt: s}\n---\n"
        "apiVersion: aos/v1\nkind: Agent\n"
        "metadata: {name: a, tenant: short, labels: {stage: x}}\nspec: {persona: p}\n"
    )
    admin("apply", "-f", "-", stdin=text)
    done = admin("delete", "tenant", "short")
    assert done.status == 1
    assert done.err.splitlines()[0] == 'error: tenant "short" is not empty: 1 agent, 1 persona'
    done = admin("delete", "persona,agent,tenant", "-l", "stage=x", "-n", "short")
    assert (done.status, done.err) == (0, "")
    assert done.out == (
        'agent.aos "a" deleted\npersona.aos "p" deleted\ntenant.aos "short" deleted\n'
    )


def test_delete_wants_to_know_what(developer: Aosctl) -> None:
    for words, text in (
        ([], "must specify what to delete: KIND NAME…, or -f FILE"),
        (["persona"], "resource(s) were provided, but no name was specified"),
        (
            ["persona", "x", "--all"],
            "name cannot be provided when a selector or --all is specified",
        ),
        (
            ["persona", "-f", "x"],
            "-f says what to delete: leave the names out",
        ),
        (["run", "x"], "runs are not deleted: their events are kept"),
    ):
        done = developer("delete", *words)
        assert (done.status, done.out) == (2, "")
        assert done.err.splitlines()[0] == f"error: {text}"
