"""Collections' documents and passages: the kernel's functions for people, one each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal, NamedTuple
from uuid import UUID

from aosctl.db.errors import to_json, translated
from aosctl.db.rows import rows_of

if TYPE_CHECKING:
    from aosctl.db.connection import Connection
    from aosctl.db.rows import AnyConnection

_LOCKED = "55P03"


class KnownDocument(NamedTuple):
    """An ingested document; `sha256` is None where its text has to be read again."""

    source: str
    sha256: str | None
    title: str
    chunks: int
    missing_embeddings: int
    trust: str | None
    provenance: Mapping[str, Any]
    updated_at: datetime


class StoredDocument(NamedTuple):
    """What became of a document; `chunks_kept` of its chunks are as they were."""

    document: str
    status: Literal["created", "changed", "unchanged"]
    chunks: int
    chunks_kept: int


class Chunk(NamedTuple):
    """A passage to embed; `content` has its title and headings above it."""

    chunk_id: UUID
    content: str


class Passage(NamedTuple):
    """What a search has found, and where it stands in its document."""

    collection: str
    document_id: UUID
    source: str | None
    title: str
    heading: str | None
    page: int | None
    line: int
    start_char: int
    end_char: int
    content: str
    score: float
    search: str
    untrusted: bool


class KnowledgeClient:
    """One collection of a tenant, as a person works on it; each call is one commit."""

    def __init__(self, connection: Connection, tenant: UUID, collection: str) -> None:
        self._connection = connection
        self.tenant = tenant
        self.collection = collection

    def known(self) -> list[KnownDocument]:
        """List the ingested documents (aos_rag.known_documents)."""
        return known_documents(self._connection, self.tenant, self.collection)

    def put(self, document: Mapping[str, Any]) -> StoredDocument:
        """Store one document (aos_rag.put_document)."""
        row = self._call(
            "select aos_rag.put_document(%(tenant)s, %(collection)s, %(document)s::jsonb)",
            document=to_json(document),
        )
        return StoredDocument(**row)

    def to_embed(self, after: UUID | None, limit: int) -> list[Chunk]:
        """List chunks without an embedding, by id after one (aos_rag.chunks_to_embed)."""
        return rows_of(
            self._connection,
            Chunk,
            "select chunk_id, content from"
            " aos_rag.chunks_to_embed(%(tenant)s, %(collection)s, %(after)s, %(limit)s)",
            {**self._own, "after": after, "limit": limit},
        )

    def charge(self, model: str, tokens: int) -> UUID:
        """Count a request before it is made (aos_rag.charge_embeddings). Raises LimitReached."""
        made: UUID = self._call(
            "select aos_rag.charge_embeddings("
            "%(tenant)s, %(collection)s, %(model)s, %(tokens)s::bigint)",
            model=model,
            tokens=tokens,
        )
        return made

    def put_embeddings(
        self, model: str, rows: Sequence[tuple[UUID, Sequence[float]]], charge: UUID, tokens: int
    ) -> int:
        """Store embeddings (aos_rag.put_embeddings); return how many chunks were still there.

        The request's charge is settled with the tokens that its model counted.
        """
        given = [{"chunk": str(chunk), "embedding": list(vector)} for chunk, vector in rows]
        return int(
            self._call(
                "select aos_rag.put_embeddings("
                "%(tenant)s, %(collection)s, %(model)s, %(rows)s::jsonb,"
                " %(charge)s, %(tokens)s::bigint)",
                model=model,
                rows=to_json(given),
                charge=charge,
                tokens=tokens,
            )
        )

    def remove(self, sources: Sequence[str]) -> int:
        """Remove ingested documents (aos_rag.remove_documents)."""
        return int(
            self._call(
                "select aos_rag.remove_documents(%(tenant)s, %(collection)s, %(sources)s)",
                sources=list(sources),
            )
        )

    def index(self) -> Mapping[str, Any] | None:
        """Make the collection's indexes (aos_rag.index_collection); None while others write."""
        import psycopg

        try:
            with self._connection.transaction():
                row = self._connection.execute(
                    "select aos_rag.index_collection(%(tenant)s, %(collection)s)", self._own
                ).fetchone()
        except psycopg.Error as error:
            if error.sqlstate == _LOCKED:
                return None
            with translated():
                raise
        made: Mapping[str, Any] | None = row[0] if row else None  # type: ignore[assignment]
        return made

    @property
    def _own(self) -> dict[str, object]:
        return {"tenant": self.tenant, "collection": self.collection}

    def _call(self, query: Any, **given: object) -> Any:
        with translated():
            row = self._connection.execute(query, {**self._own, **given}).fetchone()
        return row[0] if row else None


def known_documents(
    connection: AnyConnection, tenant: UUID, collection: str
) -> list[KnownDocument]:
    """List the ingested documents of a collection (aos_rag.known_documents)."""
    return rows_of(
        connection,
        KnownDocument,
        "select source, sha256, title, chunks, missing_embeddings, trust, provenance, updated_at"
        " from aos_rag.known_documents(%(tenant)s, %(collection)s)",
        {"tenant": tenant, "collection": collection},
    )


def search(
    connection: AnyConnection,
    tenant: UUID,
    collections: Sequence[str],
    question: str,
    limit: int,
    vectors: Mapping[str, Sequence[float]],
) -> list[Passage]:
    """Find passages (aos_rag.search); `vectors` are the question's embeddings, by model."""
    given = {name: list(vector) for name, vector in vectors.items()}
    return rows_of(
        connection,
        Passage,
        "select collection, document_id, source, title, heading, page, line, start_char, end_char,"
        " content, score, search, untrusted from aos_rag.search("
        "%(tenant)s, %(collections)s, %(question)s, %(limit)s, %(vectors)s::jsonb)",
        {
            "tenant": tenant,
            "collections": list(collections),
            "question": question,
            "limit": limit,
            "vectors": to_json(given) if given else None,
        },
    )
