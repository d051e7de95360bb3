"""`aosctl apply --atomic=false`: each document by itself, what is wrong with one stops no other."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.cli.flags import DryRun, given_files, suffix, with_labels
from aosctl.errors import AosError, DatabaseUnavailable

if TYPE_CHECKING:
    from aosctl.cli.globals import Globals
    from aosctl.domain.applying import Applied, Tenancy
    from aosctl.domain.applysets import Members
    from aosctl.domain.document import Document
    from aosctl.domain.reading import Strangers


def right_documents(
    files: list[str] | None, recursive: bool, selector: str | None, strangers: Strangers
) -> tuple[tuple[Document, ...], list[AosError]]:
    """Return the documents of -f that can be read, in apply order, and what is wrong with others.

    Raises UsageError without -f, ManifestError where there is none.
    """
    from aosctl.domain.manifest import load_what_is_right
    from aosctl.domain.relations import in_apply_order

    files = given_files(files, "apply")
    documents, wrong = load_what_is_right(files, recursive=recursive, strangers=strangers)
    if not documents and wrong is not None:
        raise wrong
    documents = in_apply_order(with_labels(documents, selector, "apply"))
    return documents, [wrong] if wrong is not None else []


def apply_each(
    given: Globals,
    documents: tuple[Document, ...],
    tenancy: Tenancy,
    members: Members,
    trial: DryRun,
    chosen: output.Output,
    patience: int | None,
) -> tuple[list[Applied], list[AosError]]:
    """Apply each in a transaction of its own, and say at once what became of it.

    Returns what was done and what was refused. Raises DatabaseUnavailable.
    """
    from aosctl.cli.apply import write_applied
    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import wait_for_others
    from aosctl.domain.applying import apply_set, compare_set

    done: list[Applied] = []
    errors: list[AosError] = []
    with closing(session_of(given, select_tenant=False)) as session:
        connection = session.connection
        wait_for_others(connection, patience)
        for document in documents:
            try:
                if trial == "client":
                    applied = compare_set(connection, [document], tenancy, members)
                else:
                    applied = apply_set(
                        connection,
                        [document],
                        tenancy,
                        keep=trial == "none",
                        read_back=not chosen.is_table,
                        members=members,
                    )
            except DatabaseUnavailable:
                raise
            except AosError as error:
                errors.append(error)
                continue
            done += applied
            if chosen.is_table:
                write_applied(applied, chosen, suffix(trial))
    if not chosen.is_table:
        write_applied(done, chosen, suffix(trial))
    return done, errors
