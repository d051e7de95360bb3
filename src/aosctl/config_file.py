"""Read and write the config file, as strictly as it is small."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from aosctl.contexts import SETTINGS, Config, Context
from aosctl.yaml_nodes import Reader, compose

if TYPE_CHECKING:
    from yaml.nodes import Node


def parse(text: str, path: Path) -> Config:
    """Read `text` as a config. Raises AosError as `path:line:column: reason`."""
    return _config(Reader(path), compose(text, path))


def _config(reader: Reader, root: Node | None) -> Config:
    if root is None or reader.is_null(root):
        return Config(reader.path)
    entries = reader.entries(root, ("currentContext", "contexts"), "the config file")
    current = reader.text(entries.get("currentContext"), "currentContext")
    contexts = tuple(_contexts(reader, entries.get("contexts")))
    return Config(reader.path, current or None, contexts)


def _contexts(reader: Reader, node: Node | None) -> Iterator[Context]:
    import yaml

    if node is None or reader.is_null(node):
        return
    if not isinstance(node, yaml.SequenceNode):
        raise reader.error(node, "contexts must be a list")
    seen: set[str] = set()
    for item in node.value:
        context = _context(reader, item)
        if context.name in seen:
            raise reader.error(item, f'the context "{context.name}" is there twice')
        seen.add(context.name)
        yield context


def _context(reader: Reader, node: Node) -> Context:
    entries = reader.entries(node, ("name", *SETTINGS), "a context")
    values = {key: reader.text(value, key) or None for key, value in entries.items()}
    name = values.pop("name", None)
    if not name:
        raise reader.error(node, "a context needs a name")
    if values.get("dsn") and values.get("service"):
        raise reader.error(node, f'context "{name}" has both dsn and service')
    return Context(name, **values)


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


def write(settings: Config) -> None:
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
