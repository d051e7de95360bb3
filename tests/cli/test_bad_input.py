"""What is wrong in a command line or a file is said before anything is connected.

The grids go through every command that takes the flag, one process for each grid: the frame is
entered as the installed command enters it, with a database that is nowhere.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from aosctl.cli.completion_scripts import entries
from command import Aosctl

NOWHERE = "host=/nowhere dbname=x"
COMMANDS = {entry.words: {s for f in entry.flags for s in f.spellings} for entry in entries()}
OWN_FLAGS = {("db", "psql")}
"""What comes after it is psql's."""
WORDS: dict[tuple[str, ...], list[str]] = {
    ("get",): ["agents"], ("describe",): ["agents"], ("edit",): ["agents"], ("delete",): ["agents"],
    ("label",): ["agents", "a=b"], ("annotate",): ["agents", "a=b"], ("fork",): ["r"],
    ("replay",): ["r"],
    ("patch",): ["agents", "x", "-p", "{}"], ("wait",): ["agents", "--for=delete"],
    ("chat",): ["b", "hi"], ("run",): ["b", "hi"], ("attach",): ["r"], ("trace",): ["r"],
    ("create", "model"): ["m", "--provider=openai"], ("create", "skill"): ["s", "--builtin=x"],
    ("create", "policy"): ["p", "--skill=x", "--decision=ask"], ("rollout", "undo"): ["persona/p"],
    ("create", "persona"): ["p", "--model=m"], ("create", "agent"): ["a", "--persona=p"],
    ("create", "budget"): ["b", "--max-usd=1"], ("create", "tenant"): ["t"],
    ("create", "principal"): ["p"],
    ("create", "collection"): ["c"], ("create", "secret"): ["s", "--from-env=HOME"],
    ("logs",): ["r"], ("rollout", "history"): ["persona/p"], ("auth", "can-i"): ["get", "agents"],
    ("memory", "set"): ["k", "v"], ("memory", "rm"): ["k"], ("memory", "search"): ["q"],
    ("skill", "test"): ["s"], ("mcp", "tools"): ["s"], ("mcp", "add"): ["s"],
    ("test", "record"): ["r"], ("ingest",): ["c", "-"], ("search",): ["c", "q"],
    ("mcp", "diff"): ["s"], ("mcp", "approve"): ["s"], ("create", "mcpserver"): ["s", "--url=https://x"],
    ("create", "schedule"): ["s", "--agent=a", "--schedule=@daily", "x"],
    ("schedule", "pause"): ["s"], ("schedule", "resume"): ["s"], ("schedule", "run"): ["s"],
}  # fmt: skip
"""What a command needs besides the flag that is wrong."""
WRONG: dict[str, tuple[str, str, str, set[tuple[str, ...]]]] = {
    "flag": ("--xyzzy", "", "error: unknown flag: --xyzzy\n", OWN_FLAGS),
    "selector": ("-l", "a==b==c", 'error: unable to parse the selector "a==b==c" at ', set()),
    "field selector": ("--field-selector", "nonsense", 'error: invalid selector: "nonsense', set()),
    "output": ("-o", "bogus", "error: unable to match a printer suitable for the output format"
               ' "bogus", allowed formats are: ',
               {("schema",), ("audit", "checkpoint"), ("audit", "export"), ("export", "tenant"),
                ("test", "record")}),
    "jsonpath": ("-o", "jsonpath={.a[", "error: ",
                 {("schema",), ("audit", "checkpoint"), ("audit", "export"), ("export", "tenant"),
                  ("test", "record")}),
    "dry run": ("--dry-run", "maybe", "error: Invalid dry-run value (maybe). Must be",
                {("audit", "prune"), ("db", "harden"), ("skill", "test"), ("mcp", "add"),
                 ("mcp", "approve"), ("ingest",)}),
    "since": ("--since", "yesterdayish", "error: invalid ", set()),
}  # fmt: skip
"""A flag, its wrong value, how the error begins, and the commands where it means another thing."""
_PROGRAM = """\
import contextlib, io, json, sys
from aosctl.cli.boundary import run
answers = []
for argv in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    sys.argv = ["aosctl", *argv]
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run(argv)
    answers.append((status, out.getvalue(), err.getvalue()))
json.dump(answers, sys.stdout)
"""


