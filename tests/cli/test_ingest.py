"""`aosctl ingest` and `aosctl search`: real files, a real web server, embeddings over a socket."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any

import pytest

import pdfs
from command import AOSCTL, Aosctl
from kernels import KernelDatabase
from providers.wire import Entry, Reply, Request
from providers.wire_embed import OllamaEmbedWire, honest, refused, texts_of
from websites import Site, reply

_NUMBERS = count(1)
HOLIDAYS = "# Holidays\n\nEveryone has thirty days of holiday a year.\n"
PAGE = (
    "<html><head><title>Widgets</title></head><body><article><h1>Widgets</h1>"
    "<p>Our widgets are blue and round, and made of cheese by hand.</p></article></body></html>"
)
FILES: dict[str, bytes] = {
    "holidays.md": HOLIDAYS.encode(),
    "page.html": PAGE.encode(),
    "zoo.pdf": pdfs.pdf("Page one speaks of zebras.", "Page two of giraffes.", title="Zoo"),
    "notes.txt": b"Call the plumber.\n",
    "deep/er.md": b"# Deeper\n\nDown here.\n",
    ".hidden.md": b"# Hidden\n",
    "ignored.md": b"# Ignored\n",
    ".gitignore": b"ignored.md\n",
    "picture.png": b"\x89PNG\r\n\x1a\n\x00\x00",
    "scan.pdf": pdfs.scan(),
}
MODEL = """\
apiVersion: aos/v1
kind: Model
metadata: {{name: {name}}}
spec:
  provider: ollama
  model: wire-1
  baseUrl: {base_url}
  capabilities: {{embeddings: true}}
  params: {{dimensions: 8}}
  pricing: {{inputUsdPerMtok: 1000, outputUsdPerMtok: 0}}
  retry: {{attempts: 1, maxDelaySeconds: 0}}
---
apiVersion: aos/v1
kind: Collection
metadata: {{name: {name}}}
spec:
  embedding: {{model: {name}}}
  chunking: {{characters: 200, overlap: 0}}
"""
BUDGET = """\
apiVersion: aos/v1
kind: Budget
metadata: {{name: knowledge}}
spec: {{scope: tenant, period: day, limits: {{maxTokens: {tokens}}}}}
"""
FULL_TEXT = "it is searched by full text alone: it names no embedding model (spec.embedding)"


@pytest.fixture(scope="module", autouse=True)
def extension(kernel_database: KernelDatabase) -> None:
    kernel_database.superuser.execute("create extension vector")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of documents of every sort."""
    made = tmp_path / "docs"
    (made / "deep").mkdir(parents=True)
    (made / ".git").mkdir()
    for name, data in FILES.items():
        (made / name).write_bytes(data)
    return made


@pytest.fixture
def collection(here: Aosctl) -> str:
    """A collection without a model for embeddings."""
    name = f"book{next(_NUMBERS)}"
    done = here("create", "collection", name)
    assert done.status == 0, done.err
    return name


Meant = Callable[..., tuple[str, OllamaEmbedWire]]


@pytest.fixture
def meant(here: Aosctl) -> Iterator[Meant]:
    """Make a collection whose model answers as it is told, and honestly after that."""
    wires: list[OllamaEmbedWire] = []

    def make(*entries: Entry) -> tuple[str, OllamaEmbedWire]:
        name = f"meant{next(_NUMBERS)}"
        wire = OllamaEmbedWire([*entries, *[honest(8)] * 50])
        wires.append(wire.__enter__())
        text = MODEL.format(name=name, base_url=wire.base_url)
        done = here("apply", "-f", "-", stdin=text)
        assert done.status == 0, done.err
        return name, wire

    yield make
    for wire in wires:
        wire.__exit__()


