"""`aosctl create`: make a resource from flags."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from aosctl.cli import create_files, create_generators, create_secret, output
from aosctl.cli.create_kind import Making, create
from aosctl.cli.flags import ChangedText, DryRunText, parse_dry_run, suffix
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError
from aosctl.private_file import new_private_file

app = typer.Typer(
    help="""Make a resource from flags, or what the manifests of -f hold and is not there yet.

With --dry-run=client -o yaml, a manifest to begin with is printed, and
nothing is made.

Examples:
  aosctl create persona clerk --model gpt-4o --dry-run=client -o yaml
  aosctl create agent bot --persona clerk --edit
  aosctl create principal jane --role developer --login
  aosctl create secret openai --from-env api_key=OPENAI_API_KEY
  aosctl create -f persona.yaml""",
    invoke_without_command=True,
    rich_markup_mode=None,
)
app.callback()(create_files.files)
app.command("secret")(create_secret.secret)
for generator in create_generators.GENERATORS:
    app.command(generator.__name__)(generator)


@app.command("principal")
def principal(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="admin, developer, auditor or viewer"),
    ] = None,
    kind: Annotated[str, typer.Option("--type", metavar="TYPE", help="user, or service")] = "user",
    display_name: Annotated[
        str | None, typer.Option("--display-name", metavar="TEXT", help="What people read")
    ] = None,
    db_role: Annotated[
        str | None, typer.Option("--db-role", metavar="LOGIN", help="Its login; with --login NAME")
    ] = None,
    login: Annotated[
        bool, typer.Option("--login", help="Make the login too, with the least rights")
    ] = False,
    password_file: Annotated[
        Path | None,
        typer.Option(
            "--password-file",
            metavar="FILE",
            help="Write a new password for the login into a new file that only you can read",
        ),
    ] = None,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
) -> None:
    """Make a principal, and with --login the database login that it stands for.

    The login is a member of the groups that its roles need and of nothing
    else: no table, no function, no other tenant. It needs a password only
    where the server asks for one; the server gets its SCRAM hash alone.

    Examples:
      aosctl create principal jane --role developer --login --password-file jane.txt
      aosctl create principal web --type service --role developer --db-role web_app
    """
    from aosctl.cli.applied import write_applied
    from aosctl.cli.wiring import session_of
    from aosctl.domain.kinds.principal import ROLES, TYPES
    from aosctl.domain.names import NAME_PATTERN, NAME_RULE
    from aosctl.domain.people import create_principal

    if password_file is not None and not login:
        raise UsageError("--password-file belongs to --login")
    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"NAME is not a name: {NAME_RULE}")
    _one_of("--type", [kind], TYPES)
    _one_of("--role", role or [], ROLES)
    role_name = db_role or (name if login else None)
    spec = {"type": kind, "displayName": display_name, "dbRole": role_name, "roles": role or []}
    trial = parse_dry_run(dry_run)
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    if trial == "client":
        create(ctx, "Principal", name, spec, Making(dry_run, output_format, edit=False))
        return
    written = password_file if trial == "none" else None
    with closing(session_of(globals_of(ctx))) as session, _password(written) as password:
        session.require_tenant()
        made = create_principal(
            session.connection,
            session.tenant or "",
            name,
            spec,
            login=login,
            password=password,
            keep=trial == "none",
        )
    write_applied([made], chosen, suffix(trial))
    if login and trial == "none":
        after = f"its password is in {password_file}" if password_file else "it has no password"
        output.note(f'login "{role_name}" created; {after}', quiet=globals_of(ctx).quiet)


def _one_of(flag: str, words: Sequence[str], known: Sequence[str]) -> None:
    for word in words:
        if word not in known:
            raise UsageError(f'{flag}: "{word}" is not one of {", ".join(known)}')


@contextmanager
def _password(path: Path | None) -> Iterator[str | None]:
    """Write a new password into a new file; it is gone if the block fails."""
    from aosctl.db.rights import new_password

    if path is None:
        yield None
        return
    password = new_password()
    with new_private_file(path) as file:
        file.write(password + "\n")
        file.flush()  # before the login is there
        yield password
