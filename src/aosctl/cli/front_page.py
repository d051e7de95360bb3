"""`aosctl --help` as `cli.app.Root` prints it, from the tables alone.

typer and what it imports take 50 ms and more, which who looks for a verb need not wait for. A
narrow terminal, where lines have to be wrapped, is left to `Root`.
"""

from __future__ import annotations

import os

from aosctl.cli.global_flags import SWITCHES, TEXTS, VERSION
from aosctl.cli.verbs import ABOUT, AFTERWARDS, GLOBALS, USAGE, VERBS

TYPE_CHECKING = False  # spares the import of typing
if TYPE_CHECKING:
    from collections.abc import Sequence

WIDEST = 80
"""Columns that the page takes."""


def front_page() -> str | None:
    """Return the page; None where the terminal is narrower than it."""
    try:
        columns = int(os.environ.get("COLUMNS") or os.get_terminal_size(1).columns)
    except (OSError, ValueError):
        columns = WIDEST
    if columns < WIDEST:
        return None
    groups = dict.fromkeys(verb.group for verb in VERBS.values())
    lists = [(g, [(n, verb.help) for n, verb in VERBS.items() if verb.group == g]) for g in groups]
    parts = [ABOUT + "\n", *(_section(group, rows, gap=3) for group, rows in lists)]
    parts += [f"\nUsage:\n  {USAGE}\n", f"\n{AFTERWARDS}\n", _section(GLOBALS, _options(), gap=2)]
    return "".join(parts)


def _options() -> list[tuple[str, str]]:
    """Return the global flags as they are listed, without the alias of -n."""
    texts = [
        (f"{', '.join(s for s in spellings if s != '--namespace')} {metavar}", text)
        for _, spellings, metavar, text in TEXTS
    ]
    switches = [(", ".join(spellings), text) for _, spellings, text in SWITCHES]
    return [*texts, *switches, VERSION]


def _section(name: str, rows: Sequence[tuple[str, str]], gap: int) -> str:
    wide = max(len(left) for left, _ in rows) + gap
    return f"\n{name}:\n" + "".join(f"  {left:{wide}}{text}\n" for left, text in rows)