@pytest.fixture
def limited(here: Aosctl) -> Iterator[Callable[[int], int]]:
    """Limit what the tenant may use today beside what it has used; returns what that is."""

    def limit(tokens: int) -> int:
        assert here("apply", "-f", "-", stdin=BUDGET.format(tokens=10**9)).status == 0
        used = json.loads(here("get", "budget", "knowledge", "-o", "json").out)["status"]["tokens"]
        limited = BUDGET.format(tokens=used + tokens)
        assert here("apply", "-f", "-", stdin=limited).status == 0
        return int(used)

    yield limit
    assert here("delete", "budget", "knowledge").status == 0


def passages(number: int) -> str:
    """Write Markdown that is cut into so many passages, no two alike."""
    parts = (f"## Part {at}\n\n{f'word{at} ' * 22}\n" for at in range(number))
    return "\n".join(parts)


def asked(wire: OllamaEmbedWire, since: int = 0) -> list[str]:
    return [text for request in wire.requests[since:] for text in texts_of(request)]


def lines(text: str) -> set[str]:
    return set(text.splitlines())


def listed(here: Aosctl, collection: str) -> dict[str, dict[str, Any]]:
    done = here("ingest", collection, "--list", "--output", "json")
    assert done.status == 0, done.err
    return {one["metadata"]["name"]: one for one in json.loads(done.out)["items"]}


def test_a_folder_is_taken_in_and_next_time_only_what_changed(
    here: Aosctl, collection: str, folder: Path
) -> None:
    done = here("ingest", collection, str(folder), "-R")
    taken = ("holidays.md", "page.html", "zoo.pdf", "notes.txt", "deep/er.md")
    assert done.status == 0, done.err
    assert lines(done.out) == {f"{collection}/{name} created, 1 passage" for name in taken}
    assert lines(done.err) == {
        f"{collection}/picture.png skipped: it is no text",
        f"{collection}/scan.pdf skipped: it holds pictures and no text: it was scanned, and needs"
        " OCR first",
        f"{collection}: 5 created, 2 skipped; {FULL_TEXT}",
    }
    (folder / "notes.txt").write_text("Call the baker.\n")
    done = here("ingest", collection, str(folder), "--recursive")
    assert f"{collection}/notes.txt changed, 1 passage" in lines(done.out)
    assert done.out.count(" unchanged\n") == 4
    found = listed(here, collection)
    assert set(found) == set(taken)
    assert found["zoo.pdf"]["spec"]["title"] == "Zoo"
    assert found["page.html"]["spec"]["title"] == "Widgets"
    assert found["deep/er.md"]["status"]["provenance"]["root"] == str(folder)


def test_what_folders_hold_is_chosen(here: Aosctl, collection: str, folder: Path) -> None:
    ingest = partial(here, "ingest", collection, str(folder), "-o", "name")
    shallow = ingest("--include", "*.md", "--dry-run")
    assert shallow.out == f"{collection}/holidays.md\n"
    assert "1 sub-folder was passed over: -R looks there too" in shallow.err
    without = ingest("-R", "--exclude", "deep/", "--exclude", "*.pdf", "--dry-run")
    assert lines(without.out) == {
        f"{collection}/{name}" for name in ("holidays.md", "notes.txt", "page.html")
    }
    more = ingest("--hidden", "--no-ignore", "--include", "*.md", "--prefix", "docs/")
    assert lines(more.out) == {
        f"{collection}/docs/{name}" for name in (".hidden.md", "holidays.md", "ignored.md")
    }


def test_a_dry_run_reads_everything_and_changes_nothing(
    here: Aosctl, meant: Meant, folder: Path
) -> None:
    name, wire = meant()
    done = here("ingest", name, str(folder), "--dry-run")
    assert done.status == 0
    assert f"{name}/zoo.pdf created (dry run)" in lines(done.out)
    assert f"{name}/scan.pdf skipped" in done.err
    assert listed(here, name) == {}
    assert wire.requests == []


