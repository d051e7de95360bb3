"""Which documents of a folder are meant: hidden, ignored, chosen and odd ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from aosctl.domain.ingest.finding import Looking, Place, find
from aosctl.errors import NotFound, UsageError

FILES = (
    "a.md", "b.log", "keep.log", ".hidden.md", "sub/c.md", "sub/deep/d.txt", "sub/b.log",
    "build/out.md", ".git/config", ".dir/e.md", "sub/only.tmp",
)  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "docs"
    for name in FILES:
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / ".gitignore").write_text("*.log\n!keep.log\nbuild/\n")
    (top / "sub" / ".gitignore").write_text("/only.tmp\n!b.log\n")
    return top


def sources(folder: Path, **looking: object) -> list[str]:
    found = find([str(folder)], Looking(**{"recursive": True, **looking}))  # type: ignore[arg-type]
    return [place.source for place in found.places]


def test_neither_hidden_nor_ignored_files_are_found_and_the_nearest_gitignore_decides(
    folder: Path,
) -> None:
    assert sources(folder) == ["a.md", "keep.log", "sub/b.log", "sub/c.md", "sub/deep/d.txt"]


def test_what_is_asked_for_is_found_but_never_git_itself(folder: Path) -> None:
    found = sources(folder, hidden=True, ignored=True)
    everything = {*FILES, ".gitignore", "sub/.gitignore"}
    assert set(found) == everything - {".git/config"}


def test_the_gitignore_of_the_repository_above_counts(folder: Path) -> None:
    (folder / ".gitignore").write_text("sub/deep/\n")
    assert sources(folder / "sub") == ["b.log", "c.md"]


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        (["*.md"], [], ["a.md", "sub/c.md"]),
        (["sub/**"], ["deep/"], ["sub/b.log", "sub/c.md"]),
        ([], ["/sub/"], ["a.md", "keep.log"]),
        (["*.md", "*.txt"], ["c.*"], ["a.md", "sub/deep/d.txt"]),
    ],
)
def test_globs_choose_as_gitignore_has_them(
    folder: Path, include: list[str], exclude: list[str], expected: list[str]
) -> None:
    assert sources(folder, include=include, exclude=exclude) == expected


def test_without_recursion_the_folders_passed_over_are_counted(folder: Path) -> None:
    found = find([str(folder)], Looking())
    assert [place.source for place in found.places] == ["a.md", "keep.log"]
    assert found.folders_left == 1  # build/ is ignored


def test_a_link_to_a_folder_is_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "x.md").write_text("x")
    (folder / "link").symlink_to(tmp_path / "outside")
    assert "link/x.md" not in sources(folder)


def test_a_name_that_is_no_utf_8_loses_what_is_none(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"caf\xe9.md")).write_text("x")
    assert sources(tmp_path) == ["caf\ufffd.md"]


def test_roots_and_prefixes_are_what_prune_goes_by(folder: Path) -> None:
    plain = find([str(folder)], Looking())
    assert plain.roots == {str(folder.resolve())} == {place.root for place in plain.places}
    named = find([str(folder)], Looking(prefix="x/"))
    assert named.roots == {"x/"}
    assert named.places[0] == Place("x/a.md", folder / "a.md", root="x/")


def test_a_hidden_file_that_is_named_is_found(folder: Path) -> None:
    (place,) = find([str(folder / ".hidden.md")], Looking()).places
    assert (place.source, place.is_named) == (".hidden.md", True)


def test_urls_and_stdin_are_documents_by_themselves() -> None:
    url, piped = find(["https://example.com/a", "-"], Looking()).places
    assert (url.source, url.url, url.root) == ("https://example.com/a", "https://example.com/a", "")
    assert (piped.source, piped.path, piped.url) == ("stdin", None, None)
    (called,) = find(["-"], Looking(), "notes/a.md").places
    assert called.source == "notes/a.md"


@pytest.mark.parametrize(
    ("names", "called", "error", "words"),
    [
        (["{0}/nope"], None, NotFound, "does not exist"),
        (["ftp://x"], None, UsageError, "neither http nor https"),
        (["{0}"], "x", UsageError, "--source names one document"),
        (["-", "https://example.com"], "x", UsageError, "--source names one document"),
        (["{0}", "{0}/a.md"], None, UsageError, 'two documents would be called "a.md"'),
    ],
)
def test_what_makes_no_sense_is_refused(
    folder: Path, names: list[str], called: str | None, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        find([name.format(folder) for name in names], Looking(), called)
