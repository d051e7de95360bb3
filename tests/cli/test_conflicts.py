"""Flags that contradict each other: every pair of every command, as it is declared or let through.

What is declared runs as a person would type it, all lines in one process, with a database that is
nowhere: whoever did something before it was refused would have asked for it. All other pairs are
parsed here, and stop before their command begins.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import pytest
from typer._click import Command, Context, Parameter
from typer.core import TyperGroup, TyperOption

from aosctl import request
from aosctl.cli.app import Root
from aosctl.cli.conflicts import RULES, refuse
from aosctl.cli.loading import load
from aosctl.cli.verbs import VERBS
from aosctl.errors import UsageError
from in_turn import in_turn

VALUES = {
    "--dry-run": "client", "--approve": "never", "--scope": "run", "--output": "json",
    "--selector": "a=b", "--field-selector": "status.state=idle", "--request-timeout": "5s",
    "--v": "6", "--expires": "5m", "--since": "1h", "--until": "1h", "--timeout": "3s",
    "--sort-by": "age", "--since-time": "2026-01-31T12:00:00Z",
    "--type": "fact", "--importance": "1",
}  # fmt: skip
"""What a flag of this name takes, other than its default; a number, or a word, for the rest."""
DECIDED = {
    "apply": (
        "--filename --recursive --dry-run --selector --prune --applyset --prune-allowlist "
        "--diff --confirm --validate --atomic --wait --timeout --output"
    ),
    "create secret": (
        "--from-file --from-env --from-stdin --key --from-literal --replace --dry-run "
        "--output"
    ),
    "create tenant": "--display-name --dry-run --output --edit",
    "create model": "--provider --model --base-url --dry-run --output --edit",
    "create collection": "--description --dry-run --output --edit",
    "create mcpserver": "--url --dry-run --output --edit",
    "mcp add": "--all --trust-hints --yes --dry-run --output",
    "mcp approve": "--yes --dry-run",
    "mcp serve": "--http --token-file --allow-approve",
    "mcp tools": "--output --no-headers",
    "test record": "--output --setup",
    "skill test": "--args --agent --dry-run --output --approve",
    "create skill": "--builtin --description --dry-run --output --edit",
    "create policy": "--skill --decision --reason --dry-run --output --edit",
    "create persona": "--model --prompt --description --dry-run --output --edit",
    "create agent": "--persona --skill --description --dry-run --output --edit",
    "create budget": "--max-usd --max-tokens --period --dry-run --output --edit",
    "create schedule": (
        "--agent --schedule --timezone --concurrency-policy --dry-run --output --edit"
    ),
    "schedule run": "--output",
    "ingest": (
        "--recursive --include --exclude --hidden --no-ignore --prefix --source --trust --prune "
        "--dry-run --concurrency --max-bytes --allow-private --list --remove --output"
    ),
    "search": "--limit --full-text --whole --output",
    "create principal": (
        "--role --type --display-name --db-role --login --password-file --dry-run --output"
    ),
    "diff": "--filename --recursive --selector --prune --applyset --prune-allowlist",
    "get": (
        "--output --selector --all-namespaces --no-headers --show-labels --show-kind "
        "--label-columns --sort-by --ignore-not-found --field-selector --watch --watch-only "
        "--output-watch-events"
    ),
    "describe": "--selector --all-namespaces --filename --recursive --show-events",
    "edit": "--output --selector --output-patch",
    "label": (
        "--selector --field-selector --all --all-namespaces --overwrite --list"
        " --resource-version --dry-run --output"
    ),
    "annotate": (
        "--selector --field-selector --all --all-namespaces --overwrite --list"
        " --resource-version --dry-run --output"
    ),
    "patch": "--patch --patch-file --type --dry-run --output",
    "replace": "--filename --recursive --dry-run --output",
    "rollout history": "--revision --output",
    "rollout undo": "--to-revision --dry-run",
    "wait": "--for --timeout --selector --all --output",
    "delete": (
        "--filename --recursive --selector --all --ignore-not-found --dry-run --confirm "
        "--interactive --cascade --field-selector --wait --timeout --output"
    ),
    "explain": "--recursive --api-version --output",
    "schema": "--output --all",
    "api-resources": "--output --no-headers",
    "chat": (
        "--continue --resume --pick --fork --model --output --prompt --approve --budget "
        "--max-steps --max-turns --output-schema --system --no-stream --raw-output "
        "--ephemeral --attach"
    ),
    "run": (
        "--name --wait --detach --output --approve --budget --max-steps --max-turns --model "
        "--output-schema --system --no-stream --raw-output --attach"
    ),
    "shell": "--command --file",
    "worker": "--concurrency --once --lease --drain-seconds --connections --listen --tenant-labels",
    "ps": (
        "--all --quiet --watch --forest --last --no-trunc --filter --output --selector "
        "--sort-by --all-namespaces --no-headers"
    ),
    "top": "--all --watch --sum --once --interval --sort-by --selector --all-namespaces",
    "logs": (
        "--follow --tail --since --since-time --until --grep --level --after-cursor "
        "--show-cursor --timestamps --prefix --previous --max-log-requests --selector "
        "--output"
    ),
    "events": "--since --types --for --tail --watch --output --all-namespaces --no-headers",
    "trace": "--turn --watch --depth --html --svg --output",
    "approve": (
        "--reason --all --show --yes --inbox --edit --expires --scope --match --selector "
        "--output --all-namespaces --no-headers"
    ),
    "deny": "--reason --all --yes --inbox --selector --output --all-namespaces --no-headers",
    "attach": "--tail --timestamps --live --detach-keys",
    "fork": "--name --model --output",
    "replay": "--model --diff --name --output",
    "resolve": "--retry --result --fail --reason --output --all-namespaces --no-headers",
    "kill": "--signal --reason --cascade --selector --all --yes",
    "resume": "--max-usd --max-tokens --max-steps --max-seconds --max-turns --selector --all --yes",
    "cost": "--by --since --output --all-namespaces --no-headers",
    "audit verify": "--run --since --checkpoint --public-key --moved --file --output",
    "audit checkpoint": "--output --key",
    "audit public-key": "--key",
    "audit export": "--run --since --output",
    "audit prune": "--dry-run",
    "export tenant": "--output",
    "db reset": "--yes",
    "db url": "--worker",
    "db status": "--output",
    "db install": "--dump-sql --revoke-public",
    "db harden": "--app-role --dry-run --undo --dump-sql --yes",
    "memory get": "--agent --principal --run --type --output --no-headers",
    "memory search": "--agent --principal --run --type --limit --output --no-headers",
    "memory set": "--agent --principal --run --type --importance --expires --pin --output",
    "memory rm": "--agent --principal --run --type --all --yes --output",
    "db uninstall": "--yes --cascade",
    "db backup": "--force",
    "auth whoami": "--output",
    "auth can-i": "--as --list --quiet",
    "auth grant": "--for --until",
    "auth roles": "--output",
    "doctor": "--list --only --ignore --output",
    "secret init": "--file --keyring",
    "secret rotate": "--new-key-from",
    "config get-contexts": "--output --no-headers",
    "config set-context": "--current --dsn --service --worker --namespace",
    "config view": "--output --raw --minify",
    "config trust": "--revoke",
    "whoami": "--output",
    "plugin list": "--name-only",
    "version": "--kernel --client --output",
}  # fmt: skip
"""The flags of each command whose pairs somebody has thought about."""
ALSO_GLOBAL = ("--no-input", "-n", "-q", "-v")


class Flag(NamedTuple):
    """One way to type a parameter with another value than its default; `names` are its own."""

    names: frozenset[str]
    words: tuple[str, ...]


def leaves() -> Iterator[tuple[str, Command]]:
    """Yield every command with its words."""

    def below(words: str, command: Command) -> Iterator[tuple[str, Command]]:
        if isinstance(command, TyperGroup):
            for name, one in command.commands.items():
                yield from below(f"{words} {name}", one)
        else:
            yield words, command

    for name in VERBS:
        yield from below(name, load(name))


COMMANDS = dict(leaves())
ROOT = Root()


def flag_of(param: Parameter) -> Flag:
    if param.param_type_name == "argument":
        name = str(param.metavar).partition(" ")[0].strip("[]…")
        return Flag(frozenset({name}), ("x",))
    assert isinstance(param, TyperOption)
    longest = max(param.opts, key=len)
    if param.is_flag:
        word = param.secondary_opts[0] if param.default is True else longest
        return Flag(frozenset({word, *param.opts} if word == longest else {word}), (word,))
    value = VALUES.get(longest, "3" if "int" in str(param.type).lower() else "1")
    names = {*param.opts, *(f"{spelling}={value}" for spelling in param.opts)}
    return Flag(frozenset(names), (longest, value))


def own(command: Command) -> list[Parameter]:
    """Return the parameters of a command, and the global ones that may stand against them.

    Of its arguments it is the first: no other stands there without that one.
    """
    arguments = [param for param in command.params if param.param_type_name == "argument"]
    return arguments[:1] + [
        param
        for param in command.params
        if param not in arguments
        and (not str(param.name).startswith("global_") or set(ALSO_GLOBAL) & set(param.opts))
    ]


def pairs(command: Command) -> Iterator[tuple[Flag, Flag]]:
    yield from combinations(map(flag_of, own(command)), 2)


def is_declared(words: str, one: Flag, other: Flag) -> bool:
    return any(
        (a in one.names and b in other.names) or (b in one.names and a in other.names)
        for rule in RULES.get(words, ())
        for a, b in rule.pairs
    )


def parsed(words: str, args: list[str]) -> Context:
    """Parse the line of a command, as far as it goes before anything is done."""
    context = Context(ROOT, info_name="aosctl")
    *above, name = words.split()
    for word in above:
        context = Context(ROOT, info_name=word, parent=context)
    made = COMMANDS[words].make_context(name, args, parent=context)
    refuse(made)  # for those that say it themselves
    return made


def line_of(command: Command, *flags: Flag) -> list[str]:
    """Return the words of flags, and of those without which there is no line."""
    needed = [flag_of(param) for param in command.params if param.required]
    whole = dict.fromkeys([*flags, *needed])
    return [word for flag in whole for word in flag.words]


def test_the_flags_of_every_command_have_been_thought_about() -> None:
    """A flag that is new: which of the others does it contradict? See `cli/conflicts.py`."""
    found = {
        words: " ".join(max(param.opts, key=len) for param in command.params
                        if param.param_type_name == "option"
                        and not str(param.name).startswith("global_"))
        for words, command in COMMANDS.items()
    }  # fmt: skip
    assert {words: flags for words, flags in found.items() if flags} == DECIDED


def test_every_rule_is_of_flags_that_there_are() -> None:
    for words, rules in RULES.items():
        known = set().union(*(flag_of(p).names | {*p.opts} for p in own(COMMANDS[words])))
        for pair in (pair for rule in rules for pair in rule.pairs):
            assert {name.partition("=")[0] for name in pair} <= known, (words, pair)


@pytest.mark.parametrize("words", COMMANDS)
def test_every_pair_is_refused_or_let_through_as_it_is_declared(words: str) -> None:
    command, wrong = COMMANDS[words], []
    before = request.current()
    for one, other in pairs(command):
        try:
            parsed(words, line_of(command, one, other))
        except UsageError as error:
            refused = any(map(error.message.__contains__, one.names | other.names))
            assert refused, (words, one, other, error.message)
        else:
            refused = False
        finally:
            request.use(before)
        if refused != is_declared(words, one, other):
            wrong.append((one.words, other.words, refused))
    assert not wrong, wrong


def test_what_contradicts_itself_is_said_in_one_line_and_nothing_is_done(tmp_path: Path) -> None:
    lines = [
        (words, one, other, [*words.split(), *line_of(command, one, other)])
        for words, command in COMMANDS.items()
        for one, other in pairs(command)
        if is_declared(words, one, other)
    ]
    assert len(lines) > 120
    nowhere = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8",
               "AOSCTL_DSN": "host=127.0.0.1 port=1"}  # fmt: skip
    came = in_turn([line for *_, line in lines], nowhere, cwd=tmp_path)
    for (words, one, other, line), (status, stdout, stderr) in zip(lines, came, strict=True):
        out, err = stdout.decode(), stderr.decode()
        assert status == 2, (line, out, err)
        if words in ("chat", "run") and out:  # -o json has an object for what goes wrong too
            assert json.loads(out)["exit"] == 2, line
        else:
            assert out == "", line
        first, *more = err.splitlines()
        assert first.startswith("error: ") and len(more) <= 1, (line, err)
        assert not more or more[0].startswith("hint: "), (line, err)
        for flag in (one, other):
            assert any(name.lower() in first.lower() for name in flag.names), (line, err)
    assert [path.name for path in tmp_path.rglob("*")] == []


def test_one_flag_of_a_pair_goes_as_far_as_the_database(tmp_path: Path) -> None:
    """A control: neither of two is what is refused; a value that is the default is no flag."""
    for words, args in (
        ("logs", ["--since", "1h", "r"]), ("logs", ["--since-time", "2026-01-31T12:00:00Z", "r"]),
        ("delete", ["--dry-run=none", "-i", "agents", "x"]),
        ("apply", ["--wait=false", "--timeout=3s"]),
        ("ps", ["-o", "json"]), ("ps", ["-q"]),
    ):  # fmt: skip
        parsed(words, args)
    with pytest.raises(UsageError, match=r"^--confirm and --ignore-not-found exclude each other: "):
        parsed("delete", ["--ignore-not-found=true", "--confirm=x", "tenant", "x"])
