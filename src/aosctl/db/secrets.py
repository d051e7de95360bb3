"""What the kernel does with secrets beyond applying and deleting them."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from aosctl.db.connection import Connection
from aosctl.db.errors import to_json, translated


def rewrap(
    connection: Connection, tenant: UUID, name: str, generation: int, data: Mapping[str, str]
) -> None:
    """Replace the sealed values by the same under another key (`aos_auth.rewrap_secret`).

    Raises NotFound, Conflict when the secret was changed since, InvalidInput for other values.
    """
    with translated():
        connection.execute(
            "select aos_auth.rewrap_secret(%s, %s, %s, %s::jsonb)",
            (tenant, name, generation, to_json(data)),
        )