def answers(lines: list[list[str]], env: dict[str, str]) -> list[tuple[int, str, str]]:
    """Run command lines one after the other in one process; return status, stdout and stderr."""
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM], input=json.dumps(lines), text=True, check=True,
        capture_output=True, env={**env, "AOSCTL_DSN": NOWHERE}, timeout=120,
    )  # fmt: skip
    return [(int(status), out, err) for status, out, err in json.loads(done.stdout)]


@pytest.mark.parametrize("wrong", WRONG)
def test_every_command_names_what_is_wrong(wrong: str, env: dict[str, str]) -> None:
    flag, value, error, left_out = WRONG[wrong]
    takers = [
        words
        for words, flags in COMMANDS.items()
        if words and words not in left_out and (flag in flags or wrong == "flag")
    ]
    assert takers
    given = [flag, value] if value else [flag]
    lines = [[*words, *WORDS.get(words, []), *given] for words in takers]
    for line, (status, out, err) in zip(lines, answers(lines, env), strict=True):
        assert (status, out) == (2, ""), (line, err)
        assert err.startswith(error) and (value or flag).removeprefix("jsonpath=") in err, (
            line,
            err,
        )
        assert "Traceback" not in err and len(err.splitlines()) <= 2, (line, err)


def test_the_grid_sees_what_only_a_connection_would_tell(env: dict[str, str]) -> None:
    ((status, out, err),) = answers([["get", "agents", "-l", "a=b"]], env)
    assert (status, out) == (1, "")
    assert err.startswith("error: can't connect to the database: ")


KINDS = ("get", "describe", "edit", "delete", "explain", "wait", "label", "annotate", "patch")


def test_every_command_knows_a_kind_from_a_word(env: dict[str, str]) -> None:
    after = {"label": ["a=b"], "annotate": ["a=b"], "patch": ["-p", "{}"], "wait": ["--for=delete"]}
    lines = [[verb, *(["nope"] if verb == "explain" else ["nope", "x"]), *after.get(verb, [])]
             for verb in KINDS]  # fmt: skip
    for line, (status, out, err) in zip(lines, answers(lines, env), strict=True):
        assert (status, out) == (1, ""), (line, err)
        assert err.startswith('error: the server doesn\'t have a resource type "nope"'), line
        assert "hint: " in err, line


MANIFEST = "a manifest is a mapping with apiVersion, kind, metadata and spec; found "
NO_TEXT = "hint: a manifest is YAML or JSON in UTF-8; iconv -t utf-8 converts others\n"
FIELDS = (
    "hint: aosctl explain KIND says what the fields mean; aosctl create KIND NAME --dry-run=client"
    " -o yaml writes a manifest to begin with\n"
)
NOTHING = (
    "hint: {file} holds no manifest; aosctl create KIND NAME --dry-run=client -o yaml writes one to"
    " begin with\n"
)
SPLIT = (
    "hint: split it into several files: apply -f FOLDER reads each by itself, and applies all as"
    " one\n"
)
FILES: dict[str, tuple[bytes, str]] = {
    "empty": (b"", f"error: no objects passed to {{verb}}\n{NOTHING}"),
    "comments": (b"# only this\n---\n", f"error: no objects passed to {{verb}}\n{NOTHING}"),
    "tab": (b"kind: Tenant\nmetadata:\n\tname: x\n", "error: {file}:3:1: a tab stands here: YAML is"
            " indented with spaces\nhint: expand -t 2 FILE writes spaces\n"),
    "binary": (b"\x89PNG\r\n\x1a\n", "error: {file}:2:1: the control character 0x1a stands here:"
               f" this is no text file\n{NO_TEXT}"),
    "latin": (b"kind: caf\xe9\n", "error: {file}:1:10: the byte 0xe9 stands here: this is no"
              f" UTF-8 text\n{NO_TEXT}"),
    "half": (b"apiVersion: aos/v1\nkind: Persona\nmetadata: {name: half, te", "error: {file}:4:1:"
             f" while parsing a flow mapping, did not find expected ',' or '}}'\n{FIELDS}"),
    "text": (b"just text\n", f'error: {{file}}:1:1: {MANIFEST}the string "just text"\n{FIELDS}'),
    "huge": (b"# " + b"x" * 10_500_000, f"error: {{file}}: is larger than 10 MB\n{SPLIT}"),
    "other kind": (b"apiVersion: aos/v1\nkind: Wizard\nmetadata: {name: a}\n",
                   'error: {file}:2:7: "a": no matches for kind "Wizard"'),
}  # fmt: skip
READERS = ("apply", "diff", "delete")


