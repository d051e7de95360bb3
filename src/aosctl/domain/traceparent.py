"""Which trace a tool acts for, as W3C Trace Context says it to the service that it calls."""

from __future__ import annotations

import threading
from collections.abc import Mapping

_here = threading.local()


def carry(headers: Mapping[str, str] | None) -> None:
    """Have tools that this thread calls from now on name their trace; None for no more."""
    _here.headers = dict(headers) if headers else {}


def carried() -> dict[str, str]:
    """Return traceparent, and perhaps tracestate; nothing where nobody traces."""
    return dict(getattr(_here, "headers", {}))
