"""Read and write the config file, as strictly as it is small."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosctl import config
from aosctl.config import SETTINGS, Config, Context
from aosctl.errors import AosError

if TYPE_CHECKING:
    from yaml.nodes import Node


def parse(text: str, path: Path) -> Config:
    """Read `text` as a config. Raises AosError as `path:line:column: reason`."""
    return Reader(path).config(compose(text, path))


def compose(text: str, path: Path) -> Node | None:
    """Return the YAML nodes of `text`. Raises AosError as `path:line:column: reason`."""
    import yaml

    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        root: Node | None = yaml.compose(text, Loader=loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        problem = getattr(error, "problem", None) or getattr(error, "reason", "not YAML")
        raise AosError(f"{path}:{line}:{column}: {problem}") from error
    return root


def update(env: Mapping[str, str], change: Callable[[Config], Config]) -> Config:
    """Change the config under a lock, so that two commands at once both count.

    A context is changed, renamed and deleted in the file that has it; what is new goes into one's
    own, the first.
    """
    paths = config.config_paths(env)
    with _locked(paths[0].parent):
        layers = [config.read(path) for path in paths]
        before = config.merged(layers)
        changed = change(before)
        for layer, after in zip(layers, _divided(layers, before, changed), strict=True):
            if (layer.current, layer.contexts) != (after.current, after.contexts) or (
                layer is layers[0] and not layer.files and not before.files
            ):
                _write(after)
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


def to_mapping(settings: Config) -> dict[str, object]:
    """Return the config as the file holds it."""
    return {
        "currentContext": settings.current,
        "contexts": [
            {"name": context.name}
            | {key: value for key in SETTINGS if (value := getattr(context, key)) is not None}
            for context in settings.contexts
        ],
    }


class Reader:
    """Walks YAML nodes rather than values: they know their lines and can't be anything but text."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, node: Node, reason: str) -> AosError:
        mark = node.start_mark
        return AosError(f"{self.path}:{mark.line + 1}:{mark.column + 1}: {reason}")

    def config(self, root: Node | None) -> Config:
        if root is None or self.is_null(root):
            return Config(self.path)
        entries = self.entries(root, ("currentContext", "contexts"), "the config file")
        current = self.text(entries.get("currentContext"), "currentContext")
        contexts = tuple(self.contexts(entries.get("contexts")))
        return Config(self.path, current or None, contexts)

    def contexts(self, node: Node | None) -> Iterator[Context]:
        import yaml

        if node is None or self.is_null(node):
            return
        if not isinstance(node, yaml.SequenceNode):
            raise self.error(node, "contexts must be a list")
        seen: set[str] = set()
        for item in node.value:
            context = self.context(item)
            if context.name in seen:
                raise self.error(item, f'the context "{context.name}" is there twice')
            seen.add(context.name)
            yield context

    def context(self, node: Node) -> Context:
        entries = self.entries(node, ("name", *SETTINGS), "a context")
        values = {key: self.text(value, key) or None for key, value in entries.items()}
        name = values.pop("name", None)
        if not name:
            raise self.error(node, "a context needs a name")
        if values.get("dsn") and values.get("service"):
            raise self.error(node, f'context "{name}" has both dsn and service')
        return Context(name, **values)

    def entries(self, node: Node, known: tuple[str, ...], what: str) -> dict[str, Node]:
        import yaml

        if not isinstance(node, yaml.MappingNode):
            raise self.error(node, f"{what} must be a mapping")
        found: dict[str, Node] = {}
        for key, value in node.value:
            name = str(key.value)
            if name not in known:
                raise self.error(key, f'unknown field "{name}", expected {", ".join(known)}')
            if name in found:
                raise self.error(key, f'the field "{name}" is there twice')
            found[name] = value
        return found

    def text(self, node: Node | None, field: str) -> str | None:
        import yaml

        if node is None or self.is_null(node):
            return None
        if not isinstance(node, yaml.ScalarNode):
            raise self.error(node, f"{field} must be text")
        return str(node.value)

    @staticmethod
    def is_null(node: Node) -> bool:
        return str(node.tag) == "tag:yaml.org,2002:null"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _write(settings: Config) -> None:
    """Replace the file in one step, readable by its owner alone: it may hold a password."""
    import yaml

    mapping = to_mapping(settings)
    # What is no text would be written as escapes that nobody reads again.
    json.dumps(mapping, ensure_ascii=False).encode()
    # A link to a file kept elsewhere stays a link.
    path = settings.path.resolve()
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            yaml.safe_dump(mapping, file, sort_keys=False, allow_unicode=True)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
