"""The completion scripts: what they offer, and that they are those of today's commands."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from aosctl.cli import completion_scripts
from aosctl.resources import resource_dir
from command import AOSCTL, Aosctl

SHELLS = ("bash", "zsh", "fish")


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_those_of_the_present_commands(shell: str, tmp_path: Path) -> None:
    completion_scripts.write_all(tmp_path)
    present = (resource_dir("completions") / f"aosctl.{shell}").read_text()
    assert present == (tmp_path / f"aosctl.{shell}").read_text(), (
        "run: python -m aosctl.cli.completion_scripts"
    )


@pytest.mark.parametrize("shell", SHELLS)
def test_verb_prints_the_script(aosctl: Aosctl, shell: str) -> None:
    done = aosctl("completion", shell)
    assert (done.status, done.err) == (0, "")
    assert done.out == (resource_dir("completions") / f"aosctl.{shell}").read_text()


def test_unknown_shell_is_refused(aosctl: Aosctl) -> None:
    done = aosctl("completion", "tcsh")
    assert (done.status, done.out) == (2, "")
    assert done.err == 'error: unsupported shell type "tcsh", expected bash, zsh, fish\n'


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["vers"], {"version"}),
        (["config", "use"], {"use-context"}),
        (["-n", "config", "config", "v"], {"view"}),
        (["config", "view", "--m"], {"--minify"}),
        (["--dsn", ""], set()),
        (["config", "view", "--output", ""], {"json", "yaml"}),
        (["config", "view", "--output", "=", "j"], {"json"}),
        (["config", "view", ""], set()),
        (["version", "--te"], {"--tenant"}),
    ],
)
def test_bash_offers_what_may_stand_there(
    words: list[str], offered: set[str], env: dict[str, str]
) -> None:
    script = resource_dir("completions") / "aosctl.bash"
    program = (
        'source "$1"; shift; COMP_WORDS=(aosctl "$@"); COMP_CWORD=$#; _aosctl; '
        'printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", program, "bash", str(script), *words],
        capture_output=True,
        text=True,
        check=True,
        env={**env, "PATH": f"{AOSCTL.parent}:{env['PATH']}"},
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == offered
