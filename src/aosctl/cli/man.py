"""`aosctl man`: the manual pages, written from the commands themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from aosctl.cli import output
from aosctl.domain.names import printable
from aosctl.errors import AosError


def command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder to write into; its man1 is made")
    ],
) -> None:
    """Write the manual pages, one a command, into DIR/man1.

    Examples:
      aosctl man ~/.local/share/man && man -M ~/.local/share/man aosctl-get
      aosctl man . && man ./man1/aosctl.1
    """
    from aosctl.cli.man_pages import pages

    place, written = folder / "man1", list[Path]()
    try:
        place.mkdir(parents=True, exist_ok=True)
        for name, text in pages():
            (place / name).write_text(text, encoding="ascii")
            written.append(place / name)
    except OSError as error:
        raise AosError(f"can't write {error.filename or place}: {error.strerror}") from error
    output.write("".join(f"{printable(str(path))}\n" for path in written))
