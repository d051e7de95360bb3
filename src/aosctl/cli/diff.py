"""`aosctl diff`: what apply would change, found by doing it and rolling it back."""

from __future__ import annotations

import os
import shlex
import subprocess
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from aosctl.cli import output
from aosctl.cli.flags import (
    ApplySet,
    Filenames,
    Prune,
    PruneAllowlist,
    Recursive,
    Selector,
    load_documents,
    members_of,
    tenancy_of,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from aosctl.domain.applying import Applied
    from aosctl.domain.applysets import Members
    from aosctl.domain.document import Document
    from aosctl.domain.kinds.base import Resource

TROUBLE = 2


def command(
    ctx: typer.Context,
    filename: Filenames = None,
    recursive: Recursive = False,
    selector: Selector = None,
    prune: Prune = False,
    applyset: ApplySet = None,
    prune_allowlist: PruneAllowlist = None,
) -> int:
    """Show what apply would change, as a unified diff of what stands and what would.

    The change is really made, constraints and triggers included, and rolled back.
    AOSCTL_EXTERNAL_DIFF names another program than `diff -u -N`; it gets two folders.
    The exit status is 0 without a difference, 1 with one, above that for trouble.

    Examples:
      aosctl diff -f agent.yaml
      aosctl diff -f manifests/ --prune --applyset shop
      AOSCTL_EXTERNAL_DIFF="colordiff -u -N" aosctl diff -f manifests/
    """
    try:
        members = members_of(applyset, prune=prune, allowlist=prune_allowlist)
        documents = load_documents(filename, recursive, "diff", selector)
        return _diff(ctx, documents, members)
    except AosError as error:
        raise _as_trouble(error) from error
    except OSError as error:
        raise _as_trouble(AosError(f"can't compare: {error}")) from error


def _diff(ctx: typer.Context, documents: tuple[Document, ...], members: Members) -> int:
    from aosctl.cli.wiring import session_of
    from aosctl.domain.applying import apply_set

    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        applied = apply_set(
            session.connection,
            documents,
            tenancy_of(ctx),
            keep=False,
            read_back=True,
            members=members,
        )
    return show(applied)


def show(applied: Sequence[Applied]) -> int:
    """Print how what stands differs from what would; return the program's status."""
    with (
        tempfile.TemporaryDirectory(prefix="LIVE-") as live,
        tempfile.TemporaryDirectory(prefix="MERGED-") as merged,
    ):
        for one in applied:
            _write(Path(live), one, one.live)
            _write(Path(merged), one, one.merged)
        return _compare(live, merged, os.environ.get("AOSCTL_EXTERNAL_DIFF", ""))


def _write(folder: Path, applied: Applied, resource: Resource | None) -> None:
    """Write one side of a comparison, in a file that is named as kubectl names it."""
    from aosctl.domain.applying import user_owned
    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.yaml_dump import dump_yaml

    if resource is None:
        return
    document = applied.document
    name = f"aos.v1.{document.kind}.{document.tenant or ''}.{document.name}"
    text = dump_yaml(user_owned(BY_NAME[document.kind], resource))
    (folder / name).write_text(text, encoding="utf-8")


def _compare(live: str, merged: str, program: str) -> int:
    """Run the program on the two folders and print what it says; return its status."""
    given = shlex.split(program)
    command = [*(given or ["diff", "-u", "-N"]), live, merged]
    try:
        # What we run ourselves is cleaned; a program of the user's may want the terminal.
        done = subprocess.run(  # noqa: S603 - the user's own choice
            command,
            stdout=None if given else subprocess.PIPE,
            check=False,
            env={**_environment(), "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8")},
        )
    except OSError as error:
        raise AosError(
            f"can't run {command[0]}: {error.strerror}",
            "AOSCTL_EXTERNAL_DIFF names the program to compare with",
        ) from error
    if done.stdout:
        output.write(done.stdout.decode("utf-8", "replace"))
    return done.returncode


def _environment() -> dict[str, str]:
    from aosctl.redaction import environment_for_children

    return environment_for_children(os.environ)


def _as_trouble(error: AosError) -> AosError:
    """Return the error with diff's own status for trouble; 1 means a difference there."""
    kind = type(error)
    trouble = type(kind.__name__, (kind,), {"exit_status": TROUBLE})
    made: AosError = trouble(error.message, error.hint)
    return made
