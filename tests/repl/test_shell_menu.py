"""What TAB offers at the shell's prompt besides verbs: psql's commands, programs, files."""

from __future__ import annotations

from pathlib import Path
from typing import cast

import pytest
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document

from aosctl.repl.shell.completer import Menu, completer_of
from aosctl.repl.shell.frame import Frame
from aosctl.repl.shell.names import SqlNames
from aosctl.repl.sql_completion import Catalog, Table


class Names:
    """The catalog of a shop, as if it had been read."""

    catalog = Catalog((Table("shop", "orders", ("order_id",)),), (), ("shop",), ("shop",))

    def soon(self) -> None:
        """It is here already."""


@pytest.fixture
def menu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Menu:
    """A menu beside two programs, in a folder with a file."""
    for name in ("grind", "grep2"):
        (tmp_path / name).touch(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/no/such/folder")
    monkeypatch.chdir(tmp_path)
    return Menu(cast(Frame, None), cast(SqlNames, Names()))


@pytest.mark.parametrize(
    ("typed", "comes_up"),
    [("\\d or", True), ("\\d shop.", True), ("\\d or\n", False), ("\\d ", False)],
)
def test_a_menu_comes_up_by_itself_in_a_word_alone(menu: Menu, typed: str, comes_up: bool) -> None:
    completer = completer_of(menu, lambda: True)
    offered = completer.get_completions(Document(typed), CompleteEvent(text_inserted=True))
    assert bool(list(offered)) is comes_up


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("ps -a | gr", ["grep2", "grind"]),
        ("!gri", ["grind"]),
        ("! grind gr", ["grep2", "grind"]),
        ("ps | grind | grep2 gri", ["grind"]),
        ("!", []),
        ("\\ti", ["\\timing"]),
        ("\\x ", ["on", "off", "auto"]),
        ("\\timing o", ["on", "off"]),
        ("\\i gri", ["grind"]),
        ("\\d shop.or", ["orders"]),
        ("\\di+ or", ["orders"]),
    ],
)
def test_what_may_stand_at_the_cursor(menu: Menu, line: str, offered: list[str]) -> None:
    assert [one.text for one in menu.of_line(line, len(line))] == offered
