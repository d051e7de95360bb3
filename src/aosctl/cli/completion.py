"""`aosctl completion`: the completion script of a shell."""

from __future__ import annotations

from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.errors import UsageError
from aosctl.resources import resource_dir

SHELLS = ("bash", "zsh", "fish")


def command(
    shell: Annotated[str, typer.Argument(metavar="SHELL", help="bash, zsh or fish")],
) -> None:
    """Print the completion script of a shell.

    Examples:
      # bash, for this session; for all, write it to
      # ~/.local/share/bash-completion/completions/aosctl
      source <(aosctl completion bash)

      # zsh, in a folder of $fpath
      aosctl completion zsh > ~/.zfunc/_aosctl

      # fish
      aosctl completion fish > ~/.config/fish/completions/aosctl.fish
    """
    if shell not in SHELLS:
        raise UsageError(f'unsupported shell type "{shell}", expected {", ".join(SHELLS)}')
    output.write((resource_dir("completions") / f"aosctl.{shell}").read_text(encoding="utf-8"))
