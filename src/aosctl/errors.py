"""The errors a user can meet; one tree, one exit status each, nothing imported of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from typing import Self


class AosError(Exception):
    """Name the object that failed and, as `hint`, the next command to type."""

    exit_status: ClassVar[int] = 1
    label: ClassVar[str] = "error"
    """What the line on stderr begins with; kubectl's words where it has its own."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message

    def about(self, name: str) -> Self:
        """Return the error with the name before it of what it is about."""
        return type(self)(f"{name}: {self.message}", self.hint)


class UsageError(AosError):
    """The command line itself is wrong."""

    exit_status = 2


class ManifestError(AosError):
    """A manifest can't be read or doesn't fit its kind."""


class NotFound(AosError):
    """The named object does not exist, or this principal may not see it."""

    label = "Error from server (NotFound)"


class UnknownKind(AosError):
    """No resource type has the name that was typed."""


class Conflict(AosError):
    """The object exists, is still used, or was changed meanwhile."""


class Contended(Conflict):
    """Two changes waited for each other and this one was taken back; done again it may pass."""


class AlreadyExists(Conflict):
    """What was to be made is there."""

    label = "Error from server (AlreadyExists)"


class IllegalTransition(Conflict):
    """The state machine has no such step from the present state."""


class ApprovalSettled(Conflict):
    """The approval is decided, expired, or stands for other arguments."""


class Denied(AosError):
    """The principal or the agent may not do this."""

    label = "Error from server (Forbidden)"


class LeaseLost(AosError):
    """Another worker holds the turn now; nothing of this attempt was written."""


class InvalidInput(AosError):
    """A value is out of range or of the wrong shape."""


class LimitReached(AosError):
    """A limit on steps, tokens, cost or size is used up."""

    exit_status = 5


class DatabaseUnavailable(AosError):
    """No database answers at the chosen address."""


class ReadOnly(AosError):
    """The server is a standby, or the session is set to change nothing."""


class TimedOut(AosError):
    """The database took longer than --request-timeout allows."""


class KernelMismatch(AosError):
    """The kernel in the database is missing or of another version."""


class ToolFailed(AosError):
    """A tool call was refused or failed; the model sees the message."""


class ProviderError(AosError):
    """A model service failed.

    `kind` is one of auth, rate_limit, overloaded, timeout, network, context_too_long,
    bad_request, truncated, server, no_key. `retry_after` is in seconds.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        *,
        kind: str = "server",
        retryable: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message, hint)
        self.kind = kind
        self.retryable = retryable
        self.retry_after = retry_after
        self.status = status


SQLSTATES: dict[str, type[AosError]] = {
    "AO001": NotFound,
    "AO002": IllegalTransition,
    "AO003": LeaseLost,
    "AO004": Denied,
    "AO005": Conflict,
    "AO006": InvalidInput,
    "AO007": LimitReached,
    "AO008": ApprovalSettled,
    "AO009": KernelMismatch,
    "AO010": Denied,
    "AO011": ToolFailed,
}
"""The kernel's own SQLSTATEs; `schema/README.md` lists their meaning."""

_SECRETS = (
    # scheme://user:password@host
    (r"(\b[a-z][a-z0-9+.-]*://[^\s:/@?#]*):[^\s@/]*@", r"\1:***@"),
    # password=... in a conninfo string or the query of a URI
    (r"\b((?:ssl)?password|passwd|api_?key)(\s*=\s*)('(?:[^'\\]|\\.)*'|[^\s&]+)", r"\1\2***"),
    (r"\b(sk-|AIza|xai-|gsk_)[A-Za-z0-9_-]{8,}", r"\1***"),
)


def redact_dsn(text: str) -> str:
    """Replace passwords of URIs and conninfo strings, and vendors' API keys, by `***`.

    What this process has opened as a secret becomes `[redacted]`.
    """
    import re

    from aosctl.redaction import redact

    text = redact(text)
    for pattern, replacement in _SECRETS:
        text = re.sub(pattern, replacement, text, flags=re.IGNORECASE)
    return text
