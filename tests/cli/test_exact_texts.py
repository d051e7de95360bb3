"""kubectl's texts, letter by letter: each row is a line, and all that came of it.

The rows run in their order, in one process and one tenant. Where a text is not kubectl's, the
comment beside it says why. Wrong usage is 2 here, and 1 there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from aosctl.db.embedded import INSTALLER
from in_turn import Came, in_turn
from kernels import KernelDatabase, make_tenant

PERSONA = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: pg_expert, labels: {team: data}}
spec: {model: offline, systemPrompt: PROMPT}
"""
FILES = {
    "p.yaml": PERSONA.replace("PROMPT", "Be brief."),
    "changed.yaml": PERSONA.replace("PROMPT", "Be kind."),
    "more.yaml": PERSONA.replace("PROMPT", "Be kind.")
    + "---\n" + PERSONA.replace("pg_expert", "second").replace("PROMPT", "Two."),
    "badkind.yaml": PERSONA.replace("kind: Persona", "kind: Wizard"),
    "invalid.yaml": PERSONA.replace("PROMPT}", "x, params: {temperature: 3}, rules: no}"),
    "broken.yaml": "a: b: c\n",
    # What is edited says what the editor is to do with it.
    "editor.sh": """\
case $(grep -o 'Two\\.\\|Be kind\\.\\|nothing' "$1" | head -n 1) in
Two.) sed -i 's/Two\\./Two and a half./' "$1" ;;
Be*) sed -i 's/^  model: .*/  model: [1]/' "$1" ;;
esac
""",
}  # fmt: skip
GLOBEX = """\
apiVersion: aos/v1
kind: Tenant
metadata: {name: globex}
---
apiVersion: aos/v1
kind: Persona
metadata: {name: writer, tenant: globex, labels: {team: data}}
spec: {model: offline, systemPrompt: Write.}
"""
STORED = r'A copy of your changes has been stored to "\S+\.yaml"\n'


class Row(NamedTuple):
    """A command line, and what its outputs are; a text that begins with ^ is a pattern."""

    line: str
    out: str = ""
    err: str = ""
    status: int = 0
    stdin: str = ""


SERVER = "Error from server"
MANIFEST_HINT = (
    "hint: aosctl explain KIND says what the fields mean; aosctl create KIND NAME"
    " --dry-run=client -o yaml writes a manifest to begin with\n"
)
KINDS = (
    "tenants, principals, secrets, models, collections, mcpservers, skills, policies, personas,"
    " agents, budgets, schedules, runs, turns, approvals, allowances, events"
)
SETTLED = "hint: add --overwrite to change it; nothing was changed\n"
NO_SERVER = (
    "error: can't connect to the database: connection failed: connection to server at"
    ' "127.0.0.1", port 1 failed: Connection refused (settings tried: --dsn)\n'
    "hint: aosctl db status, or choose another with --dsn or --context\n"
)
UNREADABLE = (
    f"error: broken.yaml:1:5: mapping values are not allowed in this context\n{MANIFEST_HINT}"
)

