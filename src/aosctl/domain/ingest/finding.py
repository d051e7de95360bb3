"""Find the documents that PATH, URL or - names; in folders not what is hidden or ignored."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from aosctl.domain.ingest.ignoring import Ignored, Patterns
from aosctl.domain.names import quoted
from aosctl.errors import NotFound, UsageError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Place:
    """Where one document is, and what it is called in its collection.

    `root` is what --prune goes by: the folder that was named, or the prefix. `is_named` tells that
    the person named this very document, and not a folder with it.
    """

    source: str
    path: Path | None = None
    url: str | None = None
    root: str = ""
    is_named: bool = False


@dataclass(frozen=True, slots=True)
class Looking:
    """How folders are looked through."""

    recursive: bool = False
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    hidden: bool = False
    ignored: bool = False
    prefix: str = ""


@dataclass(frozen=True, slots=True)
class Found:
    """The documents in order, the folders' roots, and how many sub-folders were passed over."""

    places: tuple[Place, ...]
    roots: frozenset[str]
    folders_left: int


def find(names: Sequence[str], looking: Looking, called: str | None = None) -> Found:
    """Find every document before the first is read. Raises UsageError, NotFound.

    `called` is the source of the only one that is named.
    """
    walk = _Walk(looking)
    places = [place for name in dict.fromkeys(names) for place in walk.below(name)]
    if called is not None:
        if len(places) != 1 or not places[0].is_named:
            raise UsageError("--source names one document: a file, a URL or -")
        (only,) = places
        places = [Place(called, only.path, only.url, only.root, is_named=True)]
    _refuse_twice(places)
    return Found(tuple(places), frozenset(walk.roots), walk.folders_left)


class _Walk:
    """Looks through what is named."""

    def __init__(self, looking: Looking) -> None:
        self._looking = looking
        self._include = Patterns(looking.include) if looking.include else None
        self._exclude = Patterns(looking.exclude)
        self.roots: set[str] = set()
        self.folders_left = 0

    def below(self, name: str) -> Iterator[Place]:
        """Yield the documents of one argument."""
        prefix = self._looking.prefix
        if name == STDIN:
            yield Place(prefix + "stdin", is_named=True)
        elif "://" in name:
            yield Place(name, url=_checked_url(name), is_named=True)
        elif os.path.isdir(name):
            yield from self._in_folder(Path(name))
        elif os.path.lexists(name):
            path = Path(name)
            root = prefix or str(path.parent.resolve())
            yield Place(prefix + _text(path.name), path, root=root, is_named=True)
        else:
            raise NotFound(f"the path {quoted(name, 200)} does not exist")

    def _in_folder(self, folder: Path) -> Iterator[Place]:
        root = self._looking.prefix or str(folder.resolve())
        self.roots.add(root)
        ignored = None if self._looking.ignored else Ignored(folder)
        for path in self._files(folder, ignored):
            relative = path.relative_to(folder).as_posix()
            if self._wants(relative):
                yield Place(self._looking.prefix + _text(relative), path, root=root)

    def _files(self, folder: Path, ignored: Ignored | None) -> Iterator[Path]:
        for place, folders, files in os.walk(folder, onerror=_refuse_folder):
            here = Path(place)
            if ignored is not None:
                ignored.enter(here)
            below = [name for name in sorted(folders) if self._enters(here / name, ignored)]
            if not self._looking.recursive:
                self.folders_left += len(below)
                below = []
            folders[:] = below
            for name in sorted(files):
                path = here / name
                shown = self._looking.hidden or not name.startswith(".")
                if shown and not (ignored and ignored.is_out(path, folder=False)):
                    yield path

    def _enters(self, folder: Path, ignored: Ignored | None) -> bool:
        if folder.name == ".git" or (folder.name.startswith(".") and not self._looking.hidden):
            return False
        return not (folder.is_symlink() or (ignored and ignored.is_out(folder, folder=True)))

    def _wants(self, relative: str) -> bool:
        if self._exclude.match(relative):
            return False
        return self._include is None or self._include.match(relative)


def _text(name: str) -> str:
    """Return a file's name as text: one that is no UTF-8 loses what is none."""
    return os.fsencode(name).decode("utf-8", "replace")


def _checked_url(url: str) -> str:
    if not url.lower().startswith(("http://", "https://")):
        raise UsageError(f"the URL {quoted(url, 200)} is neither http nor https")
    return url


def _refuse_folder(error: OSError) -> None:
    name = os.fspath(error.filename or "")
    raise UsageError(f"the folder {quoted(str(name), 200)} can't be read: {error.strerror}")


def _refuse_twice(places: Iterable[Place]) -> None:
    """Refuse two documents that would have one source: the second would replace the first."""
    seen: dict[str, Place] = {}
    for place in places:
        other = seen.setdefault(place.source, place)
        if other is not place:
            raise UsageError(
                f"two documents would be called {quoted(place.source)}:"
                f" {other.path or 'stdin'} and {place.path or 'stdin'}",
                "ingest the folder above both, or one after the other with --prefix",
            )
