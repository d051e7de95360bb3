"""Change the config files: one command at a time, each context in the file that has it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from aosctl.config import config_paths, merged, read
from aosctl.config_file import write
from aosctl.contexts import Config, Context


def update(env: Mapping[str, str], change: Callable[[Config], Config]) -> Config:
    """Change the config under a lock, so that two commands at once both count.

    A context is changed, renamed and deleted in the file that has it; what is new goes into one's
    own, the first.
    """
    paths = config_paths(env)
    with _locked(paths[0].parent):
        layers = [read(path) for path in paths]
        before = merged(layers)
        changed = change(before)
        for layer, after in zip(layers, _divided(layers, before, changed), strict=True):
            if (layer.current, layer.contexts) != (after.current, after.contexts) or (
                layer is layers[0] and not layer.files and not before.files
            ):
                write(after)
    return changed


def _divided(layers: Sequence[Config], before: Config, changed: Config) -> list[Config]:
    """Return the files as they have to be, so that together they are `changed`."""
    gone = [c.name for c in before.contexts if changed.find(c.name) is None]
    new = [c for c in changed.contexts if before.find(c.name) is None]
    renamed = (gone[0], new.pop()) if len(gone) == len(new) == 1 else None
    found: list[Config] = []
    seen: set[str] = set()
    for layer in layers:
        kept: list[Context] = []
        for context in layer.contexts:
            if context.name in seen:
                kept.append(context)  # another file's counts; this one is nobody's concern
            elif renamed and context.name == renamed[0]:
                kept.append(renamed[1])
            elif (wanted := changed.find(context.name)) is not None:
                kept.append(wanted)
            seen.add(context.name)
        found.append(layer._replace(contexts=tuple(kept)))
    found[0] = found[0]._replace(contexts=(*found[0].contexts, *new))
    if before.current != changed.current:
        place = next((n for n, layer in enumerate(layers) if layer.current), 0)
        place = 0 if changed.current else place
        found[place] = found[place]._replace(current=changed.current)
    return found


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