APPLYING = (
    Row("apply -f p.yaml", "persona.aos/pg_expert created\n"),
    Row("apply -f p.yaml", "persona.aos/pg_expert unchanged\n"),
    # kubectl says "configured" of what a client-side trial would leave as it is.
    Row("apply -f p.yaml --dry-run=client", "persona.aos/pg_expert unchanged (dry run)\n"),
    Row("apply -f changed.yaml --dry-run=client", "persona.aos/pg_expert configured (dry run)\n"),
    Row("apply -f p.yaml --dry-run=server", "persona.aos/pg_expert unchanged (server dry run)\n"),
    Row("apply -f changed.yaml --dry-run=server",
        "persona.aos/pg_expert configured (server dry run)\n"),
    Row("apply -f changed.yaml", "persona.aos/pg_expert configured\n"),
    Row("apply -f changed.yaml -o name", "persona.aos/pg_expert\n"),
    Row("apply -f more.yaml --applyset texts",
        "persona.aos/pg_expert configured\npersona.aos/second created\n"),
    Row("apply -f changed.yaml --applyset texts --prune --dry-run=server",
        "persona.aos/pg_expert unchanged (server dry run)\n"
        "persona.aos/second pruned (server dry run)\n"),
    Row("apply -f changed.yaml --applyset texts --prune",
        "persona.aos/pg_expert unchanged\npersona.aos/second pruned\n"),
    Row("apply -f more.yaml", "persona.aos/pg_expert unchanged\npersona.aos/second created\n"),
    # The hint is ours: what there is can be changed.
    Row("create -f p.yaml", "",
        f'{SERVER} (AlreadyExists): error when creating "p.yaml": personas.aos "pg_expert" already'
        " exists\nhint: aosctl edit persona pg_expert\n", 1),
    Row("create persona pg_expert --model=offline", "",
        f'{SERVER} (AlreadyExists): personas.aos "pg_expert" already exists\n'
        "hint: aosctl edit persona pg_expert\n", 1),
    # Nothing is built that would answer "serverside-applied": a spec is whole.
    Row("apply -f p.yaml --server-side", "",
        "error: --server-side is not supported: a manifest's spec is whole, and the server merges"
        " nothing: leave it out\nSee 'aosctl apply --help' for usage.\n", 2),
)  # fmt: skip
CHANGING = (
    Row("label persona pg_expert team=data", "persona.aos/pg_expert not labeled\n"),
    Row("label persona pg_expert tier=one", "persona.aos/pg_expert labeled\n"),
    Row("label persona pg_expert tier=one", "persona.aos/pg_expert not labeled\n"),
    # The hint is ours.
    Row("label persona pg_expert tier=two", "",
        f"error: 'tier' already has a value (one), and --overwrite is false\n{SETTLED}", 1),
    Row("label persona pg_expert tier=two --overwrite", "persona.aos/pg_expert labeled\n"),
    Row("label persona pg_expert tier-", "persona.aos/pg_expert unlabeled\n"),
    # kubectl says which label is not there on stdout, in the way of what a script reads.
    Row("label persona pg_expert tier-", "persona.aos/pg_expert not labeled\n",
        'label "tier" not found on persona.aos/pg_expert\n'),
    Row("annotate persona pg_expert note=x", "persona.aos/pg_expert annotated\n"),
    # kubectl says "annotated" here too, though nothing was changed.
    Row("annotate persona pg_expert note=x", "persona.aos/pg_expert not annotated\n"),
    Row("annotate persona pg_expert note=y", "",
        f"error: 'note' already has a value (x), and --overwrite is false\n{SETTLED}", 1),
    Row("annotate persona pg_expert note-", "persona.aos/pg_expert annotated\n"),
    Row("edit persona second", "persona.aos/second edited\n"),
    Row("edit persona expert", "", "Edit cancelled, no changes made.\n"),
    # The first line is ours, where the file is not opened again: why it was refused.
    Row("edit persona pg_expert", "",
        r'^error: \S+\.yaml:20:10: Persona "pg_expert": spec\.model: expected a string, found a'
        f" list\n{STORED}error: Edit cancelled, no valid changes were saved\\.\n", 1),
    Row("wait persona/pg_expert --for=jsonpath={.spec.model}=offline --timeout=0s",
        "persona.aos/pg_expert condition met\n"),
    Row("wait persona/pg_expert --for=jsonpath={.spec.model}=other --timeout=0s", "",
        "error: timed out waiting for the condition on personas/pg_expert\n", 1),
    Row("wait persona/pg_expert --for=delete --timeout=0s", "",
        "error: timed out waiting for the condition on personas/pg_expert\n", 1),
    Row("wait persona/nope --for=delete --timeout=0s", "persona.aos/nope condition met\n"),
    Row("diff -f changed.yaml"),
    Row("diff -f p.yaml",
        r"^diff -u -N \S+/LIVE-\w+/aos\.v1\.Persona\.acme\.pg_expert"
        r" \S+/MERGED-\w+/aos\.v1\.Persona\.acme\.pg_expert\n"
        r"--- \S+\t.*\n\+\+\+ \S+\t.*\n@@ .* @@\n( .*\n)+"
        r"-  systemPrompt: Be kind\.\n\+  systemPrompt: Be brief\.\n( .*\n)+", "", 1),
    Row("diff -f broken.yaml", "", UNREADABLE, 2),
    # As kubectl 1.33 has it; tests/cli/test_whole.py has -i, which needs a terminal.
    Row("delete persona second --dry-run=client", 'persona.aos "second" deleted (dry run)\n'),
    Row("delete persona second --dry-run=server",
        'persona.aos "second" deleted (server dry run)\n'),
    Row("delete persona second", 'persona.aos "second" deleted\n'),
    Row("delete persona second --ignore-not-found"),
    Row("delete persona nope", "", f'{SERVER} (NotFound): personas.aos "nope" not found\n', 1),
)  # fmt: skip
REFUSED = (
    Row("get collections", "", "No resources found in acme tenant.\n"),
    Row("get collections -A", "", "No resources found\n"),
    Row("get persona nope", "", f'{SERVER} (NotFound): personas.aos "nope" not found\n', 1),
    Row("get personas pg_expert nope -o name", "persona.aos/pg_expert\n",
        f'{SERVER} (NotFound): personas.aos "nope" not found\n', 1),
    Row("get nope", "",
        f'error: the server doesn\'t have a resource type "nope"\nhint: it has {KINDS}\n', 1),
    Row("get", "",
        f"error: You must specify the type of resource to get\nhint: one of {KINDS}\n", 2),
    # What is wrong in a file is said with its line and column, and all of it at once; as the whole
    # file is one transaction, nothing of it is applied.
    Row("apply -f badkind.yaml", "",
        'error: badkind.yaml:2:7: "pg_expert": no matches for kind "Wizard" in version'
        ' "aos/v1"; the kinds are Tenant, Principal, Secret, Model, Collection, McpServer, Skill,'
        " Policy, Persona, Agent,"
        f" Budget, Schedule\n{MANIFEST_HINT}", 1),
    Row("apply -f invalid.yaml", "",
        'error: invalid.yaml:4:74: Persona "pg_expert": spec.rules: expected a list, found the'
        ' string "no"; write it as a list of one\n' + MANIFEST_HINT.replace("KIND", "persona"), 1),
    Row("apply -f broken.yaml", "", UNREADABLE, 1),
    # -k, which kubectl names here, is not built.
    Row("apply", "",
        "error: must specify -f\nhint: aosctl apply -f FILE; - reads standard input\n", 2),
    Row("apply -k x", "",
        "error: -k is not supported: kustomize is not built in: kustomize build DIR | aosctl apply"
        " -f -\nSee 'aosctl apply --help' for usage.\n", 2),
    Row("apply -f none.yaml", "", 'error: the path "none.yaml" does not exist\n', 1),
    Row("apply -f -", "", "error: no objects passed to apply\nhint: stdin holds no manifest; aosctl"
        " create KIND NAME --dry-run=client -o yaml writes one to begin with\n", 1),
    Row("apply -f empty", "",
        "error: error reading [empty]: recognized file extensions are [.json .yaml .yml]\n"
        "hint: -R also looks into its sub-folders\n", 1),
    # kubectl has no verb test.
    Row("gett", "",
        'error: unknown command "gett" for "aosctl"\n\nDid you mean this?\n\tget\n\ttest\n', 2),
    Row("get personas --bogus", "",
        "error: unknown flag: --bogus\nSee 'aosctl get --help' for usage.\n", 2),
    Row("get personas -b", "",
        "error: unknown shorthand flag: 'b' in -b\nSee 'aosctl get --help' for usage.\n", 2),
    Row("get personas -o badfmt", "",
        'error: unable to match a printer suitable for the output format "badfmt", allowed formats'
        " are: custom-columns,json,jsonpath,jsonpath-as-json,name,wide,yaml\n", 2),
    Row("get agents bot -l a=b", "",
        "error: name cannot be provided when a selector is specified\n", 2),
    Row("get agents bot -A", "",
        "error: a resource cannot be retrieved by name across all namespaces\n", 2),
    # kubectl asks whether the host is right; what libpq says names it, and where it came from.
    Row("get personas --dsn postgresql://127.0.0.1:1/x", "", NO_SERVER, 1),
    Row("diff -f p.yaml --dsn postgresql://127.0.0.1:1/x", "", NO_SERVER, 2),
    Row("config set-context local --tenant acme", 'Context "local" created.\n'),
    Row("config use-context local", 'Switched to context "local".\n'),
    Row("config use-context nope", "",
        r'^error: no context exists with the name: "nope"\nhint: contexts of \S+: local\n', 1),
    Row("config delete-context local", r"^deleted context local from \S+/config\.yaml\n",
        'warning: this removed your active context, use "aosctl config use-context" to select a'
        " different one\n"),
)  # fmt: skip
ONE_TENANT = "works in one tenant, which -n chooses"
ACROSS = (
    Row("apply -f globex.yaml", "tenant.aos/globex created\npersona.aos/writer created\n"),
    # A name without its kind: kubectl knows only that there is no such type.
    *(
        Row(f"{verb} bot", "",
            'error: the server doesn\'t have a resource type "bot"\n'
            f"hint: aosctl {verb} agent/bot\n", 1)
        for verb in ("get", "describe", "edit")
    ),
    Row("delete expert", "",
        'error: the server doesn\'t have a resource type "expert"\n'
        "hint: aosctl delete persona/expert\n", 1),
    Row("logs bot", "",
        f'{SERVER} (NotFound): runs.aos "bot" not found\n'
        "hint: it is an agent: aosctl logs agent/bot\n", 1),
    Row("events --last 3", "",
        "error: unknown flag: --last, did you mean --tail?\n"
        "See 'aosctl events --help' for usage.\n", 2),
    Row("label personas --all -A seen=yes --dry-run=server",
        "persona.aos/expert labeled (server dry run)\n"
        "persona.aos/pg_expert labeled (server dry run)\n"
        "persona.aos/writer labeled (server dry run)\n"),
    Row("annotate personas -A -l team=data seen=yes", "persona.aos/pg_expert annotated\n"
        "persona.aos/writer annotated\n"),
    Row("annotate personas -A -l team=data --list",
        "Listing annotations for persona.aos/pg_expert:\nseen=yes\n"
        "Listing annotations for persona.aos/writer:\nseen=yes\n"),
    Row("annotate personas -A -l team=data seen-", "persona.aos/pg_expert annotated\n"
        "persona.aos/writer annotated\n"),
    Row("label persona expert -A a=b", "",
        "error: a resource cannot be retrieved by name across all namespaces\n", 2),
    # A tenant is a wall, not a folder: what ends or deletes something stays on one side of it.
    *(
        Row(f"{line} -A", "",
            f"error: -A is not supported: aosctl {line.split()[0]} {ONE_TENANT}\n"
            f"See 'aosctl {line.split()[0]} --help' for usage.\n", 2)
        for line in ("delete agents --all", "kill --all", "logs -l a=b", "wait agents --all")
    ),
)  # fmt: skip
AGE = r" +\d+s"
"""Of what was made by this test; `test_output` has all that AGE may look like."""
TABLES = (
    # Three blanks between columns, of which none ends a line; no borders, no colour.
    Row("get personas",
        rf"^NAME        MODEL     VERSION   AGE\nexpert      offline   1{AGE}\n"
        rf"pg_expert   offline   2{AGE}\n"),
    Row("get personas --no-headers",
        rf"^expert      offline   1{AGE}\npg_expert   offline   2{AGE}\n"),
    Row("get personas,agents",
        rf"^NAME                    MODEL     VERSION   AGE\n"
        rf"persona\.aos/expert      offline   1{AGE}\npersona\.aos/pg_expert   offline   2{AGE}\n\n"
        rf"NAME              PERSONA   MODEL     OPEN-RUNS   AGE\n"
        rf"agent\.aos/bot     expert    offline   0{AGE}\n"
        rf"agent\.aos/clerk   expert    offline   0{AGE}\n"),
    # Here a namespace is a tenant.
    Row("get personas -A",
        rf"^TENANT   NAME        MODEL     VERSION   AGE\nacme     expert      offline   1{AGE}\n"
        rf"acme     pg_expert   offline   2{AGE}\nglobex   writer      offline   1{AGE}\n"),
    Row("get personas --show-labels",
        rf"^NAME        MODEL     VERSION   AGE +LABELS\nexpert      offline   1{AGE} +<none>\n"
        rf"pg_expert   offline   2{AGE} +applyset\.aos/part-of=texts,team=data\n"),
    Row("get personas -L team,note",
        rf"^NAME        MODEL     VERSION   AGE +TEAM     NOTE\n"
        rf"expert      offline   1{AGE} +<none>   <none>\n"
        rf"pg_expert   offline   2{AGE} +data     <none>\n"),
    Row("get personas -o wide",
        rf"^NAME        MODEL     VERSION   AGE +DESCRIPTION\nexpert      offline   1{AGE}\n"
        rf"pg_expert   offline   2{AGE}\n"),
    Row("get personas -o custom-columns=N:.metadata.name,X:.metadata.labels.team",
        "N           X\nexpert      <none>\npg_expert   data\n"),
    Row("describe persona expert", r"^Name: +expert\n(.*\n)*Annotations:  <none>\n(.*\n)*"
        r"Events:\n( .*\n)+"),
)  # fmt: skip
ROWS = (*APPLYING, *CHANGING, *REFUSED, *ACROSS, *TABLES)


