"""`aosctl search`: the passages that an agent would find, with their places."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from aosctl.cli import output
from aosctl.cli.globals import Globals, globals_of
from aosctl.errors import ProviderError, UsageError

if TYPE_CHECKING:
    from aosctl.db.connection import Session
    from aosctl.db.knowledge import Passage

_LINES_SHOWN = 8
_ATTEMPTS = 2


def command(
    ctx: typer.Context,
    collection: Annotated[
        str, typer.Argument(metavar="COLLECTION", help="A collection, or several: a,b")
    ],
    words: Annotated[list[str], typer.Argument(metavar="QUESTION…", help="What to look for")],
    limit: Annotated[
        int, typer.Option("--limit", metavar="N", min=1, max=20, help="At most so many passages")
    ] = 5,
    full_text: Annotated[
        bool, typer.Option("--full-text", help="By words alone: ask no embedding model")
    ] = False,
    whole: Annotated[bool, typer.Option("--whole", help="Show passages whole")] = False,
    output_format: Annotated[
        str | None, typer.Option("-o", "--output", metavar="FORMAT", help="json or yaml")
    ] = None,
) -> int:
    """Find passages of collections: by words and, where they have embeddings, by meaning.

    It is the search of the skill rag_search, with what agents get: each passage with its source
    and place. Exit status 1 when nothing is found.

    Examples:
      aosctl search handbook how many days of holiday
      aosctl search handbook,faq "reset my password" --limit 3
      aosctl search handbook upsert --full-text -o json
    """
    given = globals_of(ctx)
    chosen = output.parse_output(output_format, allowed=("json", "yaml"))
    question = " ".join(words).strip()
    names = [name for name in collection.split(",") if name]
    if not question or not names:
        raise UsageError("what to look for? aosctl search COLLECTION QUESTION")
    from aosctl.cli.wiring import session_of
    from aosctl.db.knowledge import search

    with closing(session_of(given)) as session:
        vectors = _vectors(given, session, names, question, ask=not full_text)
        tenant = session.require_tenant()
        found = search(session.connection, tenant, names, question, limit, vectors)
    if not chosen.is_table:
        output.write_objects([_object(one) for one in found], chosen)
    elif found:
        output.write("\n".join(_shown(place, one, whole) for place, one in enumerate(found, 1)))
    if not found:
        output.note("nothing was found", quiet=given.quiet)
    return int(not found)


def _vectors(
    given: Globals, session: Session, names: Sequence[str], question: str, *, ask: bool
) -> dict[str, tuple[float, ...]]:
    """Embed the question once for each model; say where full text has to do alone."""
    from aosctl.cli.wiring import embedder_of
    from aosctl.domain.ingest.meaning import NO_MODEL, meaning_of
    from aosctl.providers.base import Retry

    vectors: dict[str, tuple[float, ...]] = {}
    for name in names:
        meaning = meaning_of(session.connection, session.require_tenant(), name)
        why = meaning.why_not
        if ask and meaning.model is not None and meaning.model.name not in vectors:
            hasty = replace(meaning.model, retry=Retry(_ATTEMPTS, 5))
            try:
                made = embedder_of(hasty.provider).embed(
                    hasty, [question], query=True, dimensions=meaning.dimensions
                )
                vectors[hasty.name] = made.vectors[0]
            except ProviderError as error:
                why = error.message
        if ask and why and why != NO_MODEL:
            text = f"{name} is searched by full text alone: {why}"
            output.note(text, quiet=given.quiet)
    return vectors


def _shown(place: int, one: Passage, whole: bool) -> str:
    """Return a passage with its place above it, a few lines where it is long."""
    where = f"{one.source or one.title}:{one.line}"
    if one.page is not None:
        where = f"{one.source or one.title} p. {one.page}"
    headings = (one.heading or "").removeprefix(one.title).removeprefix(" > ")
    title = " > ".join(part for part in (one.title, headings) if part)
    marks = f"{one.collection}, score {one.score:.4f}, {one.search}"
    if one.untrusted:
        marks += ", untrusted"
    lines = one.content.strip().splitlines()
    shown = lines if whole else lines[:_LINES_SHOWN]
    body = "\n".join(f"   {line}" for line in shown)
    left = len(lines) - len(shown)
    more = f"\n   … {left} more lines: --whole" if left else ""
    return f"{place}. {where}  {title}  ({marks})\n{body}{more}\n"


def _object(one: Passage) -> output.Resource:
    spec = {
        "source": one.source,
        "title": one.title,
        "heading": one.heading or None,
        "page": one.page,
        "line": one.line,
        "startChar": one.start_char,
        "endChar": one.end_char,
        "content": one.content,
    }
    return {
        "apiVersion": "aos/v1",
        "kind": "Passage",
        "metadata": {"name": str(one.document_id), "collection": one.collection},
        "spec": {name: value for name, value in spec.items() if value is not None},
        "status": {"score": one.score, "search": one.search, "untrusted": one.untrusted},
    }
