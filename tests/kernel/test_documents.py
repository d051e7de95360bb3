"""Documents of collections: how they are cut, kept, changed and taken out, and by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from kernels import META, KernelDatabase, Tenant, apply, call, refused

WORDS = "The quick brown fox jumps over the lazy dog. "
TEXTS: dict[str, tuple[str, str]] = {
    "paragraphs": ("text/plain", "\n\n".join(f"{n}. {WORDS * 5}" for n in range(40))),
    "one line": ("text/plain", WORDS * 200),
    "one word": ("text/plain", "x" * 5000),
    "no ends": ("text/plain", "word " * 2000),
    "umlauts": ("text/markdown", "# Größe\n\n" + "Äpfel und Öl für 5 €. " * 300),
    "emoji": ("text/plain", "🦊 springt. " * 900),
    "windows": ("text/markdown", "# A\r\n\r\n" + "Zeile eins.\r\n" * 400),
    "pages": ("application/pdf", "\f".join(f"Page {n}\n{WORDS * 30}" for n in range(1, 9))),
    "headings": ("text/markdown", "".join(
        f"{'#' * (1 + n % 3)} H{n}\n\n{WORDS * (1 + 17 * n % 60)}\n\n" for n in range(30))),
    "tiny sections": ("text/markdown", "".join(f"## S{n}\nshort\n" for n in range(200))),
    "blank": ("text/markdown", "\n\n \t\n# Only a heading\n\n\n"),
}  # fmt: skip


@dataclass(frozen=True)
class Chunk:
    place: int
    heading: str
    page: int | None
    line: int
    start: int
    end: int
    content: str


def cut(
    database: KernelDatabase, text: str, media_type: str, characters: int = 400, overlap: int = 60
) -> list[Chunk]:
    """Return the chunks of a text."""
    rows = database.rows(
        "select * from aos_rag.chunks_of(%s, %s, %s, %s)", text, media_type, characters, overlap
    )
    return [Chunk(*row) for row in rows]


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("characters", "overlap"), [(200, 0), (400, 60), (1600, 800)])
def test_chunks_cover_a_text_and_say_where_they_stand_in_it(
    kernel_database: KernelDatabase, name: str, characters: int, overlap: int
) -> None:
    media_type, text = TEXTS[name]
    chunks = cut(kernel_database, text, media_type, characters, overlap)
    assert [chunk.place for chunk in chunks] == list(range(1, len(chunks) + 1))
    covered: set[int] = set()
    for before, chunk in zip([None, *chunks], chunks, strict=False):
        assert chunk.content == text[chunk.start : chunk.end]
        assert 0 < len(chunk.content) <= characters
        assert chunk.line == text.count("\n", 0, chunk.start) + 1
        assert chunk.page == (text.count("\f", 0, chunk.start) + 1 if "\f" in text else None)
        assert before is None or (
            before.start < chunk.start and before.end - chunk.start <= overlap
        )
        covered.update(range(chunk.start, chunk.end))
    left_out = {text[at] for at in range(len(text)) if at not in covered}
    assert left_out <= set(" \t\r\n\f")


MARKDOWN = """Before all.

# Guide

Intro.

## Joins
```
# no heading
```
Hash joins.

### Deep ##
Deeper.