def test_prune_removes_what_is_gone_from_the_folder_and_nothing_else(
    here: Aosctl, collection: str, folder: Path
) -> None:
    here("ingest", collection, "-", "--source", "typed.md", stdin="Typed in.")
    here("ingest", collection, str(folder), "-R")
    (folder / "notes.txt").unlink()
    dry = here("ingest", collection, str(folder), "-R", "--prune", "--dry-run")
    assert f"{collection}/notes.txt removed (dry run)" in lines(dry.out)
    assert "notes.txt" in listed(here, collection)
    done = here("ingest", collection, str(folder), "-R", "--prune")
    assert f"{collection}/notes.txt removed" in lines(done.out)
    left = set(listed(here, collection))
    assert "notes.txt" not in left and {"typed.md", "deep/er.md"} <= left


def test_documents_are_listed_and_removed(here: Aosctl, collection: str, tmp_path: Path) -> None:
    assert f"nothing was taken into {collection}" in here("ingest", collection, "--list").err
    (tmp_path / "a.md").write_text(HOLIDAYS)
    here("ingest", collection, str(tmp_path / "a.md"))
    table = here("ingest", collection, "--list").out.splitlines()
    assert re.split(r"\s{2,}", table[0]) == [
        "SOURCE", "TITLE", "CHUNKS", "UNEMBEDDED", "TRUST", "AGE"
    ]  # fmt: skip
    assert re.split(r"\s{2,}", table[1])[:5] == ["a.md", "Holidays", "1", "0", "collection's"]
    wrong = here("ingest", collection, "--remove", "b.md")
    assert wrong.status == 1 and 'has no ingested document "b.md"' in wrong.err
    dry = here("ingest", collection, "--remove", "a.md", "--dry-run")
    assert dry.out == f"{collection}/a.md removed (dry run)\n"
    assert here("ingest", collection, "--remove", "a.md").out == f"{collection}/a.md removed\n"
    assert listed(here, collection) == {}


def test_stdin_is_a_document_and_trust_can_be_taken_from_it(here: Aosctl, collection: str) -> None:
    typed = partial(here, "ingest", collection, "-", "--source", "typed.md", stdin=HOLIDAYS)
    assert typed().out == f"{collection}/typed.md created, 1 passage\n"
    assert typed().out == f"{collection}/typed.md unchanged\n"
    assert typed("--trust", "untrusted").out == f"{collection}/typed.md changed, 1 passage\n"
    assert typed().out == f"{collection}/typed.md unchanged\n"
    assert listed(here, collection)["typed.md"]["spec"]["trust"] == "untrusted"
    (hit,) = json.loads(here("search", collection, "holiday", "--output", "json").out)["items"]
    assert hit["status"]["untrusted"] is True
    assert typed("--trust", "trusted").out == f"{collection}/typed.md changed, 1 passage\n"
    assert "trust" not in listed(here, collection)["typed.md"]["spec"]


def test_a_page_of_the_web_is_untrusted(here: Aosctl, collection: str) -> None:
    with Site(lambda _: reply(PAGE, kind="text/html")) as site:
        url = f"{site.url}/widgets"
        refused = here("ingest", collection, url)
        assert refused.status == 1
        assert "--allow-private admits one's own networks" in refused.err
        done = here("ingest", collection, url, "--allow-private")
    assert (done.status, done.out) == (0, f"{collection}/{url} created, 1 passage\n"), done.err
    assert listed(here, collection)[url]["spec"] == {"title": "Widgets", "trust": "untrusted"}


def test_what_was_named_and_cannot_be_read_fails(
    here: Aosctl, collection: str, folder: Path
) -> None:
    named = [str(folder / name) for name in ("picture.png", "holidays.md")]
    done = here("ingest", collection, *named)
    assert done.status == 1
    assert done.out == f"{collection}/holidays.md created, 1 passage\n"
    assert f"{collection}/picture.png failed: it is no text" in lines(done.err)
    large = here("ingest", collection, str(folder / "holidays.md"), "--max-bytes", "10")
    assert large.status == 1 and "failed: it is larger than 10 bytes" in large.err


