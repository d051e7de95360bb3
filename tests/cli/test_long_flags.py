"""Flags in the spelling that the other tests do not use, each in a command that shows its effect.

Most are the long forms: a script has those, and a person types the short ones.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import pytest

from command import Aosctl
from kernels import META, Tenant, call

MANIFEST = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: long, tenant: acme, labels: {app: long}}
spec: {model: offline, systemPrompt: Long.}
"""


class Line(NamedTuple):
    """A command line, its status, and what its outputs match from beginning to end."""

    words: str
    status: int
    out: str
    err: str


class Place(NamedTuple):
    """Runs of the tenant `acme`: one that waits for an approval, one that rests, one killed."""

    waiting: str
    resting: str
    closed: str


@pytest.fixture(scope="module")
def place(tenant: Tenant, tmp_path_factory: pytest.TempPathFactory) -> Place:
    asked = tenant.asked("sql_execute", {"statement": "delete from shop.orders"}, "clerk")
    resting = tenant.start_run()
    killed = tenant.start_run()
    tenant.open(killed, "hello")
    call(tenant.person, "aos_agent.cancel_run", tenant.id, killed, "enough")
    meta = {**META, "labels": {"app": "long"}}
    persona = {"systemPrompt": "Brief.", "model": "offline"}
    superuser = tenant.database.superuser
    call(superuser, "aos_persona.apply_persona", tenant.id, "brief", meta, persona)
    return Place(
        name_of(tenant, asked.run),
        name_of(tenant, resting),
        name_of(tenant, killed),
    )


def name_of(tenant: Tenant, run: UUID) -> str:
    return str(tenant.run_row(run)["name"])


NO_RUNS = r"No such runs in acme tenant\n"
ONLY_LISTS = r"error: -A and (-l|-o) exclude each other: -A only lists; choose a tenant with -n\n"
PENDING = r"acme   [0-9a-f]{8}   {waiting}   clerk   sql_execute   delete from shop\.orders .*\n"
TO_DECIDE = r'hint: aosctl approve [0-9a-f]{8}, or aosctl deny [0-9a-f]{8} --reason "…"\n'
TOP = r"0 runs in all tenants\n0 tokens · .*\n\nTENANT   RUN +AGENT .*\n"
BRIEF = r"Name: +brief\nTenant: +acme\nLabels: +app=long\n.*"
ME = r'{\n    "administrator": false,.*"login": "test_developer",.*}\n'
ASIDE = r".*"

