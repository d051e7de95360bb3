"""The kernel's clock."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from aosctl.db.errors import translated

if TYPE_CHECKING:
    from aosctl.db.rows import AnyConnection


def moment(connection: AnyConnection) -> datetime:
    """Return what the kernel's clock says."""
    with translated():
        for (now,) in connection.execute("select aos_core.now()").fetchall():
            if isinstance(now, datetime):
                return now
    raise ValueError("the kernel's clock says nothing")
