"""Load manifests: read, validate and relate a set of files, or refuse all of it with reasons.

Nothing here talks to a database. A set is loaded whole: every problem of every document is
reported with its file, line and column, and then nothing of the set is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from aosctl.domain import yaml_text
from aosctl.domain.kinds import BY_NAME, KINDS, Kind
from aosctl.domain.kinds.base import API_VERSION, Completion
from aosctl.domain.names import did_you_mean, printable, quoted
from aosctl.domain.reading import Reading, Ref
from aosctl.domain.sources import Source, read_beside, read_sources
from aosctl.domain.structures import arrange
from aosctl.domain.yaml_text import MAX_BYTES, Node, Scalar, Unreadable
from aosctl.errors import ManifestError

MAX_DOCUMENTS = 10_000
MAX_PROBLEMS = 100
_MOST_SHOWN = 20
_MOST_COMPARED = 5  # with all the names there are
_LIST_VERSIONS = (API_VERSION, "v1")
_BESIDE_HINT = "a file that a manifest names is looked for in the manifest's own folder"
_HINT = "every field of every kind: docs/manifests.md; worked examples: manifests/quickstart"


@dataclass(frozen=True)
class Document:
    """One manifest, valid by itself; `spec` is canonical, with defaults filled in.

    `places` maps the path of a value (`spec.model`) to its (line, column) in `source`.
    """

    kind: str
    name: str
    tenant: str | None
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    spec: Mapping[str, Any]
    source: str
    line: int
    column: int
    refs: tuple[Ref, ...] = ()
    places: Mapping[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    uid: str | None = None
    generation: int | None = None
    folder: Path | None = None

    @property
    def subject(self) -> str:
        """Return the document as messages call it: `Persona "pg_expert"`."""
        return f"{self.kind} {quoted(self.name)}"

    def problem(self, path: str, text: str) -> str:
        """Return a problem's line: `persona.yaml:12:5: Persona "pg_expert": spec.model: …`."""
        line, column = self.places.get(path, (self.line, self.column))
        place = f":{line}:{column}" if line else ""
        return f"{self.source}{place}: {self.subject}: {path}: {text}"

    def manifest(self) -> dict[str, Any]:
        """Return the document as the manifest that `get -o yaml` would print after its apply."""
        kind = BY_NAME[self.kind]
        metadata = {
            "name": self.name,
            "tenant": self.tenant,
            "labels": dict(self.labels),
            "annotations": dict(self.annotations),
        }
        return {
            "apiVersion": API_VERSION,
            "kind": self.kind,
            "metadata": {key: value for key, value in metadata.items() if value},
            "spec": arrange(kind.spec_type, self.spec),
        }


class Lookup(Protocol):
    """What exists in the database, as far as references are concerned."""

    def exists(self, kind: str, tenant: str | None, name: str) -> bool:
        """Tell whether the resource exists; tenant is None for tenants and models."""

    def names(self, kind: str, tenant: str | None) -> list[str]:
        """List the names that exist, to suggest one."""

    def secret_keys(self, tenant: str, name: str) -> list[str]:
        """List what a Secret that exists has values for."""


def load(
    paths: Sequence[str],
    *,
    recursive: bool = False,
    stdin: BinaryIO | None = None,
    verb: str = "apply",
) -> tuple[Document, ...]:
    """Load the manifests that -f names, in the order of the files.

    Raises ManifestError, all problems in it, one a line.
    """
    return _load(read_sources(paths, recursive=recursive, stdin=stdin), verb)


def loads(
    text: str | bytes, label: str = "stdin", folder: Path | None = None
) -> tuple[Document, ...]:
    """Load the manifests of one text; see `load`."""
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    return _load([Source(label, data, folder)], "apply")


def resolve_tenants(
    documents: Sequence[Document], flag: str | None, default: Callable[[], str]
) -> tuple[Document, ...]:
    """Give every document that belongs to a tenant its tenant.

    `flag` is the value of -n, and must not differ from a document's own; `default` names the
    tenant where both are silent, and is called only then.
    """
    problems = [
        document.problem(
            "metadata.tenant",
            f"the tenant {quoted(document.tenant)} does not match the tenant {quoted(flag)} of -n",
        )
        for document in documents
        if flag is not None and document.tenant is not None and document.tenant != flag
    ]
    _refuse(problems, f"leave -n {flag} out, or apply the files of one tenant at a time")
    resolved = tuple(
        replace(document, tenant=flag if flag is not None else default())
        if document.tenant is None and BY_NAME[document.kind].tenanted
        else document
        for document in documents
    )
    _refuse(_duplicates(resolved))
    return resolved


def check_references(documents: Sequence[Document], lookup: Lookup) -> None:
    """Refuse the set if a name in it stands for nothing, neither in the set nor in the database."""
    here = {(one.kind, one.tenant, one.name): one for one in documents}
    problems: list[str] = []
    missing: list[Ref] = []
    for document, ref in ((one, ref) for one in documents for ref in _references(one)):
        tenant = _owner(document) if BY_NAME[ref.kind].tenanted else None
        given = here.get((ref.kind, tenant, ref.name))
        if ref.value is not None and (given or lookup.exists(ref.kind, tenant, ref.name)):
            keys = list(given.spec["data"]) if given else lookup.secret_keys(tenant or "", ref.name)
            if reason := _no_value(ref, sorted(keys)):
                problems.append(document.problem(ref.path, reason))
            continue
        if ref.name in ref.builtins or given or lookup.exists(ref.kind, tenant, ref.name):
            continue
        known = [name for kind, owner, name in here if (kind, owner) == (ref.kind, tenant)]
        known += [*lookup.names(ref.kind, tenant), *ref.builtins]
        near = did_you_mean(ref.name, known) if len(problems) < _MOST_COMPARED else ""
        # What stands in the place of a Secret's name may be the value itself: it is not repeated.
        name = quoted(ref.name) if ref.value is None else "of this name"
        problems.append(document.problem(ref.path, f"no {ref.kind} {name} exists{near}"))
        missing.append(ref)
        if len(problems) >= MAX_PROBLEMS:
            break
    if missing:
        plural = BY_NAME[missing[0].kind].plural
        _refuse(problems, f"aosctl get {plural} lists what exists; or add it to the files")
    _refuse(problems)