READING: tuple[Line, ...] = (
    Line("get personas --output name --selector app=long", 0, r"persona\.aos/brief\n", ""),
    Line("get personas --all-tenants --selector app=long --label-columns app", 0,
         r"TENANT +NAME .* APP\nacme +brief .* long\n", ""),
    Line("get personas --all-namespaces --selector app=long", 0,
         r"TENANT .*\nacme +brief .*\n", ""),
    Line("get agent to_come --watch", 1, "",
         r'Error from server \(NotFound\): agents\.aos "to_come" not found\n'),
    Line("get agents --watch-only --output-watch-events --output name", 2, "",
         r"error: -o name has no room for --output-watch-events\nhint: leave -o out\n"),
    Line("describe personas -l app=long", 0, BRIEF, ""),
    Line("describe personas --all-tenants --selector app=long", 0, BRIEF, ""),
    Line("describe personas --all-namespaces --selector app=none", 0, "", "No resources found\n"),
    Line("ps --all --all-tenants --output name", 0, r"(run\.aos/(clerk|bot)-\w+\n){3}", ""),
    Line("ps --all-namespaces --selector app=none", 0, "",
         "No open runs; aosctl ps -a lists all\n"),
    Line("ps --all --quiet --selector app=none", 0, "", ""),
    Line("--quiet ps --all --selector app=none", 0, "", ""),
    Line("auth can-i --quiet get agents", 0, "", ""),
    Line("ps --watch --selector a==b==c", 2, "",
         r'error: unable to parse the selector "a==b==c" at "a==b==c"\nhint: such as -l .*\n'),
    Line("top --once -A -l app=none", 0, TOP, ""),
    Line("top --once --all-tenants --selector app=none", 0, TOP, ""),
    Line("top --once --all-namespaces", 0, r"1 run in all tenants: 1 awaiting approval\n.*", ""),
    Line("logs --selector app=none --output json", 0, "",
         r"No resources found in acme tenant\.\n"),
    Line("logs --follow --tail 1 none", 1, "",
         r'Error from server \(NotFound\): runs\.aos "none" not found\n'
         r"hint: aosctl ps -a lists the runs\n"),
    Line("events --all-tenants --output json --tail 1", 0, r'{"at": .*"tenant": "acme", .*}\n',
         r"the last 1; --tail -1 lists all\n"),
    Line("events --all-namespaces --output yaml", 2, "",
         r'error: unable to match a printer suitable for the output format "yaml", allowed formats'
         r" are: json,wide\n"),
    Line("events --all-namespaces --watch", 2, "",
         r"error: -A and -w exclude each other: choose a tenant with -n\n"),
    Line("trace {resting} --output json", 0, r'{\n    "agent": "bot",.*"turns": \[\]\n}\n', ""),
    Line("attach {closed} --tail 1 --timestamps --live", 4,
         r"\d{4}-\d\d-\d\dT\S+Z run   cancelled by user:dev · enough\n",
         r"attached to run/{closed}, which is cancelled\n.*is cancelled\n"),
    Line("attach {closed} --tail 0 --no-live -q", 4, "", ""),
    Line("approve --selector app=none --output json --all-tenants", 2, "", ONLY_LISTS),
    Line("approve --all-namespaces --no-headers", 0, PENDING, TO_DECIDE),
    Line("approve --inbox", 2, "",
         r"error: -i needs a terminal\nhint: aosctl approve lists what is pending\n"),
    Line("deny --inbox", 2, "",
         r"error: -i needs a terminal\nhint: aosctl deny lists what is pending\n"),
    Line("deny --all-tenants --no-headers", 0, PENDING, TO_DECIDE),
    Line("deny -A --output name", 0, r"approval\.aos/[0-9a-f]{8}\n", ""),
    Line("deny --all-namespaces --selector app=none", 2, "", ONLY_LISTS),
    Line("deny --all --yes none", 2, "", r"error: ID and --all exclude each other\n"),
    Line("resolve --output json --all-tenants", 0, r'{\n.*"items": \[\],.*}\n',
         "No calls of unknown outcome\n"),
    Line("resolve --all-namespaces --no-headers", 0, "", "No calls of unknown outcome\n"),
    Line("cost --output json -A", 0, r'{\n    "by": "agent",.*"agent": "clerk",.*}\n', ""),
    Line("cost --all-tenants --by tenant --no-headers", 0,
         r"acme   1     0     0     \$0\.00\n", ""),
    Line("cost --all-namespaces", 0, r"AGENT   ANSWERS .*\nclerk   1 .*\n", ""),
    Line("audit verify --since 30d --output json", 0, r'{\n.*"findings": \[\],.*}\n', ""),
    Line("auth whoami -o json", 0, ME, ""),
    Line("auth whoami --output json", 0, ME, ""),
    Line("auth roles --output json", 0, r'\[\n.*"role": "developer",.*\]\n', ""),
    Line("whoami --output json", 0, ME, ""),
    Line("version --output json", 0, r'{\n    "clientVersion": "[0-9.]+"\n}\n', ""),
    Line("schema agent --output {folder}/agent.schema", 0, "", ""),
    Line("api-resources --output name", 0, r"agents\.aos\n.*turns\.aos\n", ""),
    Line("config get-contexts --output name", 0, "", r"No contexts in .*/config\.yaml\.\n"),
    Line("doctor --output json", 1, r'{\n    "checked": \d+,.*}\n', r".*\d+ rules checked.*\n"),
    Line("db status --output json", 0, r'{\n    "client": .*"server": "running, .*}\n', ""),
    Line("diff --filename {folder} --recursive", 1, r"diff .*\+  name: long\n.*", ""),
    Line("diff -f {folder} -R", 1, r"diff .*\+  name: long\n.*", ""),
    Line("rollout history persona/brief --output json", 0, r'{\n.*"kind": "Persona",.*}\n', ""),
    Line("wait personas --selector app=long --for=create --output name", 0,
         r"persona\.aos/brief\n", ""),
    Line("apply --filename {folder} --recursive --output name --dry-run=client", 0,
         r"persona\.aos/long\n", ""),
)  # fmt: skip

