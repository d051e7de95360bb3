"""Kind Tenant: an organisation, apart from every other."""

from __future__ import annotations

from aosctl.domain.fields import Text
from aosctl.domain.kinds.base import Column, Completion, Kind, Spec
from aosctl.domain.structures import Field


class Tenant(Kind):
    name = "Tenant"
    plural = "tenants"
    short_names = ("ten",)
    tenanted = False
    db_schema = "aos_auth"
    doc = (
        "An organisation, team or customer. Everything else but models belongs to one tenant, and"
        " row-level security keeps tenants apart: none sees, guesses or touches what another has."
    )
    fields = (
        Field(
            "displayName",
            Text(max_length=200),
            "The name people read.",
            default_words="the tenant's name",
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Tenant
metadata:
  name: tech_corp
spec:
  displayName: Tech Corp Inc.
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("DISPLAY-NAME", lambda row: row.spec.get("displayName")),
        Column("AGENTS", lambda row: row.status.get("agents")),
        Column("RUNS", lambda row: row.status.get("runs")),
        Column("AGE", lambda row: row.created_at),
        Column("UID", lambda row: row.uid, wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Name the tenant after itself where no display name is given."""
        return {"displayName": at.name, **spec}