def test_every_command_that_reads_files_says_what_is_wrong_with_one(
    env: dict[str, str], tmp_path: Path
) -> None:
    lines, errors = [], []
    for name, (content, error) in FILES.items():
        file = tmp_path / f"{name}.yaml"
        file.write_bytes(content)
        for verb in READERS:
            lines.append([verb, "-f", str(file)])
            errors.append(error.replace("{verb}", verb).replace("{file}", str(file)))
    for verb in READERS:
        lines += [[verb, "-f", "gone.yaml"], [verb, "-f", str(tmp_path / "no"), "-R"], [verb]]
        errors += ['error: the path "gone.yaml" does not exist\n', 'error: the path "', "error: "]
    for line, error, (status, out, err) in zip(lines, errors, answers(lines, env), strict=True):
        assert status == (2 if line[0] == "diff" or len(line) == 1 else 1), (line, err)
        assert out == "" and "Traceback" not in err, line
        assert err.startswith(error.replace("}}", "}")), (line, err)


def test_a_file_that_may_not_be_read_is_named(aosctl: Aosctl, tmp_path: Path) -> None:
    loop = tmp_path / "loop.yaml"
    loop.symlink_to(loop)  # unreadable for root too
    done = aosctl("apply", "-f", str(loop), AOSCTL_DSN=NOWHERE)
    assert (done.status, done.out) == (1, "")
    assert done.err.startswith(f'error: the file "{loop}" can\'t be read: ')


CONFLICTS = (
    ("approve --all x", "error: ID and --all exclude each other\n"),
    ("approve -i -o json", "error: -i and -o exclude each other: -i walks through"),
    ("kill --all r", "error: --all and RUN exclude each other\n"),
    ("apply --prune -f x.yaml", "error: --prune needs --applyset NAME"),
    (
        "apply -f x.yaml --confirm --dry-run=client",
        "error: --dry-run=client and --confirm exclude each other",
    ),
    ("schema agent --all x", "error: --all and KIND exclude each other: --all DIR"),
    ("delete agents x --all", "error: name cannot be provided when a selector or --all"),
    ("label agents x --all a=b", "error: name cannot be provided when a selector or --all"),
    ("logs r --since 1h --since-time 2026-01-01T00:00:00Z", "error: only one of --since-time"),
    ("resolve c --retry --fail", "error: --retry and --fail exclude each other\n"),
    ("get agents --output-watch-events", "error: --output-watch-events option can only be used"),
    ("trace r --svg a.svg --html a.html -o json", "error: --html and --svg exclude each other\n"),
    ("chat bot -c --resume r", "error: -c and --resume exclude each other"),
)


def test_flags_that_contradict_are_named(env: dict[str, str]) -> None:
    lines = [line.split() for line, _ in CONFLICTS]
    for (line, error), (status, out, err) in zip(CONFLICTS, answers(lines, env), strict=True):
        assert (status, out) == (2, ""), (line, err)
        assert err.startswith(error), (line, err)