def _owner(document: Document) -> str | None:
    """Return the tenant whose resources a document names: a Tenant's are its own."""
    return document.name if document.kind == "Tenant" else document.tenant


def _no_value(ref: Ref, keys: Sequence[str]) -> str | None:
    """Say why a reference to a Secret that exists stands for none of its values."""
    if ref.value in keys or (not ref.value and len(keys) == 1):
        return None
    if ref.value:
        near = did_you_mean(ref.value, keys)
        return f"the Secret {quoted(ref.name)} has no value of this name{near}"
    return f"which value of the Secret {quoted(ref.name)}? It has {', '.join(keys)}"


def in_apply_order(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Sort by kind so that what is referred to comes first; the order within a kind stays."""
    order = {kind.name: place for place, kind in enumerate(KINDS)}
    return tuple(sorted(documents, key=lambda document: order[document.kind]))


def in_delete_order(documents: Sequence[Document]) -> tuple[Document, ...]:
    """Sort so that what refers to others goes first."""
    return tuple(reversed(in_apply_order(documents)))


def _references(document: Document) -> list[Ref]:
    refs = list(document.refs)
    if document.tenant is not None:
        place = document.places.get("metadata.tenant", (document.line, document.column))
        refs.append(Ref("Tenant", document.tenant, "metadata.tenant", *place))
    return refs


def _duplicates(documents: Sequence[Document]) -> list[str]:
    first: dict[tuple[str, str | None, str], Document] = {}
    problems = []
    for document in documents:
        earlier = first.setdefault((document.kind, document.tenant, document.name), document)
        if earlier is not document:
            place = earlier.places.get("metadata.name", (earlier.line, earlier.column))
            where = ":".join(map(str, (earlier.source, *place)))
            problems.append(document.problem("metadata.name", f"is already given at {where}"))
    return problems


def _refuse(problems: Sequence[str], hint: str | None = _HINT) -> None:
    """Raise one ManifestError for all problems, if there are any."""
    if not problems:
        return
    if len(problems) == 1:
        raise ManifestError(problems[0], hint)
    count = f"{len(problems)} or more" if len(problems) >= MAX_PROBLEMS else str(len(problems))
    lines = [f"{count} problems, nothing was done:", *problems[:_MOST_SHOWN]]
    if len(problems) > _MOST_SHOWN:
        lines.append(f"… and {len(problems) - _MOST_SHOWN} more")
    raise ManifestError("\n".join(lines), hint)


class _EnoughProblems(Exception):
    """So much is wrong with the set that the rest is not looked at."""


def _load(sources: Iterable[Source], verb: str) -> tuple[Document, ...]:
    loading = _Loading()
    try:
        for source in sources:
            loading.read(source)
    except _EnoughProblems:
        _refuse(loading.problems, loading.common_hint())
    return loading.result(verb)


class _Loading:
    """Gather the documents and problems of a set of texts."""

    def __init__(self) -> None:
        self.documents: list[Document] = []
        self.problems: list[str] = []
        self.hints: list[str | None] = []
        self.hint: str | None = _HINT
        self.count = 0
        self.bytes_beside = 0

    def read(self, source: Source) -> None:
        """Read one text; a document with problems is reported and left out."""

        def report(line: int, column: int, text: str) -> None:
            place = f":{line}:{column}" if line else ""
            self.problems.append(f"{source.label}{place}: {text}")
            self.hints.append(self.hint)
            self.hint = _HINT
            if len(self.problems) >= MAX_PROBLEMS:
                raise _EnoughProblems

        try:
            for node in yaml_text.read_documents(source.data, report):
                self._document(node, source, report)
        except Unreadable as error:
            self.hint = error.hint or _HINT
            report(error.line, error.column, error.reason)

    def common_hint(self) -> str | None:
        """Return the hint that goes for every problem, else that about fields."""
        return self.hints[0] if len(set(self.hints)) == 1 else _HINT

    def result(self, verb: str) -> tuple[Document, ...]:
        """Return the documents, or raise ManifestError for every problem found."""
        duplicates = _duplicates(self.documents)
        _refuse([*self.problems, *duplicates], _HINT if duplicates else self.common_hint())
        if not self.documents:
            raise ManifestError(f"no objects passed to {verb}")
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
        reading = Reading(report)
        kind = _kind(node, reading)
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


def _kind(node: Node, reading: Reading) -> Kind | None:
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
    kind = BY_NAME.get(word)
    if kind is None:
        shown = f"no matches for kind {quoted(word)} in version {quoted(version or API_VERSION)}"
        known = ", ".join(BY_NAME)
        text = f"{shown}{did_you_mean(word, BY_NAME) or f'; the kinds are {known}'}"
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
