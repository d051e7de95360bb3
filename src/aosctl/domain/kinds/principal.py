"""Kind Principal: who acts in a tenant, a person or a program."""

from __future__ import annotations

from datetime import datetime

from aosctl.domain.fields import Choice, Text
from aosctl.domain.kinds.base import Column, Completion, Kind, Spec
from aosctl.domain.names import quoted
from aosctl.domain.structures import Field, ListOf, MapOf
from aosctl.timestamps import to_the_second

TYPES = ("user", "service")
ROLES = ("admin", "developer", "auditor", "viewer")
_LONGEST_IDENTIFIER_BYTES = 63


def _login(text: str) -> str | None:
    """Say why a text can't be a login role that a principal may stand for."""
    if text.lower().startswith("pg_") or text.lower() in ("public", "none"):
        return "is a name that PostgreSQL keeps for itself"
    if len(text.encode()) > _LONGEST_IDENTIFIER_BYTES:
        return f"is longer than the {_LONGEST_IDENTIFIER_BYTES} bytes of a PostgreSQL name"
    return None if text.isprintable() else "holds characters that do not print"


def _moment(text: str) -> str | None:
    """Say why a text is no moment with an offset."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        return f"{quoted(text)} is no moment; write it as 2026-12-31T18:00:00Z"
    return None


class Principal(Kind):
    name = "Principal"
    plural = "principals"
    short_names = ("prin",)
    db_schema = "aos_auth"
    doc = (
        "Someone who acts in a tenant: a person, or a service such as a web application. A"
        " principal is bound to a PostgreSQL login by `dbRole`; that login then sees this tenant,"
        " with the rights of its roles. One login may be a principal in several tenants."
    )
    fields = (
        Field(
            "type",
            Choice(values=TYPES),
            "A person, or a program that may also act on behalf of other principals.",
            default="user",
        ),
        Field(
            "displayName",
            Text(max_length=200),
            "The name people read in approvals and the audit trail.",
            default_words="the principal's name",
        ),
        Field(
            "dbRole",
            Text(min_length=1, check=_login),
            "The PostgreSQL login role that is this principal. The role has to exist: create it"
            " yourself, or with `aosctl create principal NAME --login`. To name a login that is"
            " none of the tenant's yet takes ADMIN OPTION on it, which who made it has, or an"
            " administrator. Without one the principal can't connect, and only a service can act"
            " for it.",
        ),
        Field(
            "roles",
            ListOf(item=Choice(values=ROLES), unique=True),
            "What it may do: `admin` everything in the tenant; `developer` change personas,"
            " skills, agents, collections and secrets, run agents and decide approvals; `viewer`"
            " read; `auditor` read the whole audit trail as well, and take it away.",
            default=[],
        ),
        Field(
            "roleExpiry",
            MapOf(value=Text(min_length=1, check=_moment)),
            "When a role ends, by its name; a role that is not named here does not. It gives"
            " nothing from that moment on, in sessions that are open as well.",
        ),
    )
    example = """\
apiVersion: aos/v1
kind: Principal
metadata:
  name: jane
  tenant: tech_corp
spec:
  displayName: Jane Doe
  dbRole: jane
  roles: [developer, viewer]
  roleExpiry:
    developer: '2026-12-31T18:00:00Z'
"""
    columns = (
        Column("NAME", lambda row: row.name),
        Column("TYPE", lambda row: row.spec.get("type")),
        Column("ROLES", lambda row: row.spec.get("roles")),
        Column("DB-ROLE", lambda row: row.spec.get("dbRole")),
        Column("AGE", lambda row: row.created_at),
        Column("DISPLAY-NAME", lambda row: row.spec.get("displayName"), wide=True),
    )

    def complete(self, spec: Spec, at: Completion) -> Spec:
        """Name the principal after itself, and write moments in UTC."""
        ends = spec.pop("roleExpiry", {})
        for role in ends.keys() - set(spec["roles"]):
            at.wrong(f"spec.roleExpiry.{role}", f"{quoted(role)} is not among its roles")
        name = spec.get("displayName", at.name)
        done = {**spec, "displayName": name, "roles": sorted(spec["roles"])}
        expiry = {role: _in_utc(ends[role]) for role in sorted(ends)}
        return {**done, "roleExpiry": expiry} if expiry else done


def _in_utc(text: str) -> str:
    return to_the_second(datetime.fromisoformat(text))
