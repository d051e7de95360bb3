"""`aosctl edit`: change resources in the person's own editor."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from aosctl.cli import output
from aosctl.cli.flags import Selector
from aosctl.cli.globals import Globals, globals_of
from aosctl.errors import AosError, Conflict, InvalidInput, ManifestError, NotFound, UsageError

if TYPE_CHECKING:
    from pathlib import Path

    from aosctl.cli.edited_text import Language
    from aosctl.cli.picking import Choice
    from aosctl.domain.applying import Applied, Expected
    from aosctl.domain.changing import Picked
    from aosctl.domain.document import Document

_WRONG = (Conflict, InvalidInput, ManifestError, NotFound)
"""What the person can mend in the file; anything else ends the edit."""


def command(
    ctx: typer.Context,
    words: Annotated[
        list[str] | None, typer.Argument(metavar="KIND NAME… | KIND/NAME…", show_default=False)
    ] = None,
    output_format: Annotated[
        str, typer.Option("-o", "--output", metavar="FORMAT", help="yaml or json")
    ] = "yaml",
    selector: Selector = None,
    output_patch: Annotated[
        bool, typer.Option("--output-patch", help="Print what was changed as a merge patch")
    ] = False,
) -> None:
    """Change resources in your editor.

    It is the one that AOSCTL_EDITOR, KUBE_EDITOR, VISUAL or EDITOR names. What is saved is applied,
    all of it or nothing. A mistake opens the file again, with the reasons at its top; to give up,
    save it as it is: the file is kept then, and named. What somebody else changed meanwhile is not
    overwritten.

    Examples:
      aosctl edit persona pg_expert
      aosctl edit agent/my_pg_bot -o json
      AOSCTL_EDITOR="code --wait" aosctl edit skills -l team=data
    """
    from aosctl.cli.picking import choose

    if output_format not in ("yaml", "json"):
        output.parse_output(output_format, allowed=("json", "yaml"))
        raise UsageError("-o takes yaml or json")
    language = cast(Literal["yaml", "json"], output_format)
    choice = choose(words or (), "edit", selector)
    given = globals_of(ctx)
    opened = _read(given, choice)
    if not opened:
        from aosctl.cli.resource_table import note_none

        note_none(None, quiet=given.quiet)
        return
    done = _Edit(given, opened, language).until_applied()
    if done is None:
        output.note("Edit cancelled, no changes made.")
        return
    for one in done:
        if output_patch and one.outcome != "unchanged":
            output.write(f"Patch: {_patch_of(one)}\n")
        output.write(f"{one.name} {'edited' if one.outcome != 'unchanged' else 'unchanged'}\n")


def _patch_of(one: Applied) -> str:
    """Return the change as JSON, as `aosctl patch --type merge` takes it."""
    import json

    from aosctl.domain.applying import user_owned
    from aosctl.domain.kinds import BY_NAME
    from aosctl.domain.patching import difference
    from aosctl.terminal import visible

    kind = BY_NAME[one.document.kind]
    before, after = (user_owned(kind, row) if row else {} for row in (one.live, one.merged))
    return visible(json.dumps(difference(before, after), ensure_ascii=False))


def _read(given: Globals, choice: Choice) -> list[Picked]:
    """Read what is to be edited; nothing stays open while the person thinks."""
    from aosctl.cli.picking import pick, tenant_of
    from aosctl.cli.wiring import session_of

    with closing(session_of(given)) as session:
        return pick(session.connection, tenant_of(session, choice.wanted), choice)


class _Edit:
    """One file under edit, and what was read when it was opened."""

    def __init__(self, given: Globals, opened: list[Picked], language: Language) -> None:
        from aosctl.cli.edited_text import written
        from aosctl.editor import new_file

        self._given = given
        self._opened = {
            (kind.name, row.tenant if kind.tenanted else None, row.name): row
            for kind, row in opened
        }
        self._language = language
        self._original = written(opened, language)
        self._path: Path = new_file(opened[0][1].name, f".{language}")

    def until_applied(self) -> list[Applied] | None:
        """Edit until it is applied; None when nothing was changed. Raises what ends the edit."""
        try:
            done = self._rounds()
        except (AosError, KeyboardInterrupt):
            self._keep()
            raise
        self._path.unlink(missing_ok=True)
        return done if done and any(one.outcome != "unchanged" for one in done) else None

    def _rounds(self) -> list[Applied] | None:
        from aosctl.cli.edited_text import body_of, header, message_of

        body, top = self._original, header()
        while True:
            edited = self._edit(top + body)
            before, body = body, body_of(edited)
            if body.strip() == self._original.strip():
                return None
            if not body.strip():
                raise AosError("Edit cancelled, saved file was empty.")
            if top != header() and body.strip() == before.strip():
                raise AosError("Edit cancelled, no valid changes were saved.")
            try:
                return self._apply(edited)
            except _WRONG as error:
                output.note(f"{error.label}: {message_of(error, edited)}")
                top = header(error, edited)

    def _keep(self) -> None:
        """Say where the person's work is; a file without any is not kept."""
        from aosctl.cli.edited_text import body_of

        try:
            left = body_of(self._path.read_text(encoding="utf-8", errors="replace")).strip()
        except OSError:  # the editor took it away, and the error says so
            return
        if left in ("", self._original.strip()):
            self._path.unlink()
        else:
            output.note(f'A copy of your changes has been stored to "{self._path}"')

    def _edit(self, text: str) -> str:
        from aosctl.editor import edit

        self._path.write_text(text, encoding="utf-8")
        return edit(self._path)

    def _apply(self, text: str) -> list[Applied]:
        """Apply what was saved, if it is still about what was opened."""
        from aosctl.cli.wiring import session_of
        from aosctl.domain.applying import Tenancy, apply_set
        from aosctl.domain.manifest import loads

        documents = loads(text, str(self._path))
        expected = self._expected(documents)
        with closing(session_of(self._given, select_tenant=False)) as session:
            nowhere = Tenancy(None, None)
            return apply_set(
                session.connection, documents, nowhere, expected=expected, read_back=True
            )

    def _expected(self, documents: tuple[Document, ...]) -> Expected:
        """Return what has to stand there still; nothing where generation was taken out."""
        from aosctl.domain.cluster import key

        for document in documents:
            if key(document) not in self._opened:
                raise InvalidInput(
                    document.problem(
                        "metadata.name", "was not opened: kind, name and tenant can't be changed"
                    )
                )
        return {
            key(document): self._opened[key(document)]
            for document in documents
            if document.generation is not None
        }
