"""`apply --prune`: what left the files goes, in the set's own tenant; `--diff --confirm`."""

from __future__ import annotations

from pathlib import Path

import pexpect
import pytest

from command import AOSCTL, Aosctl
from kernels import Tenant

TENANT = "{apiVersion: aos/v1, kind: Tenant, metadata: {name: NAME}}\n---\n"
PERSONA = """\
apiVersion: aos/v1
kind: Persona
metadata: {name: NAME, tenant: TENANT}
spec: {model: offline, systemPrompt: Be brief.}
---
"""
AGENT = """\
apiVersion: aos/v1
kind: Agent
metadata: {name: NAME, tenant: TENANT}
spec: {persona: PERSONA}
---
"""
LABEL = "applyset.aos/part-of"


def persona(name: str, tenant: str) -> str:
    return PERSONA.replace("NAME", name).replace("TENANT", tenant)


def agent(name: str, tenant: str, of: str) -> str:
    return AGENT.replace("NAME", name).replace("TENANT", tenant).replace("PERSONA", of)


def there(admin: Aosctl, tenant: str) -> list[str]:
    return admin("get", "personas,agents", "-n", tenant, "-o", "name").out.split()


def test_what_left_the_files_is_pruned_and_nothing_else(admin: Aosctl) -> None:
    both = "".join(TENANT.replace("NAME", name) for name in ("here", "far"))
    alien = persona("alien", "here") + persona("far_one", "far")
    assert admin("apply", "-f", "-", stdin=both + alien).status == 0
    admin("label", "persona", "far_one", "-n", "far", f"{LABEL}=shop")
    first = persona("one", "here") + persona("two", "here") + agent("bot", "here", "two")
    words = ("apply", "-f", "-", "--prune", "--applyset", "shop")
    done = admin(*words, stdin=first)
    assert (done.status, done.err) == (0, "")
    assert done.out == "persona.aos/one created\npersona.aos/two created\nagent.aos/bot created\n"
    listed = admin("get", "personas", "-n", "here", "-l", f"{LABEL}=shop", "-o", "name")
    assert listed.out == "persona.aos/one\npersona.aos/two\n"
    alone = admin("apply", "-f", "-", stdin=first)  # a file alone leaves the set as it is
    assert {line.split()[1] for line in alone.out.splitlines()} == {"unchanged"}
    pruned = "persona.aos/one unchanged\nagent.aos/bot pruned\npersona.aos/two pruned\n"
    for mode, after in (("client", " (dry run)"), ("server", " (server dry run)")):
        dry = admin(*words, f"--dry-run={mode}", stdin=persona("one", "here"))
        assert (dry.status, dry.err) == (0, "")
        assert dry.out == pruned.replace("\n", f"{after}\n")
        assert "agent.aos/bot" in there(admin, "here")
    differs = admin("diff", "-f", "-", *words[3:], stdin=persona("one", "here"))
    assert differs.status == 1
    assert "-kind: Agent\n" in differs.out
    done = admin(*words, stdin=persona("one", "here"))
    assert (done.status, done.out, done.err) == (0, pruned, "")
    assert there(admin, "here") == ["persona.aos/alien", "persona.aos/one"]
    assert there(admin, "far") == ["persona.aos/far_one"]


def test_a_set_that_cannot_lose_one_changes_nothing(admin: Aosctl) -> None:
    words = ("apply", "-f", "-", "--prune", "--applyset", "kept")
    first = TENANT.replace("NAME", "used") + persona("base", "used") + persona("next", "used")
    assert admin(*words, stdin=first).status == 0
    admin("apply", "-f", "-", stdin=agent("outside", "used", "base"))
    second = persona("next", "used").replace("brief", "kind")
    done = admin(*words, stdin=second)
    assert (done.status, done.out) == (1, "")
    assert 'persona "base" is still used by agents' in done.err
    prompt = admin("get", "persona", "next", "-n", "used", "-o", "jsonpath={.spec.systemPrompt}")
    assert prompt.out == "Be brief."


def test_what_belongs_to_another_set_is_not_taken_over(admin: Aosctl) -> None:
    text = TENANT.replace("NAME", "owned") + persona("mine", "owned")
    assert admin("apply", "-f", "-", "--applyset", "first", stdin=text).status == 0
    done = admin("apply", "-f", "-", "--applyset", "second", stdin=text)
    assert (done.status, done.out) == (1, "")
    assert done.err.endswith(
        f'Persona "mine": metadata.labels.{LABEL}: it belongs to the apply-set "first"\n'
        f"hint: aosctl label persona mine {LABEL}- takes it out of that set\n"
    )
    taken = admin("label", "persona", "mine", "-n", "owned", f"{LABEL}-")
    assert taken.out == "persona.aos/mine unlabeled\n"
    done = admin("apply", "-f", "-", "--applyset", "second", stdin=text)
    assert done.out == "tenant.aos/owned unchanged\npersona.aos/mine configured\n"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--prune"], "error: --prune needs --applyset NAME: it deletes what was applied under"),
        (["--applyset", "no name"], "error: --applyset takes a name: "),
        (["--applyset", "ends-"], "error: --applyset takes a name: "),
        (["--confirm", "--dry-run=client"], "error: --dry-run=client and --confirm exclude each"),
        (["--confirm"], "error: a question needs a terminal\n"),
    ],
)
def test_wrong_flags(admin: Aosctl, tenant: Tenant, words: list[str], text: str) -> None:
    done = admin("apply", "-f", "-", *words, stdin=persona("never", "acme"))
    assert (done.status, done.out) == (2, "")
    assert done.err.startswith(text)
    assert "persona.aos/never" not in there(admin, "acme")


def test_what_is_shown_and_agreed_to_is_what_happens(
    admin: Aosctl, admin_dsn: str, env: dict[str, str], tenant: Tenant, tmp_path: Path
) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(persona("asked", "acme"))
    shown = admin("apply", "-f", str(path), "--diff")
    assert (shown.status, shown.err) == (0, "")
    assert "+  systemPrompt: Be brief.\n" in shown.out
    assert shown.out.endswith("persona.aos/asked created\n")
    path.write_text(persona("asked", "acme").replace("brief", "kind"))

    def ask() -> pexpect.spawn[str]:
        words = ["apply", "-f", str(path), "--diff", "--confirm"]
        settings = {**env, "AOSCTL_DSN": admin_dsn, "TERM": "dumb"}
        child = pexpect.spawn(
            str(AOSCTL), words, env=settings, encoding="utf-8", timeout=60, dimensions=(40, 200)
        )
        child.expect_exact("+  systemPrompt: Be kind.")
        child.expect_exact(" (AOSCTL_DSN):")
        child.expect_exact("persona.aos/asked configured in acme")
        child.expect_exact("Apply? [y/N] ")
        return child

    no = ask()
    no.sendline("n")
    no.expect_exact("error: nothing was done")
    no.expect(pexpect.EOF)
    no.close()
    assert no.exitstatus == 1
    late = ask()
    admin("label", "persona", "asked", "-n", "acme", "late=yes")
    late.sendline("y")
    late.expect_exact("it was changed meanwhile")
    late.expect(pexpect.EOF)
    late.close()
    assert late.exitstatus == 1
    yes = ask()
    yes.sendline("y")
    yes.expect_exact("persona.aos/asked configured\r\n")
    yes.expect(pexpect.EOF)
    yes.close()
    assert yes.exitstatus == 0
