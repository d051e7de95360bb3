"""The verbs of `aosctl db` that act on the kernel: install, upgrade, uninstall, backup, restore."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.db_harden import harden
from aosctl.cli.db_target import (
    connect_owner,
    progress_of,
    target_of,
    worker_of,
    worker_remarks,
)
from aosctl.cli.globals import globals_of
from aosctl.errors import UsageError

if TYPE_CHECKING:
    from aosctl.db.archive import Manifest

Yes = Annotated[bool, typer.Option("--yes", help="Don't ask")]
File = Annotated[str, typer.Argument(metavar="FILE", help="The archive; - for a pipe")]


def register(app: typer.Typer) -> None:
    """Add the verbs of this file to `aosctl db`."""
    for name, verb in _VERBS.items():
        app.command(name)(verb)


def install(
    ctx: typer.Context,
    dump_sql: Annotated[
        bool, typer.Option("--dump-sql", help="Print the SQL instead, for psql -f")
    ] = False,
    revoke_public: Annotated[
        bool,
        typer.Option(
            "--revoke-public",
            help="Take TEMP on the database and CREATE on schema public from PUBLIC",
        ),
    ] = False,
) -> None:
    """Install the kernel in a database.

    A kernel that is there is left alone. The login needs CREATEROLE and CREATE on the
    database, and no superuser. All of it is one transaction.

    Examples:
      aosctl db install --dsn 'host=db.example.com dbname=app user=app_owner'
      aosctl db install --dump-sql | psql -v ON_ERROR_STOP=1
    """
    from aosctl.db import install as kernel

    if dump_sql:
        output.write(kernel.install_script())
        return
    with closing(connect_owner(ctx)) as connection:
        if revoke_public:
            kernel.revoke_public(connection)
        done = kernel.install(connection)
        state = "installed in" if done.changed else "is already installed in"
        output.write(f'kernel {done.version} {state} database "{connection.info.dbname}"\n')
    _tell(ctx, done.remarks)
    _tell(ctx, worker_remarks(target_of(ctx), worker_of(ctx), globals_of(ctx).verb))


def upgrade(ctx: typer.Context) -> None:
    """Bring the kernel to this client's version.

    All of it is one transaction. Take a backup before. What SQL skills need and lack is
    made right, also when the kernel is up to date: their sandbox functions, and the rights
    on your tables that they declare. So are functions and views that were changed since.
    The embedded database also gets the extension vector, if it was made without.

    Examples:
      aosctl db backup before.aosbackup && aosctl db upgrade
    """
    from aosctl.db.upgrade import upgrade as bring_up

    target, verb = target_of(ctx), globals_of(ctx).verb
    vector = False
    if target.kind == "embedded":
        from aosctl.db.embedded_vector import add_vector

        vector = add_vector(target.database, verb, progress_of(ctx))
    with closing(connect_owner(ctx)) as connection:
        done = bring_up(connection, progress_of(ctx))
        name = connection.info.dbname
    if done.steps:
        output.write(f'kernel upgraded from {done.source} to {done.target} in database "{name}"\n')
    else:
        output.write(f'kernel {done.target} in database "{name}" is up to date\n')
    if vector:
        output.write(f'extension vector created in database "{name}"\n')
    if done.anew:
        output.write(f"functions and views made anew: {len(done.anew)}\n")
    if done.repaired:
        output.write(f"SQL identities made or dropped: {len(done.repaired)}\n")
    if done.renewed:
        output.write(f"sandbox functions made anew: {len(done.renewed)}\n")
    if done.given:
        output.write(f"rights given to SQL skills: {', '.join(done.given)}\n")
    _tell(ctx, done.remarks)


def uninstall(
    ctx: typer.Context,
    yes: Yes = False,
    cascade: Annotated[
        bool,
        typer.Option(
            "--cascade", help="Also drop what depends on it: policies, foreign keys, views"
        ),
    ] = False,
) -> None:
    """Remove the kernel with all its data.

    Its roles go too, where no other database of the cluster uses them.

    Examples:
      aosctl db uninstall
      aosctl db uninstall --dsn 'host=db.example.com dbname=app' --yes
    """
    from aosctl.cli.confirm import confirm
    from aosctl.db.install import is_there
    from aosctl.db.kernel_version import not_installed
    from aosctl.db.uninstall import uninstall as remove

    with closing(connect_owner(ctx)) as connection:
        name = connection.info.dbname
        if not is_there(connection):
            raise not_installed(connection)
        what = f'This removes the kernel and all its data from database "{name}"'
        confirm(what, name, yes=yes)
        left = remove(connection, cascade=cascade)
    output.write(f'kernel removed from database "{name}"\n')
    if left:
        _tell(ctx, (f"roles that something else in the cluster uses stay: {', '.join(left)}",))


def backup(
    ctx: typer.Context,
    file: File,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it is there")] = False,
) -> None:
    """Write all rows of every tenant to an archive.

    One snapshot, no superuser, and nobody has to wait for it. FILE appears when it is
    whole, and is not overwritten without --force. It holds tenants, manifests,
    runs, events, memory, and the grants of SQL skills; not your own tables. Keep it as
    secret as the database.

    Examples:
      aosctl db backup kernel.aosbackup
      aosctl db backup - | gpg --encrypt -r ops > kernel.aosbackup.gpg
    """
    from aosctl.db.backup import backup as write

    begun = time.monotonic()
    target = _Replacing(Path(file), force=force)
    if file != "-":
        target.check()
    with closing(connect_owner(ctx)) as connection:
        if file == "-":
            if sys.stdout.isatty():
                raise UsageError("an archive is no text for a terminal: name a file")
            manifest = write(connection, sys.stdout.buffer, lambda _: None)
            sys.stdout.buffer.flush()
        else:
            with target as stream:
                manifest = write(connection, stream, lambda _: None)
    _tell(ctx, (f"backed up {_counts(manifest)} in {time.monotonic() - begun:.1f} s",))


def restore(ctx: typer.Context, file: File) -> None:
    """Fill an empty kernel from an archive, and verify it.

    The kernel is installed first where it is missing. One transaction: rows, digests and
    hash chains are checked before it commits. Your own tables that refer to the kernel
    come after it; then db upgrade gives SQL skills their rights on them.

    Examples:
      aosctl db restore kernel.aosbackup --dsn 'host=new.example.com dbname=app'
      gpg --decrypt kernel.aosbackup.gpg | aosctl db restore -
    """
    from aosctl.db.restore import restore as fill
    from aosctl.repl.words import counted

    begun = time.monotonic()
    with _readable(file) as stream, closing(connect_owner(ctx)) as connection:
        done = fill(connection, stream, file, lambda _: None)
        name = connection.info.dbname
    output.write(f'restored {_counts(done.manifest)} into database "{name}"\n')
    seconds = time.monotonic() - begun
    _tell(
        ctx,
        (f"verified {counted(done.streams, 'hash chain')}; {seconds:.1f} s in all", *done.remarks),
    )


_VERBS: dict[str, Callable[..., None]] = {
    "install": install,
    "upgrade": upgrade,
    "harden": harden,
    "uninstall": uninstall,
    "backup": backup,
    "restore": restore,
}


def _tell(ctx: typer.Context, lines: Iterable[str]) -> None:
    quiet = globals_of(ctx).quiet
    for line in lines:
        output.note(line, quiet=quiet)


def _counts(manifest: Manifest) -> str:
    counts = {
        "tenants": manifest.rows("aos_auth.tenant"),
        "agents": manifest.rows("aos_agent.agent"),
        "runs": manifest.rows("aos_core.run"),
        "events": manifest.rows("aos_core.event_log"),
    }
    return ", ".join(f"{name} {count}" for name, count in counts.items())


class _Replacing:
    """A file that appears, or with `force` replaces the old one, when it is written as a whole."""

    def __init__(self, path: Path, *, force: bool) -> None:
        self._path = path
        self._force = force
        self._part = path.with_name(f".{path.name}.{os.getpid()}.part")

    def check(self) -> None:
        """Raise UsageError for a path that is there and is to stay as it is."""
        if not os.path.lexists(self._path):
            return
        if not self._path.is_file():
            raise UsageError(
                f"{self._path} is no regular file", "name another file, or - for standard output"
            )
        if not self._force:
            raise UsageError(
                f"{self._path} exists already",
                f"aosctl db backup {self._path} --force replaces it; or name another file",
            )

    def __enter__(self) -> IO[bytes]:
        try:  # nobody else may read what the tenants said
            descriptor = os.open(self._part, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        except OSError as error:
            raise UsageError(
                f"can't write {self._path}: {error.strerror}", "name another file"
            ) from error
        self._file = os.fdopen(descriptor, "wb")
        return self._file

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._file.flush()
                os.fsync(self._file.fileno())
                self.check()  # somebody may have been faster
                self._part.replace(self._path)
        finally:
            self._file.close()
            self._part.unlink(missing_ok=True)


def _readable(file: str) -> IO[bytes]:
    """Open an archive; what comes through a pipe is kept in a temporary file, to be read twice."""
    if file != "-":
        return Path(file).open("rb")
    import shutil
    import tempfile

    spool: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
    shutil.copyfileobj(sys.stdin.buffer, spool)
    spool.seek(0)
    return spool
