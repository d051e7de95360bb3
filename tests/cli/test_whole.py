"""What `get` prints applies back; what it watches; what `delete` asks and takes with it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator

import pexpect
import pytest

from aosctl.domain.kinds import BY_NAME, KINDS
from command import AOSCTL, Aosctl
from kernels import META, SEALED, KernelDatabase, Tenant, apply, call

PERSONA = {"systemPrompt": "Be brief.\nAlways.\n", "model": "offline"}


def fill(tenant: Tenant) -> None:
    """Make one of every kind that a tenant has, with labels and notes that YAML could misread."""
    superuser = tenant.database.superuser
    meta = {"labels": {"on": "yes", "n": "1.0"}, "annotations": {"note": "a: b\n# no comment\n"}}
    for function, name, spec in (
        ("aos_persona.apply_persona", "whole", {**PERSONA, "params": {"temperature": 0.5}}),
        ("aos_rag.apply_collection", "whole", {"documents": [{"title": "T", "text": "null"}]}),
        ("aos_skills.apply_policy", "whole", {"skills": ["nothing_*"], "decision": "deny"}),
        ("aos_skills.apply_mcpserver", "whole",
         {"url": "https://tools.example.com/mcp", "timeoutSeconds": 30}),
        ("aos_auth.apply_secret", "whole", {"data": {"api": {"sealed": SEALED}}}),
        ("aos_core.apply_budget", "whole",
         {"scope": "tenant", "period": "day", "limits": {"maxUsd": 25, "maxTokens": 10**9}}),
        ("aos_agent.apply_schedule", "whole",
         {"agent": "bot", "schedule": "0 8 * * *", "timeZone": "Europe/Berlin", "input": "null",
          "startingDeadlineSeconds": 60, "limits": {"maxUsd": 0.5}}),
    ):  # fmt: skip
        call(superuser, function, tenant.id, name, meta, spec)


@pytest.mark.parametrize("form", ["yaml", "json"])
def test_what_get_prints_of_every_kind_applies_back_unchanged(
    admin: Aosctl, tenant: Tenant, form: str
) -> None:
    fill(tenant)
    kinds = ",".join(kind.plural for kind in KINDS)
    skills = admin("get", "skills,mcpservers", "-n", "acme", "-o", "json").out
    admin("apply", "-f", "-", stdin=skills)  # the fixture's lack what aosctl fills in
    printed = admin("get", kinds, "-n", "acme", "-o", form)
    assert (printed.status, printed.err) == (0, "")
    before = admin("get", kinds, "-n", "acme", "-o", "name").out.splitlines()
    assert {line.partition(".")[0] for line in before} == {kind.singular for kind in KINDS}
    applied = admin("apply", "-f", "-", stdin=printed.out)
    assert (applied.status, applied.err) == (0, "")
    assert sorted(applied.out.splitlines()) == sorted(f"{name} unchanged" for name in before)
    assert admin("get", kinds, "-n", "acme", "-o", form).out == printed.out


def test_each_kind_takes_a_label_and_grows_by_one_generation(admin: Aosctl, tenant: Tenant) -> None:
    fill(tenant)
    kinds = ",".join(kind.plural for kind in KINDS)
    before = json.loads(admin("get", kinds, "-n", "acme", "-o", "json").out)["items"]
    one_each = {item["kind"]: item for item in before}
    words = [f"{kind.lower()}/{item['metadata']['name']}" for kind, item in one_each.items()]
    done = admin("label", "-n", "acme", *words, "touched=yes")
    assert (done.status, done.err, done.out.count(" labeled\n")) == (0, "", len(BY_NAME))
    after = json.loads(admin("get", *words, "-n", "acme", "-o", "json").out)["items"]
    for item in after:
        old = one_each[item["kind"]]
        assert item["spec"] == old["spec"]
        assert item["metadata"]["generation"] == old["metadata"]["generation"] + 1
    admin("label", "-n", "acme", *words, "touched-")


def test_fields_choose(developer: Aosctl, tenant: Tenant) -> None:
    done = developer("get", "agents", "--field-selector", "metadata.name!=bot", "-o", "name")
    assert (done.status, done.out, done.err) == (0, "agent.aos/clerk\n", "")
    listed = developer("get", "agents", "--field-selector=spec.skills=send_mail", "-o", "name")
    assert listed.out == "agent.aos/clerk\n"
    run = tenant.start_run()
    name = tenant.database.value("select name from aos_core.run where run_id = %s", run)
    runs = developer("get", "runs", "--field-selector", "status.state==idle,spec.agent=bot")
    assert str(name) in runs.out
    none = developer("get", "runs", "--field-selector", "status.state=nothing")
    assert (none.status, none.out, none.err) == (0, "", "No resources found in acme tenant.\n")
    wrong = developer("get", "agents", "--field-selector", "spec.skils=x")
    assert (wrong.status, wrong.out) == (2, "")
    assert wrong.err.startswith(
        'error: field label not supported: spec.skils; did you mean "spec.skills"?\n'
    )


@pytest.fixture
def watch(env: dict[str, str], tenant: Tenant) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start `aosctl get … -w` as the developer; it is ended after the test."""
    database: KernelDatabase = tenant.database
    settings = {**env, "AOSCTL_DSN": database.cluster.dsn("test_developer", database.name)}
    started: list[subprocess.Popen[str]] = []

    def start(*words: str) -> subprocess.Popen[str]:
        command = [AOSCTL, "get", *words, "-w"]
        started.append(subprocess.Popen(command, stdout=-1, stderr=-1, text=True, env=settings))
        return started[-1]

    yield start
    for one in started:
        one.kill()
        one.communicate()


