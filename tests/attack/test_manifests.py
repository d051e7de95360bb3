"""E45 to E51: hostile manifests are refused, each in a process that may use little.

A row is an attack, what it is refused with, and the same manifest without the attack, which is
applied: the control. The command runs with a limit on CPU time; its own peak of memory is measured.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from aosctl.db.embedded import INSTALLER
from kernels import KernelDatabase, make_tenant

PEAK_KB = 100_000
CPU_SECONDS = 10
"""Where a row is stopped; what it takes is far less, and asserted as `SPENT_SECONDS`."""
SPENT_SECONDS = 1.0
YARDSTICK_SECONDS = 0.06
"""What the million multiplications at the end take on an idle machine of 2024. CPU time grows with
the load of the cores beside, and so does theirs: a row may take as many times longer as they do."""
ADDRESS_SPACE = 2**31
PROGRAM = """\
import atexit, sys, time
def tell():
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    spent = time.process_time()
    sum(n * n for n in range(1_000_000))
    print("\\n", peak.split()[1], spent, time.process_time() - spent, file=sys.stderr)
atexit.register(tell)
from aosctl.__main__ import main
raise SystemExit(main())
"""
WASTE = """\
x = bytearray(200_000_000)
x[::4096] = b"x" * len(x[::4096])
while time.process_time() < 2:
    pass
