"""Kind Collection: texts that agents look things up in."""

from __future__ import annotations

import re
from typing import Any

from aosctl.domain.fields import Choice, Number, Reference, Text
from aosctl.domain.kinds.base import Column, Completion, Entry, Kind, Resource, Spec
from aosctl.domain.kinds.embedding import MOST_DIMENSIONS
from aosctl.domain.names import CONTROL, quoted
from aosctl.domain.structures import Field, ListOf, Object

_LONGEST_TEXT = 1_000_000

_DOCUMENT = Object(
    fields=(
        Field(
            "title",
            Text(min_length=1, max_length=500),
            "The title, unique in the collection; answers cite it.",
            required=True,
        ),
        Field(
            "source",
            Text(min_length=1),
            "Where the text comes from, such as a URL.",
            default_words="the name of the file, if there is one",
        ),
        Field("text", Text(min_length=1, max_length=_LONGEST_TEXT), "The text itself."),
        Field(
            "file",
            Text(min_length=1, max_length=1_000),
            "A UTF-8 text file instead of `text`, relative to the manifest and inside its"
            " folder. Its text is read when the manifest is applied.",
        ),
    )
)


_EMBEDDING = Object(
    fields=(
        Field(
            "model",
            Reference(kind="Model", embeds=True),
            "The Model that makes the vectors; one whose capability `embeddings` is true.",
            required=True,
        ),
        Field(
            "dimensions",
            Number(whole=True, minimum=1, maximum=MOST_DIMENSIONS),
            "How many numbers a vector has, where the model can be asked for fewer than its own.",
            default_words="the model's own",
        ),
    )
)

_CHUNKING = Object(
    fields=(
        Field(
            "characters",
            Number(whole=True, minimum=200, maximum=8_000),
            "How long a passage is at most: a text is cut at headings, paragraphs, sentences and"
            " words, in that order.",
            default=1_600,
        ),
        Field(
            "overlap",
            Number(whole=True, minimum=0, maximum=4_000),
            "How much of a passage the next one repeats, where a text is cut inside a section; at"
            " most half of it.",
            default=200,
        ),
    )
)


def _count(row: Resource) -> int:
    stored = row.status.get("documents")
    return stored if isinstance(stored, int) else len(row.spec.get("documents") or [])


def _model(row: Resource) -> str | None:
    name: str | None = (row.spec.get("embedding") or {}).get("model")
    return name


def _embedded(row: Resource) -> int | None:
    """Return how many passages have a vector; None where no model makes any."""
    count: int | None = row.status.get("embedded")
    return count if _model(row) else None


class Collection(Kind):
    name = "Collection"
    plural = "collections"
    short_names = ("col",)
    db_schema = "aos_rag"
    doc = (
        "Texts in which `rag_search` finds passages, with their titles and sources. Applying a"
        " collection replaces the documents of its manifest; those that were ingested stay."
    )
    fields = (
        Field("description", Text(), "What is in it, for people and for the model.", default=""),
        Field(
            "trust",
            Choice(values=("trusted", "untrusted")),
            "Whether its texts are your own. What strangers can write, such as tickets or web"
            " pages, is `untrusted`: a text could try to give the agent orders.",
            default="trusted",
        ),
        Field(
            "embedding",
            _EMBEDDING,
            "Which model makes vectors of its passages, so that they are found by what they mean"
            " and not by their words alone. It needs the extension vector; `aosctl ingest` asks the"
            " model.",
            default_words="full-text search alone",
        ),
        Field("chunking", _CHUNKING, "How texts are cut into passages.", default={}),
        Field(
            "documents",
            ListOf(item=_DOCUMENT, max_items=10_000),
            "The texts, each with either `text` or `file`.",
            default=[],
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Collection
metadata:
  name: handbook
  tenant: tech_corp
spec:
  description: How we work
  embedding:
    model: text-embedding-3-small
  documents:
    - title: Holidays
      source: https://intranet.example/holidays
      text: Everyone has 30 days of holiday a year.
    - title: Travel
      file: documents/travel.md
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("DOCUMENTS", _count),
        Column("CHUNKS", lambda row: row.status.get("chunks")),
        Column("EMBEDDED", _embedded),
        Column("MODEL", _model),
        Column("TRUST", lambda row: row.spec.get("trust")),
        Column("AGE", lambda row: row.created_at),
        Column("SEARCH", lambda row: row.status.get("search"), wide=True),
        Column("DESCRIPTION", lambda row: row.spec.get("description"), wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Read the files, so that every document has its text; check that titles are unique."""
        if 2 * spec["chunking"]["overlap"] > spec["chunking"]["characters"]:
            at.wrong("spec.chunking.overlap", "is more than half of spec.chunking.characters")
        titles: set[str] = set()
        documents = []
        for place, document in enumerate(spec["documents"]):
            path = f"spec.documents[{place}]"
            if document["title"] in titles:
                at.wrong(f"{path}.title", f"{quoted(document['title'])} is listed twice")
            titles.add(document["title"])
            documents.append(_with_text(document, path, at))
        return {**spec, "documents": documents}

    def describe(self, resource: Resource) -> list[Entry]:
        """List the documents by title, size and source instead of printing their texts."""
        documents: list[dict[str, Any]] = resource.spec.get("documents") or []
        listed = [
            (str(document.get("title")), f"{len(document.get('text') or ''):,} characters")
            for document in documents
        ]
        shown = {key: value for key, value in resource.spec.items() if key != "documents"}
        short = resource._replace(spec=shown)
        # Those that were ingested are many: their number stands in the status.
        return [*super().describe(short), *([("Documents", listed)] if listed else [])]


def _with_text(document: dict[str, Any], path: str, at: Completion) -> dict[str, Any]:
    """Return the document with `text` and without `file`."""
    if ("text" in document) == ("file" in document):
        at.wrong(path, "needs either text or file")
        return document
    if "text" in document:
        return document
    name = document["file"]
    try:
        text = at.read(name)
    except ValueError as error:
        at.wrong(f"{path}.file", str(error))
        return document
    if not text.strip() or re.search(CONTROL, text):
        reason = "holds control characters" if text.strip() else "is empty"
        at.wrong(f"{path}.file", f"the file {quoted(name)} {reason}")
    kept = {key: value for key, value in document.items() if key != "file"}
    return {"title": kept["title"], "source": kept.get("source", name), "text": text}