def test_passages_are_embedded_once_and_found_by_meaning(
    here: Aosctl, meant: Meant, tmp_path: Path
) -> None:
    name, wire = meant()
    file = tmp_path / "parts.md"
    file.write_text(passages(40))
    done = here("ingest", name, str(file), "--concurrency", "2")
    assert done.status == 0, done.err
    assert re.search(rf"{name}: 1 created; 40 passages embedded by {name} \(14 tokens, ", done.err)
    assert len(wire.requests) == 2 and len(asked(wire)) == 40  # 32 texts a request at most
    again = here("ingest", name, str(file))
    assert again.err == f"{name}: 1 unchanged\n"
    assert len(wire.requests) == 2
    file.write_text(passages(40).replace("word7 ", "seven "))
    here("ingest", name, str(file))
    (only,) = asked(wire, 2)
    assert "seven" in only
    found = here("search", name, "seven", "--limit", "1", "-o", "json")
    (hit,) = json.loads(found.out)["items"]
    assert hit["status"]["search"] == "hybrid" and hit["spec"]["heading"] == "Part 7"
    assert asked(wire, 3) == ["seven"]
    words = here("search", name, "seven", "--full-text", "--whole")
    assert words.status == 0 and "full-text" in words.out and len(wire.requests) == 4


def test_what_embedding_cost_is_told_and_counts_against_the_tenants_budget(
    here: Aosctl, meant: Meant, tmp_path: Path, limited: Callable[[int], int]
) -> None:
    thousand = honest(8, lambda answer: {**answer, "prompt_eval_count": 1_000})
    name, _ = meant(*[thousand] * 3)
    used = limited(3_500)  # 32 passages are estimated at about 2,180 tokens
    file = tmp_path / "parts.md"
    file.write_text(passages(96))
    stopped = here("ingest", name, str(file), "--concurrency", "1")
    assert stopped.status == 5
    assert f"{name}: 1 created" not in stopped.err
    assert (
        f"64 passages embedded by {name} (2,000 tokens, $2.00); 32 passages are still"
        in stopped.err
    )
    assert re.search(
        r'error: budget "knowledge": \d+ tokens used of \d+ today \(UTC\), and the next passages'
        r" take \d+\n.*aosctl apply with a higher limit lets it go on",
        stopped.err,
    )
    limited(18_000)
    done = here("ingest", name, str(file), "-o", "json")
    *documents, embedded = json.loads(done.out)["items"]
    assert [one["status"]["outcome"] for one in documents] == ["unchanged"]
    assert (embedded["kind"], embedded["metadata"]) == ("Embeddings", {"name": name})
    assert embedded["status"] == {"passages": 32, "tokens": 1000, "costUsd": 1}
    spent = json.loads(here("get", "budget", "knowledge", "-o", "json").out)["status"]
    assert spent["tokens"] == used + 3_000 and spent["spentUsd"] == pytest.approx(
        spent["tokens"] / 1000
    )
    events = here(
        "events", "--types", "collection.embedded", "--tail", "-1", "-o", "json"
    ).out.splitlines()
    mine = [one["data"] for one in map(json.loads, events) if one["data"]["name"] == name]
    assert [(one["passages"], one["tokens"], one["cost_usd"]) for one in mine] == [
        (32, 1000, 1)
    ] * 3


def test_a_model_without_a_price_tells_its_tokens_alone(
    here: Aosctl, meant: Meant, tmp_path: Path
) -> None:
    name, wire = meant()
    text = re.sub(" *pricing: .*\n", "", MODEL.format(name=name, base_url=wire.base_url))
    assert here("apply", "-f", "-", stdin=text).status == 0
    (tmp_path / "parts.md").write_text(passages(3))
    done = here("ingest", name, str(tmp_path / "parts.md"), "-o", "json")
    assert f"3 passages embedded by {name} (7 tokens)" in done.err
    assert json.loads(done.out)["items"][-1]["status"] == {"passages": 3, "tokens": 7}


