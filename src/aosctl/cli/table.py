"""Print kubectl's tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from aosctl.tables import NONE as NONE
from aosctl.tables import age as age
from aosctl.tables import cell as cell
from aosctl.tables import format_table as format_table
from aosctl.tables import human_duration as human_duration
from aosctl.tables import short_duration as short_duration
from aosctl.tables import time_left as time_left


def write_table(
    headers: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    show_headers: bool = True,
    widths: list[int] | None = None,
) -> None:
    """Print a table to stdout: two cells or more a row, None as `<none>`, one line a cell.

    A watch hands the same `widths` to each part, so that all of them are one table.
    """
    lines = [[cell(header) for header in headers]] if show_headers else []
    lines += [[cell(value) for value in row] for row in rows]
    sys.stdout.write(format_table(lines, widths))
