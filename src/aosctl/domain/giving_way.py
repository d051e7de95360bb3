"""What comes after a model has failed and asking it again is over: another one, or the queue."""

from __future__ import annotations

from math import ceil

from aosctl.db.leases import Lease, Moved
from aosctl.db.worker import WorkerClient
from aosctl.domain.loop_events import FellBack, Observer, Outcome
from aosctl.errors import ProviderError, redact_dsn

PUT_OFF_SECONDS = 3600
"""For how long a service may ask to be left alone, for a turn to wait that long in the queue."""


class StandIns:
    """Asks the kernel who answers in a model's place; knows whether somebody does in this turn."""

    def __init__(self, client: WorkerClient, *, patient: bool) -> None:
        """`patient`: nobody sits before the turns, so that they may wait in the queue."""
        self._client = client
        self._patient = patient
        self.at_work = False

    def fall_back(
        self, lease: Lease, model: str, error: ProviderError, observe: Observer
    ) -> Moved | None:
        """Have another model answer the rest of the turn; None when there is none."""
        if not _is_worth_another(error):
            return None
        reason = redact_dsn(error.message)
        fell = self._client.fall_back(lease, model, error.kind, reason)
        if fell is None:
            return None
        self.at_work = True
        observe(FellBack(reason, fell[0]))
        return fell[1]

    def put_off(self, lease: Lease, error: ProviderError) -> Outcome | None:
        """Give the turn back to the queue for as long as the service asks; None where it may not.

        Instead of having this worker wait. The kernel counts how often.
        """
        wait = error.retry_after
        if not self._patient or not error.retryable or wait is None or wait > PUT_OFF_SECONDS:
            return None
        message = redact_dsn(f"service: {error.message}")
        self._client.fail(lease, message, ceil(wait))
        return Outcome("queued", lease.turn, error=message)


def _is_worth_another(error: ProviderError) -> bool:
    """Tell whether another model may answer where this one failed.

    Not where the request itself was refused: it would be again, and is to be set right. A model
    that its service does not know (404) is another matter.
    """
    return error.kind != "bad_request" or error.status == 404
