"""Where a drawing begins in a terminal that has another size now, and may have wrapped its rows."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from aosctl.terminal import reflows

if TYPE_CHECKING:
    from prompt_toolkit.application import Application
    from prompt_toolkit.layout.screen import Screen


def find_beginning(app: Application[Any]) -> bool:
    """Learn how far up the drawing begins in a terminal of another size; False in the same."""
    from prompt_toolkit.data_structures import Point

    size, drawn = app.output.get_size(), app.renderer._last_size
    if drawn is None or size == drawn:
        return False
    screen, at = app.renderer.last_rendered_screen, app.renderer._cursor_pos
    if screen is not None and reflows(os.environ):
        more = rows_more(screen, at, size.columns)
        app.renderer._cursor_pos = Point(x=at.x, y=at.y + more)
    app.renderer._last_size = None
    app.output.write_raw("\r")
    return True


def redraw_where_it_began(app: Application[Any]) -> None:
    """Have a prompt of prompt_toolkit's own leave nothing behind when it is resized."""
    resized, drawn = app._on_resize, app._redraw

    def on_resize() -> None:
        if not app._running_in_terminal:
            find_beginning(app)
            resized()

    def redraw(render_as_done: bool = False) -> None:
        if not app._running_in_terminal and find_beginning(app):
            app.renderer.erase(leave_alternate_screen=False)
            app._request_absolute_cursor_position()
        drawn(render_as_done)

    app._on_resize = on_resize  # type: ignore[method-assign]
    app._redraw = redraw  # type: ignore[method-assign]


def rows_more(screen: Screen, cursor: Any, columns: int) -> int:
    """Return how many rows more lie above the cursor once a terminal has wrapped the long ones."""
    more = int(cursor.x) // columns
    for y in range(cursor.y):
        used = [x for x, cell in screen.data_buffer[y].items() if cell.char != " "]
        more += max(used, default=0) // columns
    return more