# Other
End.
"""


def test_a_chunk_knows_the_headings_that_lead_to_it(kernel_database: KernelDatabase) -> None:
    filler = "\n" + WORDS * 3 + "\n\n"
    text = MARKDOWN.replace("\n\n", filler)
    headings = {
        chunk.content.splitlines()[0]: chunk.heading
        for chunk in cut(kernel_database, text, "text/markdown", 400, 0)
    }
    assert headings["# Guide"] == "Guide"
    assert headings["## Joins"] == "Guide > Joins"
    assert headings["### Deep ##"] == "Guide > Joins > Deep"
    assert headings["# Other"] == "Other"
    assert "# no heading" not in headings
    plain = cut(kernel_database, text, "text/plain", 400, 0)
    assert {chunk.heading for chunk in plain} == {""}


def test_a_cut_goes_between_paragraphs_before_lines_before_sentences_before_words(
    kernel_database: KernelDatabase,
) -> None:
    para = "a" * 120
    for text, ends in (
        (f"{para}\n\n{para}. b\nc d", para),
        (f"{para} e.\n{para}. b", f"{para} e."),
        (f"{para} e. {para} b", f"{para} e."),
        (f"{para} e {para} b", f"{para} e"),
    ):
        assert cut(kernel_database, text, "text/plain", 200, 0)[0].content == ends


def document(source: str = "a.md", text: str = "Hash joins.", **more: Any) -> dict[str, Any]:
    return {
        "source": source,
        "title": source,
        "media_type": "text/markdown",
        "content": text,
        **more,
    }


@pytest.fixture
def shelf(fresh_tenant: Tenant) -> Tenant:
    """A tenant with a collection `notes`, of one document of its manifest."""
    apply_notes(fresh_tenant)
    return fresh_tenant


def apply_notes(tenant: Tenant, **spec: Any) -> str:
    documents = [{"title": "Of the manifest", "text": "Nested loops."}]
    return apply(
        tenant.database.superuser, "aos_rag.apply_collection", tenant.id, "notes",
        {"documents": documents, **spec},
    )  # fmt: skip


def put(tenant: Tenant, given: dict[str, Any], collection: str = "notes") -> dict[str, Any]:
    said = call(tenant.person, "aos_rag.put_document", tenant.id, collection, given)
    return {key: said[key] for key in ("status", "chunks", "chunks_kept")}


def known(tenant: Tenant) -> dict[str, tuple[str | None, int, int]]:
    rows = tenant.person.execute(
        "select source, sha256, chunks, missing_embeddings"
        " from aos_rag.known_documents(%s, 'notes')", (tenant.id,)
    ).fetchall()  # fmt: skip
    return {row[0]: row[1:] for row in rows}


def chunk_ids(tenant: Tenant) -> dict[str, Any]:
    return dict(tenant.database.rows(
        "select content, chunk_id from aos_rag.chunk where tenant_id = %s", tenant.id
    ))  # fmt: skip


def test_what_did_not_change_is_left_alone_to_the_chunk(shelf: Tenant) -> None:
    paragraphs = [f"{n}. " + WORDS * 30 for n in range(6)]
    first = document(text="\n\n".join(paragraphs), sha256="1" * 64)
    created = put(shelf, first)
    assert created == {"status": "created", "chunks": 6, "chunks_kept": 0}
    before = chunk_ids(shelf)
    assert put(shelf, first) == {"status": "unchanged", "chunks": 6, "chunks_kept": 6}
    assert known(shelf) == {"a.md": ("1" * 64, 6, 0)}
    paragraphs.insert(0, "New at the beginning. " + WORDS * 30)
    paragraphs[4] = paragraphs[4].replace("fox", "cat")
    changed = put(shelf, document(text="\n\n".join(paragraphs), sha256="2" * 64))
    assert changed["status"] == "changed"
    after = chunk_ids(shelf)
    same = {text for text in before if after.get(text) == before[text]}
    assert len(same) == changed["chunks_kept"] + 1  # and the manifest's
    assert shelf.database.rows(
        "select from aos_rag.chunk k join aos_rag.document d using (tenant_id, document_id)"
        " where k.tenant_id = %s and k.content <> substr(d.content, k.start_char + 1,"
        " k.end_char - k.start_char)", shelf.id,
    ) == []  # fmt: skip


def test_a_document_is_anew_when_its_title_trust_or_cutting_is(shelf: Tenant) -> None:
    put(shelf, document())
    for other in ({"title": "B"}, {"trust": "untrusted"}, {"media_type": "text/plain"}):
        assert put(shelf, document(**other))["status"] == "changed"
    put(shelf, document())
    assert apply_notes(shelf, chunking={"characters": 400, "overlap": 0}) == "configured"
    assert known(shelf)["a.md"][0] is None  # it has to be read again
    assert put(shelf, document())["status"] == "changed"
    assert known(shelf)["a.md"][0] is not None


def test_documents_of_the_manifest_and_ingested_ones_stand_beside_each_other(
    shelf: Tenant,
) -> None:
    put(shelf, document(title="Of the manifest"))
    assert apply_notes(shelf) == "unchanged"
    assert apply_notes(shelf, documents=[]) == "configured"
    assert list(known(shelf)) == ["a.md"]
    spec, status = shelf.database.rows(
        "select spec, status from aos_rag.collection_resource where tenant_id = %s", shelf.id
    )[0]
    assert spec["documents"] == []
    assert (status["documents"], status["chunks"], status["search"]) == (1, 1, "full-text")


def test_sources_are_taken_out_and_the_trail_tells_of_all(shelf: Tenant) -> None:
    put(shelf, document("a.md", sha256="1" * 64))
    put(shelf, document("a.md", sha256="1" * 64))
    put(shelf, document("b.md", trust="untrusted"))
    removed = "select aos_rag.remove_documents(%s, 'notes', %s)"
    sources = ["a.md", "Of the manifest", "none"]
    assert shelf.person.execute(removed, (shelf.id, sources)).fetchone() == (1,)
    assert shelf.person.execute(removed, (shelf.id, sources)).fetchone() == (0,)
    assert list(known(shelf)) == ["b.md"]
    told = shelf.database.rows(
        "select kind, actor, data from aos_core.event_log where stream_id = %s"
        " and kind like 'collection.document%%' order by seq", shelf.id,
    )  # fmt: skip
    assert [(row[0], row[2].get("source"), row[2].get("trust")) for row in told] == [
        ("collection.document_put", "a.md", None),
        ("collection.document_put", "b.md", "untrusted"),
        ("collection.documents_removed", None, None),
    ]
    assert {row[1] for row in told} == {"user:dev"}
    assert shelf.faults(shelf.id) == []


def test_ingesting_makes_no_worker_read_its_context_anew(shelf: Tenant) -> None:
    version = "select config_version from aos_core.tenant_state where tenant_id = %s"
    before = shelf.database.value(version, shelf.id)
    put(shelf, document())
    assert shelf.database.value(version, shelf.id) == before
    assert apply_notes(shelf, trust="untrusted") == "configured"
    assert shelf.database.value(version, shelf.id) > before


WRONG: dict[str, Any] = {
    "no source": ({"source": ""}, "names its source"),
    "no title": ({"title": ""}, "no title"),
    "no text": ({"content": " \n"}, "no text"),
    "text that is none": ({"content": None}, "no text"),
    "a long source": ({"source": "é" * 1001}, "longer than 2,000 bytes"),
    "other trust": ({"trust": "maybe"}, "neither trusted nor untrusted"),
    "provenance": ({"provenance": [1]}, "no object"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_no_document_is_refused(shelf: Tenant, name: str) -> None:
    given, match = WRONG[name]
    with refused("AO006", match):
        put(shelf, {**document(), **given})
    with refused("AO001", 'collection "none" not found'):
        put(shelf, document(), "none")


MODELS: dict[str, tuple[Any, str, str]] = {
    "unknown": ({"model": "none"}, "AO001", 'model "none" not found'),
    "a chat model": ({"model": "gpt-4o"}, "AO006", "makes no embeddings"),
    "too long": ({"model": "long"}, "AO006", "4,000 at most"),
    "asked for too many": ({"model": "long", "dimensions": 4001}, "AO006", "4,000 at most"),
}


@pytest.mark.parametrize("name", MODELS)
def test_embeddings_that_cannot_be_searched_are_refused(shelf: Tenant, name: str) -> None:
    embedding, sqlstate, match = MODELS[name]
    call(shelf.database.superuser, "aos_meta.apply_model", "long", META, {
        "provider": "openai", "capabilities": {"embeddings": True}, "params": {"dimensions": 8192},
    })  # fmt: skip
    with refused(sqlstate, match):
        apply_notes(shelf, embedding=embedding)
    assert apply_notes(shelf, embedding={"model": "long", "dimensions": 4000}) == "configured"
    with refused("AO005", "collections"):
        call(shelf.database.superuser, "aos_meta.delete_model", "long")


def test_full_text_alone_says_so_without_the_extension(shelf: Tenant) -> None:
    call(shelf.database.superuser, "aos_meta.apply_model", "short", META, {
        "provider": "openai", "capabilities": {"embeddings": True}, "params": {"dimensions": 3},
    })  # fmt: skip
    apply_notes(shelf, embedding={"model": "short"})
    assert call(shelf.person, "aos_rag.chunks_to_embed", shelf.id, "notes") is None
    with refused("AO005", "lacks the extension vector"):
        call(shelf.person, "aos_rag.put_embeddings", shelf.id, "notes", "short", [])
    status = shelf.database.value(
        "select status from aos_rag.collection_resource where tenant_id = %s", shelf.id
    )
    assert status["search"] == "full-text" and "vector" in status["reason"]
    rows = shelf.person.execute(
        "select title, search from aos_rag.search(%s, '{notes}', 'nested loops', 5, %s)",
        (shelf.id, '{"short": [1, 2, 3]}'),
    ).fetchall()
    assert rows == [("Of the manifest", "full-text")]


def test_words_that_are_rare_lead_and_neighbours_come_as_one_passage(shelf: Tenant) -> None:
    paragraphs = [f"Section {n} tells of indexes. " + WORDS * 30 for n in range(5)]
    paragraphs[2] += "Quokkas live here. "
    paragraphs[3] = "Quokkas live there. " + paragraphs[3]
    put(shelf, document("guide.txt", "\n\n".join(paragraphs), media_type="text/plain"))
    put(shelf, document("other.txt", "Indexes. " * 50, media_type="text/plain"))
    found = shelf.person.execute(
        "select source, start_char, end_char, content from aos_rag.search(%s, '{notes}',"
        " 'quokkas and indexes', 2)", (shelf.id,),
    ).fetchall()  # fmt: skip
    assert [row[0] for row in found] == ["guide.txt"]
    text = "\n\n".join(paragraphs)
    assert " ".join(found[0][3].split()) == " ".join(text[found[0][1] : found[0][2]].split())
    assert "Quokkas live here." in found[0][3] and "Quokkas live there." in found[0][3]
    assert len(found[0][3]) < len(text)


HOSTILE = [
    "",
    "the a of",
    "'",
    "'':*",
    "a & b | !c <-> (",
    "\\",
    "x" * 100_000,
    "🦊",
    "%s %I",
    "\n",
]


@pytest.mark.parametrize("question", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_a_question(shelf: Tenant, question: str) -> None:
    put(shelf, document("odd.txt", f"'quoted' back\\slash {question[:500]} x"))
    shelf.person.execute(
        "select * from aos_rag.search(%s, '{notes}', %s)", (shelf.id, question)
    ).fetchall()
