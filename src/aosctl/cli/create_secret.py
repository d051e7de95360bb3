"""`aosctl create secret`: seal values that a file, a variable or standard input holds."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.flags import ChangedText, DryRunText, parse_dry_run, suffix, tenancy_of
from aosctl.cli.globals import globals_of
from aosctl.errors import AosError, InvalidInput, UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.domain.document import Document
    from aosctl.domain.sealing import Plaintext

_VARIABLE = re.compile("[A-Za-z_][A-Za-z0-9_]*")
_KEY = re.compile(r"[A-Za-z0-9_.-]{1,253}")
_LONGEST = 70_000
_NOT_HERE = (
    "a value on the command line stands in the shell's history, and everybody on this machine can"
    " read it in the process list: take it for known, and get a new one"
)
_WAYS = "give --from-file, --from-env or --from-stdin; on a terminal you are asked"


def secret(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", show_default=False)],
    value: Annotated[list[str] | None, typer.Argument(metavar="", hidden=True)] = None,
    from_file: Annotated[
        list[str] | None,
        typer.Option("--from-file", metavar="[KEY=]FILE", help="A file; KEY is its name if absent"),
    ] = None,
    from_env: Annotated[
        list[str] | None,
        typer.Option("--from-env", metavar="[KEY=]NAME", help="An environment variable"),
    ] = None,
    from_stdin: Annotated[
        bool, typer.Option("--from-stdin", help="Read the value of --key from standard input")
    ] = False,
    key: Annotated[
        str, typer.Option("--key", metavar="KEY", help="The key of a value that is read or typed")
    ] = "value",
    from_literal: Annotated[list[str] | None, typer.Option("--from-literal", hidden=True)] = None,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the values of a secret that exists")
    ] = False,
    dry_run: DryRunText = "none",
    output_format: ChangedText = None,
) -> None:
    """Seal values, and keep them in the database as a secret.

    The values are sealed here with the master key; the database never holds what opens
    them. Without a --from flag the value is asked for, and not shown while you type.
    A line break at the end of a file or of standard input does not count.

    Examples:
      aosctl create secret openai
      aosctl create secret openai --from-env api_key=OPENAI_API_KEY
      pass show openai | aosctl create secret openai --from-stdin
      aosctl create secret openai --from-file api=key.txt --dry-run=client -o yaml
    """
    chosen = output.parse_output(output_format, allowed=("json", "yaml", "name"))
    trial = parse_dry_run(dry_run)
    if from_literal or value:
        raise UsageError(_NOT_HERE, _WAYS)
    given = dict(_values(from_file or [], from_env or [], from_stdin, key))

    from aosctl.cli.applied import write_applied
    from aosctl.cli.wiring import session_of
    from aosctl.domain.applying import apply_set, compare_set

    with closing(session_of(globals_of(ctx), select_tenant=replace)) as session:
        document = _document(session, name, given, replace)
        if trial == "client":
            applied = compare_set(session.connection, [document], tenancy_of(ctx))
        else:
            applied = apply_set(
                session.connection,
                [document],
                tenancy_of(ctx),
                keep=trial == "none",
                read_back=chosen.format in ("json", "yaml"),
                only=None if replace else "new",
            )
    write_applied(applied, chosen, suffix(trial))


def _document(session: Session, name: str, given: dict[str, Plaintext], replace: bool) -> Document:
    """Return the secret as a document; one that is replaced keeps its labels and annotations."""
    from aosctl.domain import inventory
    from aosctl.domain.document import Document
    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.names import NAME_PATTERN, NAME_RULE

    if not re.fullmatch(NAME_PATTERN, name):
        raise UsageError(f"NAME is not a name: {NAME_RULE}")
    tenant = session.require_tenant() if replace else None
    kind = BY_NAME["Secret"]
    found, _ = inventory.named(session.connection, kind, tenant, [name]) if replace else ([], [])
    return Document(
        kind=kind.name,
        name=name,
        tenant=None,
        labels=found[0].labels if found else {},
        annotations=found[0].annotations if found else {},
        spec={"data": given},
        source="aosctl create secret",
        line=0,
        column=0,
    )


def _values(
    files: list[str], variables: list[str], stdin: bool, key: str
) -> Iterator[tuple[str, Plaintext]]:
    """Yield every key with its value; the first that can't be read is an error."""
    from aosctl.domain.sealing import Plaintext
    from aosctl.domain.secrets import checked_text, without_last_break

    seen: set[str] = set()

    def value(key: str, text: str) -> tuple[str, Plaintext]:
        if not _KEY.fullmatch(key):
            raise UsageError("a key has letters, digits, _ . - only", "KEY=… names another")
        if key in seen:
            raise UsageError(f'the key "{key}" is given twice')
        seen.add(key)
        hidden = Plaintext(text)
        checked_text(hidden.reveal(), f'the value "{key}"')
        return key, hidden

    for number, word in enumerate(files, 1):
        named, equals, path = word.partition("=")
        path = path if equals else word
        text = without_last_break(_file_text(path, f"--from-file number {number}"))
        yield value(named if equals else Path(path).name, text)
    for word in variables:
        named, equals, variable = word.partition("=")
        variable = variable if equals else word
        if not _VARIABLE.fullmatch(variable) or variable not in os.environ:
            # Somebody may have given the value itself, so it is not repeated.
            raise UsageError("--from-env takes the name of a variable that is set")
        yield value(named if equals else variable, os.environ[variable])
    if stdin:
        yield value(key, without_last_break(_stdin_text()))
    elif not files and not variables:
        yield value(key, _typed_text(key))


def _file_text(path: str, what: str) -> str:
    try:
        with open(path, "rb") as file:
            return _text(file.read(_LONGEST), what)
    except OSError as error:
        raise AosError(f"{what} can't be read: {error.strerror}") from None


def _stdin_text() -> str:
    return _text(sys.stdin.buffer.read(_LONGEST), "standard input")


def _text(data: bytes, what: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        raise InvalidInput(f"{what} is no UTF-8 text") from None


def _typed_text(key: str) -> str:
    """Ask on the terminal, without showing what is typed."""
    from aosctl.cli.confirm import can_answer

    if not can_answer():
        raise UsageError("where is the value?", _WAYS)
    import getpass
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)
        try:
            return getpass.getpass(f'The value "{key}" (it is not shown): ')
        except getpass.GetPassWarning:
            raise AosError("this terminal can't hide what is typed", _WAYS) from None
        except EOFError:
            raise AosError("nothing was done") from None
