"""Make principals from flags, with the logins that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aosctl.db import rights
from aosctl.db.connection import Connection
from aosctl.db.errors import translated
from aosctl.domain.applying import Applied, Tenancy, apply_set
from aosctl.domain.kinds.base import API_VERSION
from aosctl.domain.manifest import loads
from aosctl.domain.yaml_dump import dump_yaml
from aosctl.errors import AlreadyExists


def create_principal(
    connection: Connection,
    tenant: str,
    name: str,
    spec: Mapping[str, Any],
    *,
    login: bool = False,
    password: str | None = None,
    keep: bool = True,
) -> Applied:
    """Make a principal that is not there yet, and with `login` its `dbRole`, both or neither.

    Without `keep` it is tried and rolled back.

    Raises ManifestError for a spec that is none, AlreadyExists for a principal that is there,
    Conflict for a login that is, Denied for a caller that may make neither.
    """
    manifest = {
        "apiVersion": API_VERSION,
        "kind": "Principal",
        "metadata": {"name": name, "tenant": tenant},
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
    document = loads(dump_yaml(manifest), "flags")[0]
    with translated(), connection.transaction(force_rollback=not keep):
        if login:
            roles = document.spec["roles"]
            rights.create_login(connection, document.spec["dbRole"], roles, password)
        (applied,) = apply_set(connection, [document], Tenancy(tenant, tenant), read_back=True)
        if applied.outcome != "created":
            raise AlreadyExists(
                f'principals.aos "{name}" already exists', f"aosctl describe principal {name}"
            )
    return applied
