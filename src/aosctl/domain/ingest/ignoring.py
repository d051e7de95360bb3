"""What .gitignore files leave out, and globs of the same kind."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_FILE = ".gitignore"


class Patterns:
    """Globs as .gitignore has them: `*.md` in any folder, `drafts/` with all below it."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._spec = _spec(patterns) if patterns else None

    def match(self, relative: str) -> bool:
        """Tell whether a path, relative and with slashes, is meant."""
        return self._spec is not None and bool(self._spec.match_file(relative))


class Ignored:
    """The .gitignore files of a folder, of those above it in its repository, and of those below."""

    def __init__(self, folder: Path) -> None:
        top = folder.resolve()
        self._specs: dict[Path, GitIgnoreSpec] = {}
        repository = _repository(top)
        if repository is not None:
            for above in reversed(top.parents):
                if above == repository or repository in above.parents:
                    self._read(above)
        self._folder, self._top = folder, top

    def enter(self, folder: Path) -> None:
        """Read the .gitignore of a folder that is looked through, from the top down."""
        self._read(self._real(folder))

    def is_out(self, path: Path, *, folder: bool) -> bool:
        """Tell whether a path is ignored: the file nearest to it that says anything decides."""
        real = self._real(path)
        for above in real.parents:
            spec = self._specs.get(above)
            if spec is None:
                continue
            relative = real.relative_to(above).as_posix() + ("/" if folder else "")
            said = spec.check_file(relative).include
            if said is not None:
                return said
        return False

    def _real(self, path: Path) -> Path:
        return self._top / path.relative_to(self._folder)

    def _read(self, folder: Path) -> None:
        try:
            text = (folder / _FILE).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return
        self._specs[folder] = _spec(text.splitlines())


def _spec(lines: Sequence[str]) -> GitIgnoreSpec:
    from pathspec import GitIgnoreSpec

    return GitIgnoreSpec.from_lines(lines)


def _repository(folder: Path) -> Path | None:
    """Return the top folder of the repository that a folder is in."""
    return next((one for one in (folder, *folder.parents) if os.path.exists(one / ".git")), None)