BRIEF_NAME = r"persona\.aos/brief\n"
CHANGING: tuple[Line, ...] = (
    Line("label personas --selector app=long tier=gold --output name", 0, BRIEF_NAME, ""),
    Line("annotate personas --selector app=long note=one --output name", 0, BRIEF_NAME, ""),
    Line("annotate personas -l app=long note=two --overwrite -o name", 0, BRIEF_NAME, ""),
    Line("annotate personas --field-selector metadata.name=brief --list", 0, "note=two\n", ""),
    Line("annotate personas --all --dry-run=client other=x", 0,
         r"persona\.aos/brief annotated \(dry run\)\n"
         r"persona\.aos/expert annotated \(dry run\)\n", ""),
    Line("label personas -A --selector app=none tier=gold", 0, "",
         "No resources found\n"),
    Line("label personas --all-tenants --selector app=none tier=gold", 0, "",
         "No resources found\n"),
    Line("label personas --all-namespaces --selector app=none tier=gold", 0, "",
         "No resources found\n"),
    Line("annotate personas -A --selector app=none tier=gold", 0, "",
         "No resources found\n"),
    Line("annotate personas --all-tenants --selector app=none tier=gold", 0, "",
         "No resources found\n"),
    Line("annotate personas --all-namespaces --selector app=none tier=gold", 0, "",
         "No resources found\n"),
    Line("patch persona brief --patch {{}} --output name", 0, BRIEF_NAME, ""),
    Line("edit personas -l app=none -o json", 0, "", "No resources found\n"),
    Line("edit personas --selector app=none --output json", 0, "", "No resources found\n"),
    Line("fork {resting} --output name", 0, r"run\.aos/bot-\w+\n", ""),
    Line("kill --signal STOP --selector app=none --yes", 0, "", NO_RUNS),
    Line("resume --selector app=none --yes", 0, "", NO_RUNS),
    Line("apply --filename {folder} --recursive", 0, r"persona\.aos/long created\n", ""),
    Line("delete -f {folder} -R --dry-run=server", 0,
         r'persona\.aos "long" deleted \(server dry run\)\n', ""),
    Line("delete --filename {folder} --recursive --output name", 0, r"persona\.aos/long\n", ""),
    Line("delete personas --selector app=none --interactive", 0, "",
         r"No resources found in acme tenant\.\n"),
    Line("create secret one --from-env HOME --output name", 0, r"secret\.aos/one\n", ""),
    Line("secret rotate --new-key-from env:NONE", 1, "", r"error: .*NONE.*\n"),
    Line("secret init --file {folder}/master.key", 0, r"master key \w+ made in the file .*\n",
         r"Keep a copy of it.*\n"),
    Line("chat --continue --prompt hi --output json --max-steps 1 --max-turns 1", 2,
         r'{\n.*"exit": 2,.*}\n',
         r"error: --max-steps and -c exclude each other: limits are set when a .*\nhint: .*\n"),
    Line("run bot hi --output json", 0, r'{\n    "run": "bot-\w+",\n.*"exit": 0,.*}\n',
         r"⏺ rag_search\(hi\) · .*\n"),
)  # fmt: skip

AN_ADMIN: tuple[Line, ...] = (
    Line("create principal jane --type service --display-name Jane", 0,
         r"principal\.aos/jane created\n", ""),
    Line("audit export --run {resting} --since 30d --output {folder}/trail.jsonl", 0, "", ASIDE),
    Line("audit checkpoint --output {folder}/heads.aos", 0, "", ASIDE),
    Line("export tenant acme --output {folder}/tenant.jsonl", 0, "", ASIDE),
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "long.yaml").write_text(MANIFEST)
    return tmp_path


def check(run: Aosctl, lines: tuple[Line, ...], place: Place, folder: Path) -> None:
    for line in lines:
        words = line.words.format(**place._asdict(), folder=folder).split()
        done = run(*words, XDG_CONFIG_HOME=str(folder / "config"), AOSCTL_MASTER_KEY="00" * 32)
        assert done.status == line.status, (words, done)
        for pattern, text in ((line.out, done.out), (line.err, done.err)):
            for name, value in place._asdict().items():
                pattern = pattern.replace(f"{{{name}}}", re.escape(value))
            assert re.fullmatch(pattern, text, re.DOTALL), (words, done)


@pytest.mark.parametrize("lines", [READING, CHANGING], ids=["reading", "changing"])
def test_a_flag_in_its_other_spelling(
    lines: tuple[Line, ...], developer: Aosctl, place: Place, folder: Path
) -> None:
    check(developer, lines, place, folder)


def test_a_flag_of_an_admin_in_its_other_spelling(
    admin: Aosctl, place: Place, folder: Path
) -> None:
    check(partial(admin, AOSCTL_TENANT="acme"), AN_ADMIN, place, folder)
    assert (folder / "trail.jsonl").stat().st_size > 0
    assert (folder / "tenant.jsonl").stat().st_size > 0
