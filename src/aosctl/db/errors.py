"""The one place where PostgreSQL's errors become ours."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from aosctl import request
from aosctl.errors import (
    SQLSTATES,
    AosError,
    Conflict,
    Contended,
    DatabaseUnavailable,
    Denied,
    InvalidInput,
    KernelMismatch,
    ReadOnly,
    TimedOut,
    redact_dsn,
)

if TYPE_CHECKING:
    import psycopg

RETRYABLE = frozenset({"40001", "40P01", "23505", "55P03"})
"""A whole kernel call may be repeated on these: each carries an idempotency key."""

_LOCKED = "55P03"
_CONTENDED = frozenset({"40001", "40P01"})
_READ_ONLY = "25006"
_MISSING = frozenset({"42P01", "42883", "3F000"})
_SHUTTING_DOWN = frozenset({"57P01", "57P02", "57P03", "57P05"})
_EXHAUSTED = frozenset({"53000", "53100", "53200", "53300", "58030"})
"""Disk full, out of memory, too many connections, an I/O error: it may pass."""


def from_sqlstate(sqlstate: str | None, message: str, hint: str | None = None) -> AosError:
    """Return the error for a SQLSTATE; None or class 08 means that the connection is gone."""
    text = redact_dsn(" ".join(message.split("\n")).strip()) or "the server gave no reason"
    if sqlstate in SQLSTATES:
        return SQLSTATES[sqlstate](text, hint)
    if sqlstate is None or sqlstate.startswith("08") or sqlstate in _SHUTTING_DOWN:
        return DatabaseUnavailable(f"the connection to the database is lost: {text}", hint)
    if sqlstate in _EXHAUSTED:
        return DatabaseUnavailable(f"the server can't work at the moment: {text}", hint)
    if sqlstate in _MISSING and ("aos_" in text):
        return KernelMismatch(f"the kernel is not installed here: {text}", "aosctl db install")
    if sqlstate == "57014" and (seconds := request.current().timeout):
        return TimedOut(
            f"the database gave no answer within {seconds:g} s: {text}",
            "the same command with a longer --request-timeout; aosctl ps shows what works",
        )
    if sqlstate in (_READ_ONLY, _LOCKED, *_CONTENDED):
        return _not_here_or_now(sqlstate, text, hint)
    if sqlstate == "42501":
        return _denied(text, hint)
    if sqlstate.startswith("23"):
        return Conflict(text, hint)
    if sqlstate.startswith("22"):
        return InvalidInput(text, hint)
    return AosError(f"{text} (SQLSTATE {sqlstate})", hint)


REFUSED = {
    "cancel_run": "kill runs",
    "decide_approval": "approve approvals",
    "erase_tenant": "delete tenants",
    "export_tables": "export tenants",
    "fork_run": "fork runs",
    "grant_role": "apply principals",
    "open_run": "chat agents",
    "open_turn": "chat agents",
    "pause_run": "kill runs",
    "replay_run": "replay runs",
    "resolve_call": "resolve runs",
    "resume_run": "kill runs",
    "revoke_role": "apply principals",
    "steer_turn": "steer runs",
}
"""What PostgreSQL refuses a login that is in no group with the function, as can-i asks for it."""


def _denied(text: str, hint: str | None) -> Denied:
    """Say which right is missing, and who says why: a function's name is nobody's word for it."""
    function = text.removeprefix("permission denied for function ")
    if hint is None and (right := REFUSED.get(function)):
        return Denied(
            f'the login lacks the right "{right}": {text}',
            f"aosctl auth can-i {right} says which role has it",
        )
    return Denied(text, hint or "aosctl auth can-i --list says what the login may do, and why not")


def _not_here_or_now(sqlstate: str, text: str, hint: str | None) -> AosError:
    if sqlstate == _READ_ONLY:
        return ReadOnly(
            f"a read-only standby, or session, in which nothing can be changed: {text}",
            hint or "the same on the primary: with its --context or --dsn",
        )
    if sqlstate in _CONTENDED:
        return Contended(f"another change was in the way: {text}", hint or "the same again")
    return Conflict(
        f"another session holds what this needs: {text}",
        hint or "the same again, or with a longer --timeout",
    )


def from_psycopg(error: psycopg.Error) -> AosError:
    """Translate an error of psycopg; the server's own message and hint are kept."""
    import psycopg

    diagnostics = error.diag
    message = diagnostics.message_primary or str(error) or type(error).__name__
    if error.sqlstate is None and not isinstance(
        error, psycopg.OperationalError | psycopg.InterfaceError
    ):
        return InvalidInput(redact_dsn(message))  # psycopg itself refused a value
    return from_sqlstate(error.sqlstate, message, diagnostics.message_hint)


@contextmanager
def translated() -> Iterator[None]:
    """Turn psycopg's errors in the block into ours."""
    try:
        yield
    except AosError:
        raise
    except Exception as error:
        import psycopg

        if isinstance(error, psycopg.Error):
            raise from_psycopg(error) from error
        raise


def to_json(value: object) -> str:
    """Write JSON for a jsonb parameter; refuses NaN, which jsonb has no word for."""
    return "".join(_WRITE(value, 0))


def _writer() -> Callable[[object, int], Iterable[str]]:
    """Return what writes a value in pieces, made once: json.dumps makes one for each value.

    A value that holds itself ends as one that is nested too deep does, with RecursionError.
    """
    made = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    from_c = getattr(json.encoder, "c_make_encoder", None)
    if from_c is None:
        return lambda value, _: made.iterencode(value)
    text = json.encoder.encode_basestring
    write: Callable[[object, int], Iterable[str]] = from_c(
        None, made.default, text, None, ":", ",", False, False, False
    )
    return write


_WRITE = _writer()
