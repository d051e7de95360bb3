"""What `--help` says: of each command examples, which its own parser takes."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator

import pytest
from typer._click import Command, Context

from aosctl.cli.app import Root
from aosctl.cli.completion_scripts import entries
from aosctl.cli.globals import Globals
from aosctl.cli.loading import CommandGroup, load
from aosctl.resources import resource_dir
from command import Aosctl

COMMANDS = [entry.words for entry in entries() if entry.words]
_ENDS = {"|", "&&", ";", "<", ">", ")", "$("}


def _help_of(words: tuple[str, ...]) -> str:
    command = load(words[0])
    for word in words[1:]:
        command = command.commands[word]  # type: ignore[attr-defined]
    return command.help or ""


def _examples() -> Iterator[tuple[str, list[str]]]:
    """Yield each call of aosctl in an example: where it stands, and its words."""
    for words in COMMANDS:
        text = _help_of(words).partition("\nExamples:\n")[2].replace("\\\n", " ")
        for line in text.splitlines():
            if line.lstrip().startswith("#"):
                continue
            lexer = shlex.shlex(line.replace("$(", " $( "), posix=True, punctuation_chars="|&;<>)")
            lexer.whitespace_split, lexer.commenters = True, ""
            yield from ((" ".join(words), call) for call in _calls(list(lexer)))


def _calls(tokens: list[str]) -> Iterator[list[str]]:
    while "aosctl" in tokens:
        tokens = tokens[tokens.index("aosctl") + 1 :]
        end = next((n for n, token in enumerate(tokens) if token in _ENDS), len(tokens))
        call = tokens[:end]
        if tokens[end : end + 1] == ["$("]:  # what that prints is an argument here
            call = [*call, "NAME"]
        if call and "aosctl-" not in call[0]:
            yield call


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_has_examples_and_each_begins_a_line_of_its_own(
    words: tuple[str, ...],
) -> None:
    prose, heading, examples = _help_of(words).partition("\nExamples:\n")
    assert heading
    assert "Example:" not in prose
    assert all(line.startswith("  ") or not line for line in examples.splitlines())
    assert "aosctl " + " ".join(words) in examples or words == ("auth", "whoami")


@pytest.mark.parametrize(("at", "call"), list(_examples()), ids=lambda value: str(value)[:60])
def test_an_example_is_a_command_line_that_the_parser_takes(at: str, call: list[str]) -> None:
    command: Command = Root()
    ctx = Context(command, info_name="aosctl", obj=Globals())
    while isinstance(command, CommandGroup) and not call[0].startswith("-"):
        _, below, call = command.resolve_command(ctx, call)
        assert below is not None, at
        command, ctx = below, Context(below, info_name=call[0] if call else "", parent=ctx)
    command.make_context(command.name, call, parent=ctx)


@pytest.mark.parametrize(
    ("kind", "flag", "field"),
    [
        ("model", "--provider", "provider"),
        ("skill", "--builtin", "builtin"),
        ("policy", "--decision", "decision"),
        ("budget", "--period", "period"),
        ("principal", "--type", "type"),
    ],
)
def test_the_words_of_a_flag_are_those_of_its_field(kind: str, flag: str, field: str) -> None:
    schema = json.loads((resource_dir("docs") / "schemas" / f"{kind}.schema.json").read_text())
    words = schema["properties"]["spec"]["properties"][field]["enum"]
    (entry,) = [entry for entry in entries() if entry.words == ("create", kind)]
    (found,) = [one for one in entry.flags if flag in one.spellings]
    assert sorted(found.source.removeprefix("words:").split(",")) == sorted(words)


def test_the_field_that_the_help_of_explain_names_is_there(aosctl: Aosctl) -> None:
    (way,) = re.findall(r"goes through lists: ([\w.]+)\.\n", _help_of(("explain",)))
    assert aosctl("explain", way).status == 0
