"""What tenants' webhooks have still to be told: taken one at a time, settled one at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from aosctl.db.connection import Connection
from aosctl.db.errors import translated

HELD_SECONDS = 60
"""How long a notification is one worker's to deliver."""


@dataclass(frozen=True, slots=True)
class Notification:
    """What a webhook is told, and where: `url`, or the environment variable `url_env`.

    It is signed with what the variable `secret_env` holds, or with `secret`, a sealed value of the
    tenant: secret, key, sealed. `fault` says why there is none of both.
    """

    tenant: UUID
    id: UUID
    token: UUID
    url: str | None
    url_env: str | None
    secret_env: str | None
    secret: Mapping[str, str] | None
    fault: str | None
    attempt: int
    body: Mapping[str, Any]


def waiting_tenants(connection: Connection) -> list[UUID]:
    """List tenants whose webhooks may have something due (aos_agent.next_webhooks)."""
    with translated():
        rows = connection.execute("select tenant_id from aos_agent.next_webhooks()").fetchall()
    return [UUID(str(row[0])) for row in rows]


def take(connection: Connection, tenant: UUID) -> Notification | None:
    """Take what is to be told next; None when nothing is due (aos_agent.take_notification)."""
    with translated():
        ((found,),) = connection.execute(
            "select aos_agent.take_notification(%s, %s)", (tenant, HELD_SECONDS)
        ).fetchall()
    if found is None:
        return None
    row = cast(Mapping[str, Any], found)
    return Notification(
        tenant,
        UUID(row["notification_id"]),
        UUID(row["token"]),
        row["url"],
        row["url_env"],
        row["secret_env"],
        row["secret"],
        row["fault"],
        row["attempt"],
        row["body"],
    )


def settle(connection: Connection, one: Notification, failure: str | None) -> None:
    """Say that it was delivered, or why not (aos_agent.record_delivery). Raises LeaseLost."""
    with translated():
        connection.execute(
            "select aos_agent.record_delivery(%s, %s, %s, %s, %s)",
            (one.tenant, one.id, one.token, failure is None, failure),
        )
