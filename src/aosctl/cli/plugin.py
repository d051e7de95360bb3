"""`aosctl plugin`: the plug-ins there are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.cli.plugins import PREFIX, installed, is_runnable
from aosctl.cli.verbs import VERBS
from aosctl.errors import AosError
from aosctl.terminal import visible

app = typer.Typer(
    help="""Add verbs of your own: aosctl foo runs the program aosctl-foo of PATH.

It gets the arguments after its name, and the environment as it is. The
longest name counts: aosctl foo bar runs aosctl-foo-bar before aosctl-foo; a
dash within a word is an underscore in the name of the file. A plug-in never
takes the place of a verb of aosctl itself.

Examples:
  aosctl plugin list""",
    rich_markup_mode=None,
)


@app.callback()
def plugin() -> None:
    """Keep `list` a command below `plugin`."""


@app.command("list")
def list_plugins(
    name_only: Annotated[
        bool, typer.Option("--name-only", help="Print the names, not the paths")
    ] = False,
) -> None:
    """List the programs of PATH that are plug-ins, and warn of those that never run.

    Examples:
      aosctl plugin list
    """
    found = list(installed(os.environ))
    if not found:
        raise AosError("unable to find any aosctl plugins in your PATH")
    output.write("The following compatible plugins are available:\n\n")
    warnings = 0
    seen: dict[str, Path] = {}
    for path in found:
        output.write(visible(path.name if name_only else str(path)) + "\n")
        for text in _warnings(path, seen):
            output.note(f"  - warning: {visible(text)}")
            warnings += 1
        seen.setdefault(path.name, path)
    if warnings:
        count = "one plugin warning was" if warnings == 1 else f"{warnings} plugin warnings were"
        raise AosError(f"{count} found")


def _warnings(path: Path, seen: dict[str, Path]) -> list[str]:
    found = []
    verb = path.name.removeprefix(PREFIX).partition("-")[0].replace("_", "-")
    if verb in VERBS or verb == "help":
        found.append(f'{path} is never run: "aosctl {verb}" is a command of its own')
    if not is_runnable(path):
        found.append(f"{path} identified as an aosctl plugin, but it is not executable")
    if path.name in seen:
        found.append(f"{path} is overshadowed by a similarly named plugin: {seen[path.name]}")
    return found
