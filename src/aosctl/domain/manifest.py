"""Load manifests: read and validate a set of files, or refuse all of it with reasons.

Nothing here talks to a database. A set is loaded whole: every problem of every document is
reported with its file, line and column, and then nothing of the set is used.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from aosctl.domain import yaml_text
from aosctl.domain.document import FIELDS_HINT, MAX_PROBLEMS, Document, fields_hint, refuse
from aosctl.domain.kinds import BY_NAME, Kind
from aosctl.domain.kinds.base import API_VERSION, Completion
from aosctl.domain.names import did_you_mean, printable, quoted
from aosctl.domain.reading import Reading, Strangers
from aosctl.domain.relations import duplicates
from aosctl.domain.sources import Source, read_beside, read_sources
from aosctl.domain.yaml_text import MAX_BYTES, Node, Scalar, Unreadable
from aosctl.errors import ManifestError

MAX_DOCUMENTS = 10_000
_LIST_VERSIONS = (API_VERSION, "v1")
_BESIDE_HINT = "a file that a manifest names is looked for in the manifest's own folder"


def load(
    paths: Sequence[str],
    *,
    recursive: bool = False,
    stdin: BinaryIO | None = None,
    verb: str = "apply",
    strangers: Strangers = None,
) -> tuple[Document, ...]:
    """Load the manifests that -f names, in the order of the files.

    Fields that no kind has are left out where `strangers` is told of them. Raises ManifestError,
    all problems in it, one a line.
    """
    sources = read_sources(paths, recursive=recursive, stdin=stdin)
    return _load(sources, verb, strangers=strangers)


def load_what_is_right(
    paths: Sequence[str], *, recursive: bool = False, strangers: Strangers = None
) -> tuple[tuple[Document, ...], ManifestError | None]:
    """Load as `load` does; return what is right, and the problems of the rest.

    Of two documents of one name the first is.
    """
    loading = _Loading(with_places=True, strangers=strangers)
    error: ManifestError | None = None
    try:
        for source in read_sources(paths, recursive=recursive, stdin=None):
            loading.read(source)
        loading.result("apply")
    except _EnoughProblems:
        error = loading.refusal()
    except ManifestError as wrong:
        error = wrong
    first = {(one.kind, one.tenant, one.name): one for one in reversed(loading.documents)}
    kept = {id(one) for one in first.values()}
    return tuple(one for one in loading.documents if id(one) in kept), error


def loads(
    text: str | bytes, label: str = "stdin", folder: Path | None = None
) -> tuple[Document, ...]:
    """Load the manifests of one text; see `load`."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return _load([Source(label, data, folder)], "apply")


def load_tests(
    paths: Sequence[str], *, recursive: bool = False, stdin: BinaryIO | None = None
) -> tuple[Document, ...]:
    """Load the AgentTests that -f names; what else the files hold is passed over.

    Empty where there is none. Raises ManifestError.
    """
    from aosctl.domain.kinds.agent_test import AgentTest

    loading = _Loading(with_places=True, kinds={TEST: AgentTest()}, others=frozenset(BY_NAME))
    return _result(loading, read_sources(paths, recursive=recursive, stdin=stdin), "")


def tests_of(text: str, label: str, folder: Path | None) -> tuple[Document, ...]:
    """Load the AgentTests of one text; see `load_tests`."""
    from aosctl.domain.kinds.agent_test import AgentTest

    loading = _Loading(with_places=True, kinds={TEST: AgentTest()}, others=frozenset(BY_NAME))
    return _result(loading, [Source(label, text.encode(), folder)], "")


def document_of(manifest: Mapping[str, Any]) -> Document:
    """Check a manifest that was made from values and stands in no file.

    Raises ManifestError, all problems in it, one a line.
    """
    import json

    source = Source("", json.dumps(manifest).encode(), None)
    (document,) = _load([source], "apply", with_places=False)
    return replace(document, line=0, column=0, places={})


TEST = "AgentTest"
"""The kind that `aosctl test` alone reads: applied, its documents are passed over."""
_BEGIN = "aosctl create KIND NAME --dry-run=client -o yaml writes one to begin with"
_TEST_HINT = "aosctl explain agenttest says what the fields mean"
_PLAYS = "a test of an agent is played: aosctl test -f FILE"


class _EnoughProblems(Exception):
    """So much is wrong with the set that the rest is not looked at."""


