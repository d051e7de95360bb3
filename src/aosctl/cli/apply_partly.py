"""`aosctl apply --atomic=false`: each document by itself, what is wrong with one stops no other."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from aosctl.cli.applied import Way, write_applied
from aosctl.cli.flags import given_files, suffix, with_labels
from aosctl.errors import AosError, DatabaseUnavailable

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.domain.applying import Applied, Tenancy
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
    way: Way, documents: tuple[Document, ...], tenancy: Tenancy
) -> tuple[list[Applied], list[AosError]]:
    """Apply each in a transaction of its own, and say at once what became of it.

    Returns what was done and what was refused. Raises DatabaseUnavailable.
    """
    from aosctl.cli.wiring import session_of
    from aosctl.db.manifests import wait_for_others

    done: list[Applied] = []
    errors: list[AosError] = []
    after = suffix(way.trial)
    with closing(session_of(way.given, select_tenant=False)) as session:
        wait_for_others(session.connection, way.patience)
        for document in documents:
            try:
                applied = _apply_one(session.connection, way, document, tenancy)
            except DatabaseUnavailable:
                raise
            except AosError as error:
                errors.append(error)
                continue
            done += applied
            if way.chosen.is_table:
                write_applied(applied, way.chosen, after)
    if not way.chosen.is_table:
        write_applied(done, way.chosen, after)
    return done, errors


def _apply_one(
    connection: Connection, way: Way, document: Document, tenancy: Tenancy
) -> list[Applied]:
    from aosctl.domain.applying import apply_set, compare_set

    if way.trial == "client":
        return compare_set(connection, [document], tenancy, way.members)
    return apply_set(
        connection,
        [document],
        tenancy,
        keep=way.keeps,
        read_back=not way.chosen.is_table,
        members=way.members,
    )
