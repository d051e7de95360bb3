"""`aosctl ingest COLLECTION --list` and `--remove`: what was taken in, and taking it out again."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from aosctl.cli import output
from aosctl.cli.globals import Globals
from aosctl.errors import NotFound
from aosctl.timestamps import rfc3339

if TYPE_CHECKING:
    from aosctl.db.knowledge import KnownDocument


def write_list(given: Globals, collection: str, chosen: output.Output) -> int:
    """Print the ingested documents of a collection."""
    from aosctl.cli.table import age, write_table
    from aosctl.cli.wiring import quick_session_of
    from aosctl.db.knowledge import known_documents

    with closing(quick_session_of(given)) as session:
        known = known_documents(session.connection, session.require_tenant(), collection)
    if not chosen.is_table:
        output.write_objects([_object(collection, one) for one in known], chosen)
        return 0
    if not known:
        output.note(f"nothing was taken into {collection}", quiet=given.quiet)
        return 0
    rows = [
        (
            one.source,
            one.title,
            one.chunks,
            one.missing_embeddings,
            one.trust or "collection's",
            age(one.updated_at),
        )
        for one in known
    ]
    write_table(("SOURCE", "TITLE", "CHUNKS", "UNEMBEDDED", "TRUST", "AGE"), rows)
    return 0


def remove_documents(
    given: Globals,
    collection: str,
    sources: Sequence[str],
    chosen: output.Output,
    *,
    dry_run: bool,
) -> int:
    """Remove documents by their sources. Raises NotFound, before any is removed."""
    from aosctl.cli.wiring import session_of
    from aosctl.db.knowledge import KnowledgeClient
    from aosctl.domain.names import did_you_mean, quoted

    with closing(session_of(given)) as session:
        knowledge = KnowledgeClient(session.connection, session.require_tenant(), collection)
        known = {one.source: one for one in knowledge.known()}
        for source in sources:
            if source not in known:
                near = did_you_mean(source, list(known))
                raise NotFound(
                    f"{collection} has no ingested document {quoted(source)}{near}",
                    f"aosctl ingest {collection} --list",
                )
        if not dry_run:
            knowledge.remove(sources)
            knowledge.index()
    after = " (dry run)" if dry_run else ""
    if chosen.format in ("json", "yaml"):
        output.write_objects([_object(collection, known[source]) for source in sources], chosen)
    else:
        word = "" if chosen.format == "name" else f" removed{after}"
        output.write("".join(f"{collection}/{source}{word}\n" for source in sources))
    return 0


def _object(collection: str, one: KnownDocument) -> output.Resource:
    return {
        "apiVersion": "aos/v1",
        "kind": "Document",
        "metadata": {"name": one.source, "collection": collection},
        "spec": {"title": one.title, **({"trust": one.trust} if one.trust else {})},
        "status": {
            "sha256": one.sha256,
            "passages": one.chunks,
            "unembedded": one.missing_embeddings,
            "provenance": one.provenance,
            "updatedAt": rfc3339(one.updated_at),
        },
    }