def test_a_watch_prints_a_row_for_each_change(
    developer: Aosctl, tenant: Tenant, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    superuser = tenant.database.superuser
    apply(superuser, "aos_persona.apply_persona", tenant.id, "seen", PERSONA)
    one = watch("personas", "--field-selector", "metadata.name=seen", "--output-watch-events")
    assert one.stdout is not None
    headers = one.stdout.readline()
    assert headers.split()[:3] == ["EVENT", "NAME", "MODEL"]
    assert one.stdout.readline().split()[:2] == ["ADDED", "seen"]
    changed = {**PERSONA, "systemPrompt": "Be kind."}
    apply(superuser, "aos_persona.apply_persona", tenant.id, "seen", changed)
    row = one.stdout.readline()
    assert row.split()[:4] == ["MODIFIED", "seen", "offline", "2"]
    assert row.index("offline") == headers.index("MODEL"), "it stands below its header"
    developer("delete", "persona", "seen")
    assert one.stdout.readline().split()[:2] == ["DELETED", "seen"]


def test_a_watch_has_its_headers_once_and_objects_with_events(
    tenant: Tenant, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    superuser = tenant.database.superuser
    for name in ("seen_a", "seen_b"):
        apply(superuser, "aos_persona.apply_persona", tenant.id, name, PERSONA)
    only = ("-l", "!none", "--field-selector", "metadata.name!=other")
    one = watch("personas", *only, "-o", "custom-columns=N:.metadata.name", "--sort-by=.kind")
    assert one.stdout is not None and one.stderr is not None
    assert one.stdout.readline() == "N\n"
    assert "N\n" not in {one.stdout.readline() for _ in range(2)}
    assert "--sort-by will be ignored" in one.stderr.readline()
    bare = watch("persona", "seen_a", "-o", "custom-columns=N:.metadata.name", "--no-headers")
    assert bare.stdout is not None and bare.stdout.readline() == "seen_a\n"
    whole = watch("persona", "seen_a", "--output-watch-events", "-o", "jsonpath={.type} ")
    assert whole.stdout is not None and whole.stdout.read(6) == "ADDED "


def test_a_watch_of_nothing_ends_unless_it_is_to_wait(
    developer: Aosctl, tenant: Tenant, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    done = developer("get", "persona", "to_come", "-w")
    assert (done.status, done.out) == (1, "")
    assert 'Error from server (NotFound): personas.aos "to_come" not found\n' in done.err
    one = watch("persona", "to_come", "--ignore-not-found", "--no-headers")
    apply(tenant.database.superuser, "aos_persona.apply_persona", tenant.id, "to_come", PERSONA)
    assert one.stdout is not None and one.stdout.readline().split()[0] == "to_come"


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--output-watch-events",), "error: --output-watch-events option can only be used with"),
        (("-w", "--output-watch-events", "-o", "name"), "error: -o name has no room for"),
    ],
)
def test_watch_flags_that_contradict(developer: Aosctl, words: tuple[str, ...], error: str) -> None:
    done = developer("get", "personas", *words)
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(error)


def test_a_watch_of_runs_hears_of_them(
    developer: Aosctl, tenant: Tenant, watch: Callable[..., subprocess.Popen[str]]
) -> None:
    run = tenant.start_run()
    name = str(tenant.database.value("select name from aos_core.run where run_id = %s", run))
    one = watch("run", name, "-o", "jsonpath={.status.state} ")
    assert one.stdout is not None
    assert one.stdout.read(5) == "idle "
    developer("kill", name)
    assert one.stdout.read(10) == "cancelled "


def test_a_cascade_takes_what_cannot_be_without_it(
    developer: Aosctl, admin: Aosctl, tenant: Tenant
) -> None:
    superuser = tenant.database.superuser
    apply(superuser, "aos_persona.apply_persona", tenant.id, "base", PERSONA)
    apply(superuser, "aos_agent.apply_agent", tenant.id, "leaf", {"persona": "base"})
    call(superuser, "aos_core.apply_budget", tenant.id, "of_leaf", META, {
        "scope": "agent", "agent": "leaf", "period": "day", "limits": {"maxUsd": 1},
    })  # fmt: skip
    used = developer("delete", "persona", "base")
    assert (used.status, used.out) == (1, "")
    gone = (
        'budget.aos "of_leaf" deleted{0}\nagent.aos "leaf" deleted{0}\n'
        'persona.aos "base" deleted{0}\n'
    )
    words = ("delete", "persona", "base", "--cascade=foreground", "-n", "acme")
    for mode, after in (("client", " (dry run)"), ("server", " (server dry run)")):
        dry = admin(*words, f"--dry-run={mode}")
        assert (dry.status, dry.out, dry.err) == (0, gone.format(after), "")
    denied = developer(*words)  # budgets are the admins'
    assert (denied.status, denied.out) == (1, "")
    assert "budget" in denied.err
    assert developer("get", "persona/base", "agent/leaf").status == 0
    done = admin(*words)
    assert (done.status, done.out, done.err) == (0, gone.format(""), "")
    assert developer("get", "persona/base", "agent/leaf").status == 1
    model = admin("delete", "model", "offline", "--cascade=background")
    assert (model.status, model.out) == (1, "")
    assert model.err.startswith('error: models belong to no tenant: "offline" is not deleted with')


@pytest.mark.parametrize(
    ("words", "status", "text"),
    [
        (["persona", "expert", "--cascade=orphan"], 2,
         "error: nothing here may name what is not there: --cascade=orphan is not built\n"),
        (["persona", "expert", "--cascade=all"], 2, "error: --cascade must be foreground or"),
        (["-f", "-", "--cascade=foreground"], 2, "error: --cascade and -f exclude each other"),
        (["persona", "expert", "-i"], 2, "error: a question needs a terminal\n"),
        (["persona", "exprt"], 1, 'Error from server (NotFound): personas.aos "exprt" not found\n'
                                  'hint: did you mean "expert"?\n'),
        (["persona", "expert", "--field-selector", "metadata.name=expert"], 2,
         "error: name cannot be provided"),
    ],
)  # fmt: skip
def test_wrong_deletes(
    developer: Aosctl, tenant: Tenant, words: list[str], status: int, text: str
) -> None:
    done = developer("delete", *words)
    assert (done.status, done.out) == (status, "")
    assert done.err.startswith(text)
    assert developer("get", "persona/expert").status == 0


def test_interactive_lists_and_asks(env: dict[str, str], tenant: Tenant, admin: Aosctl) -> None:
    database = tenant.database
    for name in ("ask_a", "ask_b"):
        apply(database.superuser, "aos_persona.apply_persona", tenant.id, name, PERSONA)
    dsn = database.cluster.dsn("test_developer", database.name)
    for answer, left in (("", 2), ("n", 2), ("y", 0)):
        child = pexpect.spawn(
            str(AOSCTL),
            ["delete", "personas", "ask_a", "ask_b", "-i"],
            env={**env, "AOSCTL_DSN": dsn, "TERM": "dumb"},
            encoding="utf-8",
            timeout=60,
        )
        child.expect_exact("You are about to delete the following 2 resource(s):\r\n")
        child.expect_exact("persona.aos/ask_a\r\npersona.aos/ask_b\r\nDo you want to continue? ")
        child.sendline(answer)
        if left:
            child.expect_exact("deletion is cancelled\r\n")
        else:
            child.expect_exact('persona.aos "ask_b" deleted\r\n')
        child.expect(pexpect.EOF)
        child.close()
        assert child.exitstatus == 0
        found = admin("get", "personas", "-n", "acme", "-o", "name").out
        assert found.count("/ask_") == left
