"""The direction of imports: cli → domain → db, leaves below, one composition root."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import aosctl

PACKAGE = Path(aosctl.__file__).parent
LEAVES = {
    "", "bars", "charts", "config", "config_changes", "config_file", "contexts", "editor", "errors",
    "messages", "name_cache", "numbers", "once", "postponed", "private_file", "project",
    "redaction", "request", "resources", "shown_media", "tables", "terminal", "timestamps",
    "yaml_nodes",
}  # fmt: skip
MAY_IMPORT = {
    "leaf": {"leaf"},
    "db": {"leaf", "db"},
    "providers": {"leaf", "providers"},
    "domain": {"leaf", "db", "domain", "providers"},
    "repl": {"leaf", "domain", "repl"},
    "cli": {"leaf", "db", "domain", "providers", "repl", "cli"},
    "__main__": {"leaf", "cli"},
}
ROOT = {"cli.wiring", "cli.wiring_tools", "cli.wiring_worker"}
"""The composition root, alone in choosing providers and tools."""
OPEN_DOORS = {"providers.base", "providers.embedding", "domain.tools.base"}


@cache
def modules() -> dict[str, Path]:
    """Return every module of ours by its name below `aosctl`."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(part for part in parts if part != "__init__")] = path
    return found


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(name: str, path: Path, *, types: bool = True) -> Iterator[str]:
    """Yield the modules of ours that the file imports, anywhere in it; or not for `types` alone."""
    known = modules()
    tree = parsed(path)
    for node in ast.walk(tree) if types else executed(tree):
        if isinstance(node, ast.Import):
            yield from (a.name[7:] for a in node.names if a.name.startswith("aosctl."))
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            module = node.module or ""
            if module != "aosctl" and not module.startswith("aosctl."):
                continue
            base = module[7:]
            for alias in node.names:
                below = f"{base}.{alias.name}".lstrip(".")
                yield below if below in known else base


def executed(tree: ast.Module) -> Iterator[ast.AST]:
    """Yield the nodes of what runs: nothing under `if TYPE_CHECKING`."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        yield node
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
        else:
            todo += ast.iter_child_nodes(node)


def floor(name: str) -> str:
    return "leaf" if name in LEAVES else name.partition(".")[0]


def behind_a_door(name: str) -> str | None:
    """Return the package whose `base` stands for this module, if it has one."""
    for package in ("providers", "domain.tools"):
        if name.startswith(package + "."):
            return package
    return None


@pytest.mark.parametrize("name", sorted(modules()))
def test_module_imports_only_its_own_floor_and_those_below(name: str) -> None:
    for imported in imports(name, modules()[name]):
        assert floor(imported) in MAY_IMPORT[floor(name)], f"{name} imports {imported}"


@pytest.mark.parametrize("name", sorted(modules()))
def test_only_the_composition_root_chooses_providers_and_tools(name: str) -> None:
    for imported in imports(name, modules()[name]):
        package = behind_a_door(imported)
        if package is None or imported in OPEN_DOORS or name in ROOT:
            continue
        assert behind_a_door(name) == package, f"{name} imports {imported}"


def circles() -> list[list[str]]:
    """Return the modules that import each other when they run, a list a circle."""
    below = {
        name: sorted({*imports(name, path, types=False)} - {name})
        for name, path in modules().items()
    }
    found: list[list[str]] = []
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open_ones: list[str] = []

    def visit(name: str) -> None:  # Tarjan's strongly connected components
        number[name] = lowest[name] = len(number)
        open_ones.append(name)
        for other in below[name]:
            if other not in number:
                visit(other)
                lowest[name] = min(lowest[name], lowest[other])
            elif other in open_ones:
                lowest[name] = min(lowest[name], number[other])
        if lowest[name] == number[name]:
            place = open_ones.index(name)
            if len(open_ones) - place > 1:
                found.append(sorted(open_ones[place:]))
            del open_ones[place:]

    for name in below:
        if name not in number:
            visit(name)
    return found


def test_no_modules_import_each_other() -> None:
    assert circles() == []


def test_the_check_sees_a_wrong_import(tmp_path: Path) -> None:
    file = tmp_path / "wrong.py"
    file.write_text(
        "def f():\n    from aosctl.cli import app\n    import aosctl.providers.openai\n"
    )
    assert list(imports("db.wrong", file)) == ["cli.app", "providers.openai"]
    assert "cli" not in MAY_IMPORT[floor("db.wrong")]
