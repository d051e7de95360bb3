"""`aosctl audit`: verify the trail, sign its heads, take it away, and let old content go."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, closing, nullcontext
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.audit_report import as_json, line_of, summary
from aosctl.cli.audit_scope import Run, Since, narrow, session_of, tenants_of
from aosctl.cli.audit_taking import register
from aosctl.cli.globals import globals_of
from aosctl.errors import InvalidInput, UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.domain.audit.checking import Report
    from aosctl.domain.audit.checkpoint import Checkpoint

app = typer.Typer(
    help="""Verify the audit trail, sign its heads and take it away.

Without -n all tenants are meant whose trail you may read (to take it away, in which you
are an auditor); for an administrator that includes what is left of deleted ones.

Examples:
  aosctl audit verify
  aosctl audit checkpoint -o heads-2026-11.aos
  aosctl audit verify --checkpoint heads-2026-11.aos
  aosctl audit export > trail.jsonl && aosctl audit verify --file trail.jsonl""",
    rich_markup_mode=None,
)


@app.command("verify")
def verify(
    ctx: typer.Context,
    run: Run = None,
    since: Since = None,
    checkpoint: Annotated[
        Path | None,
        typer.Option("--checkpoint", metavar="FILE", help="Compare with heads signed earlier"),
    ] = None,
    public_key: Annotated[
        str | None,
        typer.Option("--public-key", metavar="KEY|FILE", help="Who must have signed them"),
    ] = None,
    moved: Annotated[
        bool, typer.Option("--moved", help="The database was restored elsewhere since")
    ] = False,
    file: Annotated[
        str | None,
        typer.Option("-f", "--file", metavar="FILE", help="Verify an export instead; - for stdin"),
    ] = None,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json")
    ] = None,
) -> int:
    """Verify every chain, head and effect; each finding is a line, and exit status 1.

    The kernel checks where the trail stands. --file checks an export of it with other
    code and without a database. A chain alone does not show that its end was cut, or
    that a superuser wrote all of it anew: a checkpoint that was kept elsewhere does.

    Examples:
      aosctl audit verify -n acme --since 7d
      aosctl audit verify --run my_pg_bot-x7k2p
      aosctl audit verify --checkpoint heads.aos --public-key heads.pub
    """
    chosen = output.parse_output(output_format, allowed=("json",))
    against = _read_checkpoint(checkpoint, public_key)
    if file is not None:
        report = _verify_file(file, against)
    else:
        with closing(session_of(ctx)) as session:
            report = _verify(ctx, session, run, since, against, moved=moved)
    if chosen.format == "json":
        output.write_json(as_json(report))
    else:
        output.write("".join(map(line_of, report.problems)) + summary(report))
    return 1 if report.problems else 0


def _read_checkpoint(path: Path | None, public_key: str | None) -> Checkpoint | None:
    """Read a checkpoint signed by the key that is given, else by this machine's own."""
    from aosctl.domain.audit import checkpoint, signing

    if path is None:
        if public_key is not None:
            raise UsageError("--public-key says who signed a checkpoint: add --checkpoint FILE")
        return None
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "it is no text"
        raise InvalidInput(f"can't read the checkpoint {path}: {why}") from error
    if public_key is not None:
        return checkpoint.read(text, signing.read_public(public_key))
    own = signing.default_path(os.environ)
    if not own.exists():
        raise UsageError(
            "who must have signed the checkpoint? This machine has no key of its own",
            "give --public-key, as `aosctl audit public-key` printed it where it was signed",
        )
    return checkpoint.read(text, signing.public_of(signing.load(own)))


def _verify(
    ctx: typer.Context,
    session: Session,
    run: str | None,
    since: str | None,
    against: Checkpoint | None,
    *,
    moved: bool,
) -> Report:
    from aosctl.domain.audit.checking import check

    tenants, complete = tenants_of(session)
    tenants, scope = narrow(session, tenants, run, since)
    quiet = globals_of(ctx).quiet or not sys.stderr.isatty()
    progress = partial(output.note, quiet=quiet)
    return check(
        session.connection,
        tenants,
        scope,
        against,
        progress,
        moved=moved,
        complete=complete and run is None,
    )


def _verify_file(file: str, against: Checkpoint | None) -> Report:
    """Verify an export with the independent verifier."""
    from aosctl.domain.audit import verifier
    from aosctl.domain.audit.checking import Report

    told = verifier.Verified()
    heads = against.heads if against else {}
    with _opened(file) as lines:
        problems = list(verifier.verify(verifier.read_lines(lines), heads, told))
    if against is not None:
        problems = [*verifier.vanished(against.tenants, heads, told), *problems]
    compared = len(told.compared)
    return Report(
        told.tenants,
        told.streams,
        told.events,
        told.steps,
        told.cut,
        compared,
        len(heads) - compared,
        told.part(),
        problems,
    )


def _opened(file: str) -> AbstractContextManager[IO[str]]:
    """Open an export, also a compressed one."""
    if file == "-":
        return nullcontext(sys.stdin)
    import gzip

    try:
        if file.endswith(".gz"):
            return gzip.open(file, "rt", encoding="utf-8")
        return Path(file).open(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"can't read the export {file}: {error.strerror}") from error


register(app)
