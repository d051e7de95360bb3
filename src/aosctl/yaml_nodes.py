"""Small YAML files of one's own, read as nodes: what is wrong in them has a line and a column."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from aosctl.errors import AosError

if TYPE_CHECKING:
    from yaml.nodes import Node


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


class Reader:
    """Walks YAML nodes rather than values: they know their lines and can't be anything but text."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def error(self, node: Node, reason: str) -> AosError:
        mark = node.start_mark
        return AosError(f"{self.path}:{mark.line + 1}:{mark.column + 1}: {reason}")

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