def _load(
    sources: Iterable[Source], verb: str, *, with_places: bool = True, strangers: Strangers = None
) -> tuple[Document, ...]:
    return _result(_Loading(with_places=with_places, strangers=strangers), sources, verb)


def _result(loading: _Loading, sources: Iterable[Source], verb: str) -> tuple[Document, ...]:
    try:
        for source in sources:
            loading.read(source)
    except _EnoughProblems:
        refuse(loading.problems, loading.common_hint())
    return loading.result(verb)


class _Loading:
    """Gather the documents and problems of a set of texts."""

    def __init__(
        self,
        *,
        with_places: bool,
        strangers: Strangers = None,
        kinds: Mapping[str, Kind] = BY_NAME,
        others: frozenset[str] = frozenset({TEST}),
    ) -> None:
        self.kinds = kinds
        self.others = others
        self.with_places = with_places
        self.strangers = strangers
        self.documents: list[Document] = []
        self.problems: list[str] = []
        self.hints: list[str | None] = []
        self.hint: str | None = FIELDS_HINT
        self.usual = FIELDS_HINT
        self.labels: list[str] = []
        self.count = 0
        self.passed_over = 0
        self.bytes_beside = 0

    def read(self, source: Source) -> None:
        """Read one text; a document with problems is reported and left out."""
        report = partial(self._report, source)
        self.labels.append(source.label)
        try:
            for node in yaml_text.read_documents(source.data, report):
                self._document(node, source, report)
        except Unreadable as error:
            self.hint = error.hint or FIELDS_HINT
            report(error.line, error.column, error.reason)

    def _report(self, source: Source, line: int, column: int, text: str) -> None:
        self.problems.append(self._placed(source, line, column, text))
        self.hints.append(self.hint)
        self.hint = self.usual
        if len(self.problems) >= MAX_PROBLEMS:
            raise _EnoughProblems

    def _placed(self, source: Source, line: int, column: int, text: str) -> str:
        place = f"{source.label}:{line}:{column}" if line else source.label
        return f"{place}: {text}" if self.with_places else text

    def _strange(self, source: Source, line: int, column: int, text: str) -> None:
        if self.strangers is not None:
            self.strangers(self._placed(source, line, column, text))

    def refusal(self) -> ManifestError | None:
        """Return the error for every problem found so far."""
        try:
            refuse(self.problems, self.common_hint())
        except ManifestError as error:
            return error
        return None

    def common_hint(self) -> str | None:
        """Return the hint that goes for every problem, else that about fields."""
        return self.hints[0] if len(set(self.hints)) == 1 else FIELDS_HINT

    def result(self, verb: str) -> tuple[Document, ...]:
        """Return the documents, or raise ManifestError for every problem found."""
        again = duplicates(self.documents)
        refuse([*self.problems, *again], FIELDS_HINT if again else self.common_hint())
        if not self.documents and verb:
            one = f"{self.labels[0]} holds no manifest; " if len(self.labels) == 1 else ""
            hint = f"{one}{_BEGIN}" if not self.passed_over else _PLAYS
            raise ManifestError(f"no objects passed to {verb}", hint)
        return tuple(self.documents)

    def _document(self, node: Node, source: Source, report: yaml_text.Problem) -> None:
        if isinstance(node, yaml_text.Mapping) and _text(node, "kind") == "List":
            for item in _items(node, report):
                self._single(item, source, report)
        else:
            self._single(node, source, report)

    def _single(self, node: Node, source: Source, report: yaml_text.Problem) -> None:
        self.count += 1
        if self.count > MAX_DOCUMENTS:
            raise Unreadable(node.line, node.column, f"more than {MAX_DOCUMENTS:,} documents")
        if isinstance(node, yaml_text.Mapping) and _text(node, "kind") in self.others:
            self.passed_over += 1
            return
        strange = partial(self._strange, source) if self.strangers else None
        reading = Reading(report, strange=strange)
        self.hint = self.usual = FIELDS_HINT
        kind = _kind(node, reading, self.kinds)
        if kind is not None:
            told = kind.name == TEST
            self.hint = self.usual = _TEST_HINT if told else fields_hint(kind.singular)
        if kind is None or not isinstance(node, yaml_text.Mapping):
            return
        version, at = _text(node, "apiVersion"), node.get("apiVersion")
        if version not in (None, API_VERSION) and at is not None:
            self.hint = None  # the line says it all, and its fields may be another version's
            text = f'expected "{API_VERSION}", found {quoted(version or "")}'
            reading.wrong(at.line, at.column, "apiVersion", text)
            return
        before = len(self.problems)
        given = kind.manifest_type.read(_with_spec(node), "", reading)
        if len(self.problems) == before and not reading.problems:
            document = self._finished(kind, given, node, source, reading)
            if document is not None:
                self.documents.append(document)

    def _finished(
        self,
        kind: Kind,
        given: Mapping[str, Any],
        node: Node,
        source: Source,
        reading: Reading,
    ) -> Document | None:
        """Let the kind complete its spec; return the document, None where it reported problems."""
        metadata = given["metadata"]
        read = partial(self._read_beside, source.folder)
        at = Completion(metadata["name"], read, reading.wrong_at, source.is_remote)
        spec = kind.complete(given["spec"], at)
        if reading.problems:
            return None
        return Document(
            kind=kind.name,
            name=metadata["name"],
            tenant=metadata.get("tenant"),
            labels=metadata.get("labels", {}),
            annotations=metadata.get("annotations", {}),
            spec=spec,
            source=source.label,
            line=node.line,
            column=node.column,
            refs=tuple(reading.refs),
            places=reading.places,
            uid=metadata.get("uid"),
            generation=metadata.get("generation"),
            folder=source.folder,
        )

    def _read_beside(self, folder: Path | None, name: str) -> str:
        """Read a file that a manifest names. Raises ValueError, also for too much in all."""
        try:
            text = read_beside(folder, name)
        except ValueError:
            self.hint = _BESIDE_HINT
            raise
        self.bytes_beside += len(text)
        if self.bytes_beside > MAX_BYTES:
            raise ValueError(f"the files of the set hold more than {MAX_BYTES // 1_000_000} MB")
        return text


