"""`aosctl schema`: the JSON Schemas of manifests, for editors."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.domain.names import printable
from aosctl.errors import AosError, UsageError


def command(
    kind: Annotated[str | None, typer.Argument(metavar="[KIND]", show_default=False)] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write it into this file")
    ] = None,
    folder: Annotated[
        Path | None,
        typer.Option("--all", metavar="DIR", help="Write those of every kind into this folder"),
    ] = None,
) -> None:
    """Print the JSON Schema (draft-07) of manifests: of one kind, or of all in one.

    An editor with yaml-language-server checks and completes a manifest that
    names the schema in a comment at its head, and at that of each document
    after a ---:

      # yaml-language-server: $schema=aos-v1.schema.json

    Examples:
      aosctl schema -o aos-v1.schema.json
      aosctl schema persona
      aosctl schema --all schemas/
    """
    from aosctl.domain.kinds.reference import SCHEMA, schema_files

    files = schema_files()
    if folder is not None:
        _write_all(folder, files)
        return
    text = files[SCHEMA if kind is None else _file_of(kind)]
    if out is None:
        output.write(text)
    else:
        _write(out, text)


def _file_of(word: str) -> str:
    from aosctl.domain.kinds.explaining import kind_to_explain
    from aosctl.domain.kinds.reference import schema_name

    kind = kind_to_explain(word)
    if kind.read_only:
        raise UsageError(
            f"{kind.plural} are not declared in manifests", f"aosctl explain {kind.singular}"
        )
    return schema_name(kind)


def _write_all(folder: Path, files: dict[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise AosError(f"can't make the folder {folder}: {error.strerror}") from error
    for name, text in files.items():
        _write(folder / name, text)
        output.write(f"{printable(str(folder / name))}\n")


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AosError(f"can't write {path}: {error.strerror}") from error
