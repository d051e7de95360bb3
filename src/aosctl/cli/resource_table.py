"""Resources as kubectl's tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from aosctl.cli import output, table

if TYPE_CHECKING:
    from aosctl.domain.kinds.base import Cell, Kind, Resource


class Layout(NamedTuple):
    """Which columns a table has beside the kind's own."""

    wide: bool = False
    tenant: bool = False
    show_kind: bool = False
    show_labels: bool = False
    label_columns: tuple[str, ...] = ()
    headers: bool = True


def write_resources(
    kind: Kind,
    rows: Sequence[Resource],
    layout: Layout,
    events: Sequence[str] | None = None,
    widths: list[int] | None = None,
) -> None:
    """Print one table: EVENT where there are some, TENANT, the kind's columns, labels.

    `widths` are its columns' so far, where rows of it were printed before.
    """
    columns = [column for column in kind.columns if layout.wide or not column.wide]
    shows_tenant = layout.tenant and kind.tenanted
    headers = [
        *(["EVENT"] if events else []),
        *(["TENANT"] if shows_tenant else []),
        *(column.header for column in columns),
        *(label.rpartition("/")[2].upper() for label in layout.label_columns),
        *(["LABELS"] if layout.show_labels else []),
    ]
    lines = []
    for place, row in enumerate(rows):
        cells = [cell_text(column.value(row)) for column in columns]
        if layout.show_kind:
            cells[0] = kind.qualified(row.name)
        lines.append(
            [
                *([events[place]] if events else []),
                *([row.tenant] if shows_tenant else []),
                *cells,
                *(row.labels.get(label) for label in layout.label_columns),
                *([labels_text(row.labels)] if layout.show_labels else []),
            ]
        )
    table.write_table(headers, lines, show_headers=layout.headers, widths=widths)


def cell_text(value: Cell) -> object:
    """Return what stands in a cell: a time as its age, a list with commas."""
    if isinstance(value, datetime):
        return table.age(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return ",".join(value) or None
    return value


def labels_text(labels: Mapping[str, str]) -> str | None:
    """Return labels as `a=b,c=d`, None where there are none."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) or None


def note_none(tenant: str | None, *, quiet: bool = False) -> None:
    """Say on stderr that nothing was found, as kubectl does."""
    where = f" in {tenant} tenant." if tenant else ""
    output.note(f"No resources found{where}", quiet=quiet)