class Gate:
    """Answers honestly, once it is let; `reached` tells that a request has come."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, request: Request) -> Reply:
        self.reached.set()
        self.opened.wait(180)
        return honest(8)(request)


@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGINT])
def test_broken_off_it_goes_on_with_the_rest(
    here: Aosctl, shop: dict[str, str], meant: Meant, tmp_path: Path, sent: signal.Signals
) -> None:
    gate = Gate()
    name, wire = meant(honest(8), gate)
    file = tmp_path / "parts.md"
    file.write_text(passages(100))
    line = [AOSCTL, "ingest", name, str(file), "--concurrency", "1"]
    with subprocess.Popen(
        line, env=shop, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert gate.reached.wait(60)
        while listed(here, name)["parts.md"]["status"]["unembedded"] != 68:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(sent)
        try:
            _, err = process.communicate(timeout=60)  # while the service still thinks
        finally:
            process.kill()
    gate.opened.set()
    if sent == signal.SIGINT:
        assert process.returncode == 130
        assert "broken off; what is done is kept: the same command goes on with the rest" in err
    done = here("ingest", name, str(file))
    assert done.status == 0, done.err
    assert done.out == f"{name}/parts.md unchanged\n"
    assert f"{name}: 1 unchanged; 68 passages embedded by {name}" in done.err
    first, rest = texts_of(wire.requests[0]), asked(wire, 2)
    assert (len(wire.requests), len(first), len(rest)) == (5, 32, 68)
    assert not set(first) & set(rest)
    assert listed(here, name)["parts.md"]["status"]["unembedded"] == 0


def test_a_model_that_fails_leaves_the_documents_there(
    here: Aosctl, meant: Meant, tmp_path: Path
) -> None:
    name, wire = meant(honest(8), refused(500, "out of memory"))
    (tmp_path / "parts.md").write_text(passages(64))
    line = ("ingest", name, str(tmp_path / "parts.md"), "--concurrency", "1")
    done = here(*line)
    assert done.status != 0
    assert "32 passages are still without an embedding; what is done is kept" in done.err
    assert "out of memory" in done.err
    assert here(*line).status == 0
    assert len(asked(wire, 2)) == 32


def test_a_search_without_its_model_goes_by_words_and_says_so(here: Aosctl, meant: Meant) -> None:
    name, wire = meant(honest(8), *[refused(400, "no such model")] * 3)
    here("ingest", name, "-", stdin=HOLIDAYS)
    done = here("search", name, "days of holiday")
    assert done.status == 0 and "thirty days" in done.out and "full-text" in done.out
    assert f"{name} is searched by full text alone: " in done.err
    assert len(wire.requests) == 2


def test_nothing_found_is_an_exit_status(here: Aosctl, collection: str) -> None:
    done = here("search", collection, "unicorns")
    assert (done.status, done.out, done.err) == (1, "", "nothing was found\n")


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        ("ingest {0}", 2, "what to take in? give a file, a folder, a URL, or - for stdin"),
        ("ingest {0} nowhere.md", 1, 'the path "nowhere.md" does not exist'),
        ("ingest {0} ftp://a/b", 2, 'the URL "ftp://a/b" is neither http nor https'),
        ("ingest {0} - --trust maybe", 2, '--trust is trusted or untrusted, not "maybe"'),
        ("ingest {0} - --prune", 2, "--prune goes with a folder"),
        ("ingest {0} - --list", 2, "--list takes nothing in"),
        ("ingest {0} - --remove x", 2, "--remove takes nothing in"),
        ("ingest {0} / --source x", 2, "--source names one document"),
        ("ingest nope -", 1, 'collection "nope" not found'),
        ("ingest nope --list", 1, 'collection "nope" not found'),
        ("search nope x", 1, 'collection "nope" not found'),
        ("search , x", 2, "what to look for?"),
    ],
)
def test_what_is_wrong_is_said(
    here: Aosctl, collection: str, line: str, status: int, said: str
) -> None:
    done = here(*line.format(collection).split(), stdin="x")
    assert (done.status, done.out) == (status, "")
    assert said in done.err
