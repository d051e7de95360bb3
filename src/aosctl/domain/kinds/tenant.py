"""Kind Tenant: an organisation, apart from every other."""

from __future__ import annotations

from urllib.parse import urlsplit

from aosctl.domain.fields import Choice, Flag, SecretReference, Text
from aosctl.domain.kinds.base import Column, Completion, Kind, Spec
from aosctl.domain.structures import Field, ListOf, Object

WEBHOOK_EVENTS = ("approval.pending", "run.failed")


def _url(text: str) -> str | None:
    """Say why a text can't be the address of a webhook."""
    try:
        parts = urlsplit(text)
        host, password = parts.hostname, parts.password
    except ValueError:
        return "is no URL"
    if parts.scheme not in ("http", "https") or not host:
        return "is no http or https URL"
    if password is not None or parts.username:
        return "holds credentials; name an environment variable with urlEnv instead"
    return None if text.isprintable() and " " not in text else "holds characters no URL has"


_VARIABLE = Text(
    min_length=1,
    max_length=200,
    pattern=r"[A-Za-z_][A-Za-z0-9_]*",
    rule="takes the name of an environment variable, never the value itself",
    secret=True,
)
_WEBHOOK = Object(
    fields=(
        Field("url", Text(min_length=1, check=_url), "Where it listens; or `urlEnv`."),
        Field(
            "urlEnv",
            _VARIABLE,
            "The worker's environment variable that holds the URL, where the URL is a secret.",
        ),
        Field(
            "secretEnv",
            _VARIABLE,
            "The worker's environment variable that holds the signing secret. Requests are signed"
            " as Standard Webhooks has it: `webhook-id`, `webhook-timestamp`,"
            " `webhook-signature` (v1, HMAC-SHA-256).",
        ),
        Field(
            "secretRef",
            SecretReference(),
            "The Secret of this tenant that holds the signing secret, instead of `secretEnv`:"
            " `NAME`, or `NAME/KEY` where it has several values. It is opened in the worker's"
            " process for each request.",
        ),
        Field(
            "events",
            ListOf(item=Choice(values=WEBHOOK_EVENTS), unique=True, min_items=1),
            "What it is told about.",
            default=list(WEBHOOK_EVENTS),
        ),
        Field(
            "includeArguments",
            Flag(),
            "Whether a pending approval's exact arguments are sent as well.",
            default=False,
        ),
    )
)
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
            "webhook",
            _WEBHOOK,
            "Who is told, by `aosctl worker`, about pending approvals and failed runs: one request"
            " each, in the order of the log, repeated for a day until it is answered with 2xx.",
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
            "What `aosctl worker` lets go, about once an hour; or `aosctl audit prune`, at once.",
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
  webhook:
    url: https://hooks.example.com/aos
    secretEnv: AOS_WEBHOOK_SECRET
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
        webhook = spec.get("webhook")
        if webhook is not None and ("url" in webhook) == ("urlEnv" in webhook):
            at.wrong("spec.webhook", "takes either url or urlEnv")
        if webhook is not None and ("secretEnv" in webhook) == ("secretRef" in webhook):
            at.wrong("spec.webhook", "takes either secretEnv or secretRef")
        kept = {name: value for name, value in spec.items() if name != "retention" or value}
        return {"displayName": at.name, **kept}