"""
HEAD = "apiVersion: aos/v1\nkind: {kind}\nmetadata: {{name: {name}}}\nspec:\n"
PERSONA = HEAD.format(kind="Persona", name="p") + "  model: offline\n  systemPrompt: hi\n"
SKILL = HEAD.format(kind="Skill", name="s") + "  builtin: sql_query\n"
COLLECTION = HEAD.format(kind="Collection", name="c") + "  documents:\n"
MODEL = HEAD.format(kind="Model", name="m") + "  provider: offline\n"


@dataclass(frozen=True)
class Attack:
    """`make` returns the manifest; `control` the same without the attack."""

    make: Callable[[], str]
    says: str
    control: str = PERSONA


def named(name: str) -> str:
    return PERSONA.replace("name: p", "name: " + json.dumps(name))


def with_file(name: str) -> str:
    return COLLECTION + f"  - {{title: a, file: {json.dumps(name)}}}\n"


def alias_bomb() -> str:
    lines = ['a0: &a0 ["lol","lol"]']
    lines += [f"a{n}: &a{n} [*a{n - 1},*a{n - 1},*a{n - 1}]" for n in range(1, 16)]
    return "\n".join(lines)


def references() -> str:
    """Names of nothing, to be compared with a thousand others each."""
    skills = "---\n".join(SKILL.replace("name: s", f"name: abcdefghij{n}") for n in range(1_500))
    agents = [
        HEAD.format(kind="Agent", name=f"a{n}")
        + f"  persona: p\n  skills: [{', '.join(f'abcdefghi{n}_{m}' for m in range(90))}]\n"
        for n in range(250)
    ]
    return "---\n".join([PERSONA, skills, *agents])


FILE_OF_A_MEGABYTE = COLLECTION + "".join(
    f"  - {{title: t{n}, file: docs/large.md}}\n" for n in range(5_000)
)
GOOD_FILE = with_file("docs/good.md")
NOT_READ = "is not read; write"
NO_NAME = "is not a name: 1 to 63 of a-z 0-9 _ . -"
LEAVES = "leaves the manifest's folder"
NO_PATH = "is not a path relative to the manifest's folder"

ATTACKS: dict[str, Attack] = {
    "E45 alias bomb": Attack(alias_bomb, 'the anchor "&a0" ' + NOT_READ),
    "E45 alias bomb in a spec": Attack(
        lambda: PERSONA + "  traits:\n    " + alias_bomb().replace("\n", "\n    "), NOT_READ
    ),
    "E45 alias as a key": Attack(lambda: PERSONA + "  traits: {&k a: 1, *k : 2}", NOT_READ),
    "E45 anchor in the second document": Attack(lambda: PERSONA + "---\na: &a b", NOT_READ),
    "E46 os.system": Attack(
        lambda: PERSONA + '  traits: {x: !!python/object/apply:os.system ["touch owned"]}',
        'the tag "!!python/object/apply:os.system" ' + NOT_READ,
    ),
    "E46 a Python name": Attack(lambda: "!!python/name:os.system", NOT_READ),
    "E46 a binary": Attack(lambda: PERSONA + "  traits: {x: !!binary aGk=}", NOT_READ),
    "E46 a set": Attack(lambda: PERSONA + "  rules: !!set {a}", NOT_READ),
    "E46 a tag of its own": Attack(lambda: PERSONA + "  description: !x y", NOT_READ),
    "E46 a tag by its directive": Attack(
        lambda: "%TAG !p! tag:yaml.org,2002:python/\n---\n" + PERSONA + "  traits: !p!tuple [1]",
        NOT_READ,
    ),
    "E46 a tag on a key": Attack(lambda: PERSONA + "  !!str description: x", NOT_READ),
    "E46 recursion": Attack(lambda: "spec: &a [*a]", NOT_READ),
    "E47 a key twice": Attack(
        lambda: SKILL + "  risk: high\n  risk: low\n", 'duplicate key "risk"', SKILL + "  risk: low"
    ),
    "E47 a key twice, once escaped": Attack(
        lambda: SKILL + '  risk: high\n  "\\x72isk": low\n', 'duplicate key "risk"', SKILL
    ),
    "E47 a key twice in JSON": Attack(
        lambda: (
            '{"apiVersion": "aos/v1", "kind": "Skill", "metadata": {"name": "s"},'
            ' "spec": {"builtin": "sql_query", "approval": "always", "approval": "never"}}'
        ),
        'duplicate key "approval"',
        SKILL,
    ),
    "E47 a spec twice": Attack(
        lambda: SKILL + "spec: {builtin: sql_execute}\n", 'duplicate key "spec"', SKILL
    ),
    "E47 a merge key": Attack(
        lambda: SKILL + "  <<: {approval: never}\n", "the merge key << " + NOT_READ, SKILL
    ),
    "E47 a quoted merge key": Attack(
        lambda: SKILL + '  "<<": {approval: never}\n', "unknown field", SKILL
    ),
    "E47 a document twice": Attack(
        lambda: SKILL + "  risk: high\n---\n" + SKILL, "is already given at", SKILL
    ),
    "E48 no": Attack(
        lambda: MODEL + "  active: no\n", "expected true or false", MODEL + "  active: false\n"
    ),
    "E48 on": Attack(lambda: MODEL + "  active: on\n", "expected true or false", MODEL),
    "E48 a time of day": Attack(
        lambda: SKILL + "  maxRows: 12:30\n", "expected an integer", SKILL + "  maxRows: 750\n"
    ),
    "E48 octal": Attack(lambda: SKILL + "  maxRows: 0777\n", "expected an integer", SKILL),
    "E48 hexadecimal": Attack(lambda: SKILL + "  maxRows: 0x1ff\n", "expected an integer", SKILL),
    "E48 underscores": Attack(lambda: SKILL + "  maxRows: 1_000\n", "expected an integer", SKILL),
    "E48 infinity": Attack(lambda: SKILL + "  timeoutSeconds: .inf\n", "expected a number", SKILL),
    "E48 not a number": Attack(lambda: SKILL + "  timeoutSeconds: .nan\n", "expected", SKILL),
    "E48 too large": Attack(lambda: SKILL + "  timeoutSeconds: 1e999\n", "is too large", SKILL),
    "E48 a version": Attack(
        lambda: MODEL + "  model: 4.1\n", "expected a string", MODEL + '  model: "4.1"\n'
    ),
    "E49 deep lists": Attack(lambda: "[" * 20_000, "is nested deeper than 64 levels"),
    "E49 deep mappings": Attack(lambda: "{a: " * 20_000, "is nested deeper than 64 levels"),
    "E49 deep blocks": Attack(lambda: "- " * 20_000, "is nested deeper than 64 levels"),
    "E49 deep keys": Attack(lambda: "? " * 20_000, "a key is a string"),
    "E49 deep in a spec": Attack(
        lambda: PERSONA + "  traits: {x: " + "[" * 20_000, "is nested deeper than 64 levels"
    ),
    "E49 deep JSON": Attack(lambda: '{"a":' * 20_000, "is nested deeper than 64 levels"),
    "E49 50 MB": Attack(lambda: "# x\n" * 12_500_000, "is larger than 10 MB"),
    "E49 a number of 5,000 digits": Attack(
        lambda: PERSONA + f"  traits: {{n: {'9' * 5_000}}}", "is too long"
    ),
    "E49 a number of 9 MB": Attack(
        lambda: PERSONA + f"  traits: {{n: {'9' * 9_000_000}}}", "is too long"
    ),
    "E49 a string that never ends": Attack(lambda: 'a: "' + "x" * 9_000_000, "unexpected end"),
    "E49 a key of 9 MB": Attack(lambda: "x" * 9_000_000 + ": 1", ""),
    "E49 many values": Attack(lambda: "[" + "0," * 4_000_000 + "]", "keys and values"),
    "E49 many documents": Attack(lambda: "---\n{}\n" * 20_000, "100 or more problems"),
    "E49 many unknown fields": Attack(
        lambda: PERSONA + "\n".join(f"  systemPromptt{n}: x" for n in range(40_000)),
        "100 or more problems",
    ),
    "E49 many names of nothing": Attack(references, "100 or more problems"),
    "E49 many names in one list": Attack(
        lambda: SKILL + "  roles: [" + ", ".join(f"r{n}" for n in range(90_000)) + "]",
        "has 90,000 items",
        SKILL,
    ),
    "E49 a file of 1 MB, 5,000 times": Attack(
        lambda: FILE_OF_A_MEGABYTE, "the files of the set hold more than 10 MB", GOOD_FILE
    ),
    "E50 above": Attack(lambda: with_file("../../etc/passwd"), LEAVES, GOOD_FILE),
    "E50 down and above": Attack(lambda: with_file("docs/../../secret"), LEAVES, GOOD_FILE),
    "E50 absolute": Attack(lambda: with_file("/etc/passwd"), NO_PATH, GOOD_FILE),
    "E50 a symlink": Attack(lambda: with_file("link"), LEAVES, GOOD_FILE),
    "E50 through a symlink": Attack(lambda: with_file("outside/secret"), LEAVES, GOOD_FILE),
    "E50 file://": Attack(lambda: with_file("file:///etc/passwd"), NO_PATH, GOOD_FILE),
    "E50 the environment": Attack(lambda: with_file("/proc/self/environ"), NO_PATH, GOOD_FILE),
    "E50 a link to the environment": Attack(lambda: with_file("environ"), LEAVES, GOOD_FILE),
    "E50 backslashes": Attack(lambda: with_file("..\\secret"), NO_PATH, GOOD_FILE),
    "E50 a pipe": Attack(lambda: with_file("pipe"), "it is no regular file", GOOD_FILE),
    "E50 a folder": Attack(lambda: with_file("docs"), "can't be read", GOOD_FILE),
    "E50 NUL": Attack(lambda: with_file("a\0b"), "control character", GOOD_FILE),
    "E50 a secret's file": Attack(
        lambda: HEAD.format(kind="Secret", name="x") + "  data: {k: {fromFile: ../secret}}\n",
        LEAVES,
        HEAD.format(kind="Secret", name="x") + "  data: {k: {fromFile: docs/good.md}}\n",
    ),
    "E51 a semicolon": Attack(lambda: named("x; drop table agent"), NO_NAME),
    "E51 a quote": Attack(lambda: named('x"y'), NO_NAME),
    "E51 a single quote": Attack(lambda: named("x'y"), NO_NAME),
    "E51 a line break": Attack(lambda: named("x\ny"), NO_NAME),
    "E51 a line break at the end": Attack(lambda: named("x\n"), NO_NAME),
    "E51 NUL": Attack(lambda: named("x\0y"), "control character"),
    "E51 10,000 letters": Attack(lambda: named("x" * 10_000), "at most 63 fit"),
    "E51 right to left": Attack(lambda: named("x\u202ey"), NO_NAME),
    "E51 a homoglyph": Attack(lambda: named("p\u0430y"), NO_NAME),
    "E51 full width": Attack(lambda: named("\uff41dmin"), NO_NAME),
    "E51 an escape": Attack(lambda: named("x\x1b[2Jy"), "control character"),
    "E51 dots": Attack(lambda: named(".."), NO_NAME),
    "E51 a path": Attack(lambda: named("../x"), NO_NAME),
    "E51 an option": Attack(lambda: named("--all"), NO_NAME),
    "E51 a pg_ schema": Attack(
        lambda: (
            SKILL
            + "  sql: {grants: [{schema: pg_catalog, tables: [pg_authid], privileges: [select]}]}"
        ),
        "is not open to agents",
        SKILL,
    ),
    "E51 a label": Attack(
        lambda: PERSONA.replace("{name: p}", '{name: p, labels: {a: "b\\nc"}}'),
        "is not a label's value",
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of manifests with something to steal beside it."""
    base = tmp_path_factory.mktemp("home")
    (base / "secret").write_text("stolen")
    place = base / "manifests"
    (place / "docs").mkdir(parents=True)
    (place / "docs" / "good.md").write_text("fine")
    (place / "docs" / "large.md").write_text("x" * 999_000)
    (place / "link").symlink_to(base / "secret")
    (place / "outside").symlink_to(base)
    (place / "environ").symlink_to("/proc/self/environ")
    os.mkfifo(place / "pipe")
    return place


