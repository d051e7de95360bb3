"""What `apply` and its kin share: how documents are applied, and what is said of them after."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Literal, NamedTuple

import typer

from aosctl.cli import output
from aosctl.cli.flags import DryRun, tenancy_of
from aosctl.cli.globals import Globals, globals_of

if TYPE_CHECKING:
    from aosctl.domain.applying import Applied
    from aosctl.domain.applysets import Members
    from aosctl.domain.document import Document
    from aosctl.domain.reading import Strangers


class Way(NamedTuple):
    """How documents are applied, as the flags say.

    `strangers` is told of unknown fields; `patience` is in milliseconds, see `patience_of`.
    """

    given: Globals
    chosen: output.Output
    trial: DryRun
    members: Members
    strangers: Strangers
    patience: int | None
    show_diff: bool
    confirm: bool

    @property
    def keeps(self) -> bool:
        """Tell that what is applied stays."""
        return self.trial == "none"


def apply_only(
    ctx: typer.Context,
    documents: Sequence[Document],
    only: Literal["new", "there"],
    *,
    keep: bool,
    read_back: bool = False,
) -> list[Applied]:
    """Apply documents that are all new, or all there; see `apply_set`, which raises."""
    from aosctl.cli.wiring import session_of
    from aosctl.domain.applying import apply_set

    with closing(session_of(globals_of(ctx), select_tenant=False)) as session:
        return apply_set(
            session.connection,
            documents,
            tenancy_of(ctx),
            keep=keep,
            read_back=read_back,
            only=only,
        )


def write_applied(applied: list[Applied], chosen: output.Output, after: str) -> None:
    """Print what became of documents; `after` follows each outcome that did not happen."""
    if chosen.format == "name":
        output.write("".join(f"{one.name}\n" for one in applied))
    elif chosen.is_table:
        output.write("".join(f"{one.name} {one.outcome}{after}\n" for one in applied))
    else:
        from aosctl.domain.kinds import BY_NAME

        manifests = [
            BY_NAME[one.document.kind].to_manifest(one.merged)
            if one.merged
            else one.document.manifest()
            for one in applied
            if one.outcome != "pruned"
        ]
        output.write_objects(manifests, chosen, single=len(manifests) == 1)
