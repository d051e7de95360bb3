"""A worker's metrics in Prometheus' text, fed by the loop's events.

Names only, no content: providers, models, skills, states. Who talks to a model can make it invent
names of skills, and a tenant may have thousands; a label takes so many values, then `other`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

from aosctl.domain import loop_events as events

if TYPE_CHECKING:
    from aosctl.db.leases import Lease
    from aosctl.domain.loop_events import LoopEvent
    from aosctl.domain.transcript import Transcript

MOST_VALUES = 200
_LONGEST = 120
OTHER = "other"

TURN_SECONDS = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
MODEL_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320)
TOOL_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
WAIT_SECONDS = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 30)


class Metrics:
    """Counts what all turns of this process do; safe for many threads.

    `tenants`: label turns, answers and calls with the tenant's id, or its name where that is known.
    """

    def __init__(self, version: str, concurrency: int, *, tenants: bool) -> None:
        from prometheus_client import (
            CollectorRegistry,
            Counter,
            Gauge,
            Histogram,
            Info,
            ProcessCollector,
        )

        self._tenants = tenants
        self._named: tuple[UUID, str] | None = None
        self._values: dict[str, set[str]] = {}
        self._lock = threading.Lock()
        self.registry = registry = CollectorRegistry()
        more = ("tenant",) if tenants else ()
        served = ("provider", "model", *more)

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"aosctl_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            name = f"aosctl_{name}_seconds"
            return Histogram(name, text, labels, buckets=buckets, registry=registry)

        ProcessCollector(registry=registry)
        info = Info("aosctl_worker", "The worker's version", registry=registry)
        info.info({"version": version})
        gauge = Gauge("aosctl_worker_concurrency", "Turns at once, at most", registry=registry)
        gauge.set(concurrency)
        self._in_flight = Gauge("aosctl_turns_in_flight", "Turns driven now", registry=registry)
        self._asking = Gauge(
            "aosctl_model_calls_in_flight", "Questions that wait for a model", registry=registry
        )
        self._turns = counter("turns", "Turns by how driving them ended", "state", *more)
        self._turn_seconds = histogram("turn", "From a turn's lease to its end", TURN_SECONDS)
        self._lost = counter("leases_lost", "Leases that another worker had taken meanwhile")
        self._model_calls = counter(
            "model_calls", "Questions to models; outcome ok or the fault's kind", *served, "outcome"
        )
        self._model_seconds = histogram(
            "model_call", "From a question to its whole answer", MODEL_SECONDS, "provider", "model"
        )
        self._tokens = counter("model_tokens", "Tokens, as providers bill them", *served, "type")
        self._cost = counter("model_cost_usd", "What stored answers cost", *served)
        self._retries = counter("model_retries", "Questions put again after a fault")
        self._fallbacks = counter("model_fallbacks", "Turns that another model went on with")
        self._tool_calls = counter(
            "tool_calls", "Tool calls by skill and result", "skill", "result", *more
        )
        self._tool_seconds = histogram("tool_call", "From call to result", TOOL_SECONDS, "skill")
        self._wait = histogram("connection_wait", "Waits for a connection", WAIT_SECONDS)
        self._away = Gauge("aosctl_database_up", "1 while the database answers", registry=registry)
        self._draining = Gauge(
            "aosctl_worker_draining", "1 once no more turns are taken", registry=registry
        )

    def watch(
        self,
        named: tuple[UUID, str] | None,
        up: Callable[[], float],
        draining: Callable[[], float],
    ) -> None:
        """Ask these whenever somebody reads the metrics; `named`: a tenant, and its name."""
        self._named = named
        self._away.set_function(up)
        self._draining.set_function(draining)

    def waited(self, seconds: float) -> None:
        """Take note of what a call has waited for a connection."""
        self._wait.observe(seconds)

    def text(self) -> bytes:
        """Return all of it in Prometheus' text format, version 0.0.4."""
        from prometheus_client import generate_latest

        return generate_latest(self.registry)

    def begin(self, lease: Lease) -> _Turn:
        self._in_flight.inc()
        return _Turn(self, self._tenant(lease.tenant))

    def close(self) -> None:
        """Nothing is left to hand over."""

    def bounded(self, label: str, value: str, *, known: bool = True) -> str:
        """Return the value as a label, or `other` when there are too many; not `known`, too."""
        value = value[:_LONGEST]
        with self._lock:
            values = self._values.setdefault(label, set())
            if value not in values and known and len(values) < MOST_VALUES:
                values.add(value)
            return value if value in values else OTHER

    def _tenant(self, tenant: UUID) -> tuple[str, ...]:
        if not self._tenants:
            return ()
        name = self._named[1] if self._named and self._named[0] == tenant else str(tenant)
        return (self.bounded("tenant", name),)

    def _end(self, state: str, seconds: float, tenant: tuple[str, ...]) -> None:
        self._in_flight.dec()
        self._turns.labels(state, *tenant).inc()
        self._turn_seconds.observe(seconds)
        if state == "lost":
            self._lost.inc()


class _Turn:
    """What one turn adds to the metrics."""

    def __init__(self, to: Metrics, tenant: tuple[str, ...]) -> None:
        self._to = to
        self._tenant = tenant

    def see(self, event: LoopEvent) -> None:
        to = self._to
        match event:
            case events.ModelAsked():
                to._asking.inc()
            case events.ModelAnswered() | events.ModelFailed():
                self._answered(event)
            case events.AnswerStored(model, _, cost) if cost:
                to._cost.labels(*self._served(model)).inc(float(cost))
            case events.Retrying():
                to._retries.inc()
            case events.FellBack():
                to._fallbacks.inc()
            case events.CallEnded(call, ok, _, seconds):
                skill = self._call(call.skill, "ok" if ok else "failed")
                to._tool_seconds.labels(skill).observe(seconds)
            case events.CallRefused(call):
                self._call(call.skill, "refused", known=False)
            case events.ApprovalAsked(call):
                self._call(call.skill, "approval")
            case events.Delegated(call):
                self._call(call.skill, "delegated")

    def end(self, state: str, _known: Transcript, seconds: float) -> None:
        self._to._end(state, seconds, self._tenant)

    def _served(self, model: Any) -> tuple[str, ...]:
        to = self._to
        names = to.bounded("provider", model.provider), to.bounded("model", model.name)
        return (*names, *self._tenant)

    def _answered(self, event: events.ModelAnswered | events.ModelFailed) -> None:
        to, served = self._to, self._served(event.model)
        to._asking.dec()
        outcome = "ok" if isinstance(event, events.ModelAnswered) else event.kind
        to._model_calls.labels(*served, to.bounded("outcome", outcome)).inc()
        to._model_seconds.labels(*served[:2]).observe(event.seconds)
        if isinstance(event, events.ModelFailed) or event.message.usage is None:
            return
        usage = event.message.usage
        for kind, tokens in (
            ("input", usage.input),
            ("cache_read", usage.cache_read),
            ("cache_write", usage.cache_write),
            ("output", usage.output),
            ("reasoning", usage.reasoning),
        ):
            if tokens:
                to._tokens.labels(*served, kind).inc(tokens)

    def _call(self, skill: str, result: str, *, known: bool = True) -> str:
        name = self._to.bounded("skill", skill, known=known)
        self._to._tool_calls.labels(name, result, *self._tenant).inc()
        return name