@pytest.fixture(scope="module")
def came(
    kernel_database: KernelDatabase, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[list[Came]]:
    home = tmp_path_factory.mktemp("texts")
    for name, text in FILES.items():
        (home / name).write_text(text)
    (home / "empty").mkdir()
    (home / "globex.yaml").write_text(GLOBEX)
    make_tenant(kernel_database, "acme")
    settings = {
        "HOME": str(home), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8", "AOSCTL_TENANT": "acme",
        "AOSCTL_DSN": kernel_database.cluster.dsn(INSTALLER, kernel_database.name),
        "AOSCTL_EDITOR": f"sh {home}/editor.sh", "TMPDIR": str(home),
    }  # fmt: skip
    yield in_turn([row.line.split() for row in ROWS], settings, cwd=home)


def fits(expected: str, text: str) -> bool:
    if expected.startswith("^"):
        return re.fullmatch(expected[1:], text) is not None
    return expected == text


@pytest.mark.parametrize("rows", [APPLYING, CHANGING, REFUSED, ACROSS, TABLES])
def test_it_is_said_as_kubectl_says_it(came: list[Came], rows: tuple[Row, ...]) -> None:
    first = ROWS.index(rows[0])
    wrong = [
        (row, one.status, one.out, one.err)
        for row, one in zip(rows, came[first : first + len(rows)], strict=True)
        if one.status != row.status or not fits(row.out, one.out) or not fits(row.err, one.err)
    ]
    assert not wrong, "\n".join(map(repr, wrong[:5]))


def test_a_pattern_fits_the_whole_text_or_nothing() -> None:
    """A control: what is compared here can differ."""
    assert fits("a\n", "a\n") and not fits("a\n", "a\nb\n") and not fits("", "a")
    assert fits(r"^\d+s\n", "12s\n") and not fits(r"^\d+s\n", "12s\nb\n")