def _items(node: yaml_text.Mapping, report: yaml_text.Problem) -> list[Node]:
    version, items = _text(node, "apiVersion"), node.get("items")
    if version not in _LIST_VERSIONS:
        report(node.line, node.column, f'List: apiVersion: expected "{API_VERSION}"')
    if items is not None and not isinstance(items, yaml_text.Sequence):
        report(items.line, items.column, "List: items: expected a list")
        return []
    for entry in node.entries:
        if entry.key not in ("apiVersion", "kind", "metadata", "items"):
            known = ("items", "metadata")
            name = printable(entry.key[:60])
            text = f"List: {name}: unknown field{did_you_mean(entry.key, known)}"
            report(entry.line, entry.column, text)
    return items.items if items is not None else []


def _kind(node: Node, reading: Reading, kinds: Mapping[str, Kind]) -> Kind | None:
    """Find the kind of a document and name it for messages; report what keeps it from being one."""
    if not isinstance(node, yaml_text.Mapping):
        found = yaml_text.kind_of(node)
        text = f"a manifest is a mapping with apiVersion, kind, metadata and spec; found {found}"
        reading.wrong(node.line, node.column, "", text)
        return None
    word, version = _text(node, "kind"), _text(node, "apiVersion")
    metadata = node.get("metadata")
    name = _text(metadata, "name") if isinstance(metadata, yaml_text.Mapping) else None
    at = node.get("kind") or node
    if word is None:
        text = "is required" if node.get("kind") is None else "expected a string"
        reading.wrong(at.line, at.column, "kind", text)
        return None
    kind = kinds.get(word)
    if kind is None:
        shown = f"no matches for kind {quoted(word)} in version {quoted(version or API_VERSION)}"
        known = ", ".join(kinds)
        text = f"{shown}{did_you_mean(word, kinds) or f'; the kinds are {known}'}"
        reading.wrong(at.line, at.column, quoted(name) if name else "", text)
        return None
    reading.subject = f"{kind.name} {quoted(name)}" if name else kind.name
    return kind


def _with_spec(node: yaml_text.Mapping) -> yaml_text.Mapping:
    """Return the document with an empty spec where it has none: all defaults."""
    if node.get("spec") is not None:
        return node
    spec = yaml_text.Mapping(node.line, node.column, [])
    others = [entry for entry in node.entries if entry.key != "spec"]
    return node._replace(entries=[*others, yaml_text.Entry(*spec[:2], "spec", spec)])


def _text(node: yaml_text.Mapping, key: str) -> str | None:
    found = node.get(key)
    return found.value if isinstance(found, Scalar) and isinstance(found.value, str) else None
