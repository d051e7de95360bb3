"""`aosctl secret`: the master key that seals secrets."""

from __future__ import annotations

import os
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import globals_of
from aosctl.domain.names import printable
from aosctl.errors import AosError

app = typer.Typer(
    help="""Make and change the master key that seals secrets.

`aosctl create secret` and manifests of kind Secret make secrets; `aosctl describe
secret` says which master key is at hand, and where it is from.

Examples:
  aosctl secret init
  aosctl secret rotate""",
    rich_markup_mode=None,
)


@app.command("init")
def init(
    ctx: typer.Context,
    file: Annotated[
        Path | None, typer.Option("--file", metavar="FILE", help="Keep it there instead")
    ] = None,
    keyring: Annotated[
        bool, typer.Option("--keyring", help="Keep it in the system's keyring instead")
    ] = False,
) -> None:
    """Make a master key, in a file that only you can read.

    Without it no secret opens: keep a copy where the database's backups are not.

    Examples:
      aosctl secret init
      aosctl secret init --file /run/keys/aosctl.key
      aosctl secret init --keyring
    """
    from aosctl.domain import master_key
    from aosctl.domain.sealing import new_key

    store: master_key.Store | None
    if keyring:
        store = master_key.keyring_store()
        if store is None:
            raise AosError(
                "no keyring answers here", "pip install 'aosctl[keyring]'; or use a file"
            )
    else:
        store = master_key.FileStore(file or master_key.default_file(os.environ))
    made = master_key.make_key(store, new_key())
    output.write(f"master key {made.key_id} made in {printable(made.source)}\n")
    quiet = globals_of(ctx).quiet
    output.note("Keep a copy of it, apart from the database's backups.", quiet=quiet)
    if file is not None:
        output.note(f"{master_key.FILE_VARIABLE}={file} has it used.", quiet=quiet)


@app.command("rotate")
def rotate(
    ctx: typer.Context,
    new_key_from: Annotated[
        str | None,
        typer.Option(
            "--new-key-from",
            metavar="WHERE",
            help="file:PATH or env:NAME of the new key, instead of making one",
        ),
    ] = None,
) -> None:
    """Put all secrets under a new master key, in one transaction.

    The values stay as they are: each has a data key of its own, and only that is wrapped
    anew. The old key is kept beside the new one. Interrupted at any point, nothing is
    lost: the same command again finishes it. -n limits it to one tenant.

    Examples:
      aosctl secret rotate
      aosctl secret rotate --new-key-from file:/run/keys/next.key
    """
    from aosctl.cli.wiring import session_of
    from aosctl.domain import rotation

    given = globals_of(ctx)
    plan = rotation.prepare(os.environ, new_key_from)
    with closing(session_of(given, select_tenant=False)) as session:
        done = rotation.rotate(session.connection, plan, only=given.tenant)
    output.write(
        f"secrets: {done.secrets}, values: {done.values}, all under master key {plan.new.key_id}\n"
    )
    note = partial(output.note, quiet=given.quiet)
    note(done.remark)