@dataclass(frozen=True)
class Shell:
    """`aosctl` in a process of its own that may not use more than it should."""

    database: KernelDatabase
    folder: Path

    def apply(self, text: str, *words: str) -> tuple[int, str, int, float]:
        """Apply a manifest; return status, messages, peak kilobytes, CPU seconds when idle."""
        path = self.folder / "attack.yaml"
        path.write_bytes(text.encode("utf-8", "surrogatepass"))
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, "apply", "-n", "acme", "-f", "attack.yaml", *words],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={
                "HOME": str(self.folder.parent),
                "PATH": os.environ["PATH"],
                "PYTHONPATH": os.environ.get("PYTHONPATH", ""),
                "AOSCTL_DSN": self.database.cluster.dsn(INSTALLER, self.database.name),
                "AOSCTL_MASTER_KEY": "ab" * 32,
            },
            preexec_fn=_limit,
            timeout=120,
            check=False,
        )
        message, _, measured = done.stderr.rstrip().rpartition("\n")
        peak, spent, yardstick = measured.split()
        said = (done.stdout + message).rstrip()
        slow = max(1.0, float(yardstick) / YARDSTICK_SECONDS)
        return done.returncode, said, int(peak), float(spent) / slow


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))


@pytest.fixture(scope="module")
def shell(kernel_database: KernelDatabase, folder: Path) -> Shell:
    make_tenant(kernel_database, "acme")
    return Shell(kernel_database, folder)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_refused_and_costs_little(name: str, shell: Shell) -> None:
    attack = ATTACKS[name]
    before = shell.database.fingerprint()
    status, message, peak, spent = shell.apply(attack.make())
    assert status == 1 and attack.says in message, message[:500]
    assert "stolen" not in message and "Traceback" not in message and len(message) < 20_000
    assert all(line.isprintable() for line in message.split("\n")), message[:500]
    bound = SPENT_SECONDS + idle_seconds(shell)
    if spent >= bound:  # what it costs is the least that it takes: the cores beside it only add
        spent = min(spent, *(shell.apply(attack.make())[3] for _ in range(2)))
    assert peak < PEAK_KB and spent < bound, (peak, spent)
    assert shell.database.fingerprint() == before
    assert not list(shell.folder.glob("owned"))


_idle: list[float] = []


def idle_seconds(shell: Shell) -> float:
    """Return what the command costs by itself: CPU time grows where others share the core."""
    if not _idle:
        _idle.append(max(shell.apply(PERSONA, "--dry-run=server")[3] for _ in range(2)))
    return _idle[0]


@pytest.mark.parametrize("control", sorted({attack.control for attack in ATTACKS.values()}))
def test_the_same_without_the_attack_is_applied(control: str, shell: Shell) -> None:
    status, message, peak, _ = shell.apply(control, "--dry-run=server")
    assert (status, message.endswith(" (server dry run)")) == (0, True), message
    assert peak < PEAK_KB


def test_the_measure_sees_what_is_too_much(shell: Shell, folder: Path) -> None:
    """The control of the measure: a program that does take memory and time."""
    waste = PROGRAM.partition("from aosctl")[0] + WASTE
    done = subprocess.run(
        [sys.executable, "-c", waste], capture_output=True, text=True, timeout=120, check=True
    )
    peak, spent, _ = done.stderr.split()
    assert int(peak) > PEAK_KB and float(spent) > SPENT_SECONDS
