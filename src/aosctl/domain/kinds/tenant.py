"""Kind Tenant: an organisation, apart from every other."""

from __future__ import annotations

from aosctl.domain.fields import Text
from aosctl.domain.kinds.base import Column, Completion, Kind, Spec
from aosctl.domain.structures import Field, Object

_DAYS = Text(pattern="[1-9][0-9]{0,4}d", max_length=6, rule="a number of days, such as 90d")


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
        Field(
            "retention",
            Object(
                fields=(
                    Field(
                        "content",
                        _DAYS,
                        "How long after a run was closed its messages, arguments and results are"
                        " kept; its events stay and still verify.",
                        default_words="for ever",
                    ),
                    Field(
                        "events",
                        _DAYS,
                        "How long events are kept, in whole months. A month goes when no tenant"
                        " keeps it any more.",
                        default_words="for ever",
                    ),
                )
            ),
            "What `aosctl audit prune` lets go.",
            default_words="everything is kept",
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Tenant
metadata:
  name: tech_corp
spec:
  displayName: Tech Corp Inc.
  retention:
    content: 90d
    events: 400d
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
        kept = {name: value for name, value in spec.items() if name != "retention" or value}
        return {"displayName": at.name, **kept}
