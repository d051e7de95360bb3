"""OpenTelemetry: what turns do as traces and metrics, with the GenAI semantic conventions.

Switched on by the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT and its like), with the extra
`otel`. Exporting is a thread's work beside the turns: what a collector does not take is dropped.
What was said goes along only where OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from aosctl import __version__
from aosctl.domain.otel_turn import Meters, TurnSpans

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from aosctl.db.leases import Lease

CLOSE_SECONDS = 3.0
"""How long what is left may take to go out when the process ends."""
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CONTENT_ON = frozenset({"true", "1", "span_only", "span_and_event"})
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"


def is_wanted(environment: Mapping[str, str], signal: str = "") -> bool:
    """Tell whether the standard variables ask for traces or metrics; for one `signal` of these."""
    if environment.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if not signal:
        return is_wanted(environment, "TRACES") or is_wanted(environment, "METRICS")
    exporter = environment.get(f"OTEL_{signal}_EXPORTER", "").strip().lower()
    if exporter:
        return exporter == "otlp"
    return bool(
        environment.get(_ENDPOINT) or environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    )


def why_not(environment: Mapping[str, str]) -> str | None:
    """Say why what the variables ask for can't be done; None where it can."""
    for signal in ("TRACES", "METRICS"):
        own = environment.get(f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL")
        protocol = own or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL") or "http/protobuf"
        if is_wanted(environment, signal) and protocol != "http/protobuf":
            return f"no OpenTelemetry: aosctl exports over http/protobuf, not over {protocol}"
    try:
        import opentelemetry.exporter.otlp.proto.http
        import opentelemetry.sdk  # noqa: F401 - whether it is there
    except ImportError:
        return "no OpenTelemetry: its SDK is not installed: pip install 'aosctl[otel]'"
    return None


class Telemetry:
    """Exports what all turns of this process do."""

    def __init__(self, environment: Mapping[str, str], parent: str | None = None) -> None:
        """`parent`: a traceparent under which all turns stand."""
        # The exporters tell of every failure on stderr, which is the user's terminal.
        logger = logging.getLogger("opentelemetry")
        logger.addHandler(logging.NullHandler())
        logger.propagate = False
        self._with_content = environment.get(CONTENT, "").strip().lower() in _CONTENT_ON
        self._parent = parent
        self._closers: list[Callable[[], object]] = []
        resource = _resource(environment)
        self._ids = _ids()
        self._tracer = self._traces(resource) if is_wanted(environment, "TRACES") else None
        self._meters = self._metrics(resource) if is_wanted(environment, "METRICS") else None

    def _traces(self, resource: Resource) -> Any:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        self._closers.append(provider.shutdown)
        return provider.get_tracer("aosctl", __version__)

    def _metrics(self, resource: Resource) -> Meters:
        from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        reader = PeriodicExportingMetricReader(OTLPMetricExporter())
        provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._closers.append(provider.shutdown)
        return Meters(provider.get_meter("aosctl", __version__))

    def begin(self, lease: Lease) -> TurnSpans:
        # One trace a turn, whichever processes drive it: its id is the turn's.
        self._ids.here.trace = lease.turn_id.int
        try:
            return TurnSpans(
                self._tracer,
                self._meters,
                lease,
                parent=self._parent,
                with_content=self._with_content,
            )
        finally:
            self._ids.here.trace = None

    def close(self) -> None:
        """Send what is left; a collector that does not answer holds nobody up for long."""
        threads = [threading.Thread(target=close, daemon=True) for close in self._closers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(CLOSE_SECONDS)


def _resource(environment: Mapping[str, str]) -> Resource:
    from opentelemetry.sdk.resources import Resource

    named = environment.get("OTEL_SERVICE_NAME") or "service.name=" in environment.get(
        "OTEL_RESOURCE_ATTRIBUTES", ""
    )
    own = {"service.version": __version__}
    return Resource.create(own if named else {"service.name": "aosctl", **own})


def _ids() -> Any:
    """Return what makes the ids of spans; `here.trace` is the trace of this thread's next root."""
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator

    class Ids(RandomIdGenerator):
        def __init__(self) -> None:
            self.here = threading.local()

        def generate_trace_id(self) -> int:
            chosen: int | None = getattr(self.here, "trace", None)
            return chosen or super().generate_trace_id()

    return Ids()
