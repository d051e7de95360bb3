"""OpenTelemetry: what turns do as traces and metrics, with the GenAI semantic conventions.

Switched on by the standard variables (OTEL_EXPORTER_OTLP_ENDPOINT and its like), with the extra
`otel`. Exporting is a thread's work beside the turns: what a collector does not take is dropped.
What was said goes along only where OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT asks for it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from aosctl import __version__
from aosctl.domain.otel_meters import Meters
from aosctl.domain.otel_turn import TurnSpans

if TYPE_CHECKING:
    from opentelemetry.sdk.resources import Resource

    from aosctl.db.leases import Lease

CLOSE_SECONDS = 2.0
"""How long what is left may take to go out when the process ends."""
CONTENT = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
_CONTENT_ON = frozenset({"true", "1", "span_only", "span_and_event"})
_ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_SIGNALS = ("TRACES", "METRICS")
_PROTOCOL = "http/protobuf"


def is_wanted(environment: Mapping[str, str], signal: str = "") -> bool:
    """Tell whether the standard variables ask for traces or metrics; for one `signal` of these."""
    if environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    if not signal:
        return any(is_wanted(environment, each) for each in _SIGNALS)
    exporters = environment.get(f"OTEL_{signal}_EXPORTER", "").lower()
    if exporters.strip():
        return "otlp" in (name.strip() for name in exporters.split(","))
    return bool(
        environment.get(_ENDPOINT) or environment.get(f"OTEL_EXPORTER_OTLP_{signal}_ENDPOINT")
    )


def why_not(environment: Mapping[str, str]) -> str | None:
    """Say on one line why what the variables ask for can't be done; None where it can."""
    wanted = [signal for signal in _SIGNALS if is_wanted(environment, signal)]
    for signal in wanted:
        named = next((name for name in _protocols(signal) if environment.get(name)), "")
        protocol = environment.get(named, _PROTOCOL)
        if protocol != _PROTOCOL:
            why = f"no OpenTelemetry: aosctl exports over {_PROTOCOL}, not over {protocol}"
            return f"{why}: export {named}={_PROTOCOL}"
    _hush()
    try:
        for signal in wanted:
            _exporter(signal)
    except ImportError:
        return "no OpenTelemetry: its SDK is not installed: pip install 'aosctl[otel]'"
    except Exception as error:  # a time-out that is no number, a compression that nobody knows
        why = " ".join(str(error).split())
        return f"no OpenTelemetry: {why}: export OTEL_SDK_DISABLED=true switches it off"
    return None


def _protocols(signal: str) -> tuple[str, str]:
    """Name the variables that say how a signal goes out, the one that counts more first."""
    return f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"


class Telemetry:
    """Exports what all turns of this process do."""

    def __init__(self, environment: Mapping[str, str], parent: str | None = None) -> None:
        """`parent`: a traceparent under which all turns stand."""
        _hush()
        self._with_content = environment.get(CONTENT, "").strip().lower() in _CONTENT_ON
        self._parent = parent
        self._outlets: list[_Outlet] = []
        self._ids = _ids()
        self._tracer: Any = None
        self._meters: Meters | None = None
        resource = _resource(environment)
        with suppress(ValueError):  # OTEL_BSP_…: a queue without room; the turns go on
            if is_wanted(environment, "TRACES"):
                self._tracer = self._traces(resource)
        with suppress(ValueError):
            if is_wanted(environment, "METRICS"):
                self._meters = self._metrics(resource)

    def _traces(self, resource: Resource) -> Any:
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor

        provider = TracerProvider(resource=resource, id_generator=self._ids, shutdown_on_exit=False)
        exporter, session = _exporter("TRACES")
        provider.add_span_processor(BatchSpanProcessor(exporter))
        self._outlets.append(_Outlet(provider.shutdown, exporter, session))
        return provider.get_tracer("aosctl", __version__)

    def _metrics(self, resource: Resource) -> Meters:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

        exporter, session = _exporter("METRICS")
        reader = PeriodicExportingMetricReader(exporter)
        provider = MeterProvider([reader], resource=resource, shutdown_on_exit=False)
        self._outlets.append(_Outlet(provider.shutdown, exporter, session))
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
        until = time.monotonic() + CLOSE_SECONDS
        for outlet in self._outlets:
            outlet.close()
        for outlet in self._outlets:
            outlet.thread.join(max(until - time.monotonic(), 0))


class _Outlet:
    """One signal on its way to the collector.

    Its thread waits from the beginning on, as Python begins none once the process ends.
    """

    def __init__(self, shutdown: Callable[[], object], exporter: Any, session: Any) -> None:
        self._shutdown = shutdown
        self._exporter = exporter
        self._session = session
        self._closing = threading.Event()
        self.thread = threading.Thread(target=self._wait, name="telemetry", daemon=True)
        self.thread.start()

    def close(self) -> None:
        """Send what is left, each batch once. What was failing already gets no other try."""
        self._session.tries_again = False
        if self._session.failed:
            with suppress(Exception):
                self._exporter.shutdown()
        self._closing.set()

    def _wait(self) -> None:
        self._closing.wait()
        with suppress(Exception):
            self._shutdown()


def _exporter(signal: str) -> tuple[Any, Any]:
    """Return what sends a signal as the variables say, and the session that it sends with."""
    session = _session()
    if signal == "TRACES":
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

        return OTLPSpanExporter(session=session), session
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter

    return OTLPMetricExporter(session=session), session


def _session() -> Any:
    """Return a session that knows whether it reached the collector.

    The exporter tries again for ten seconds; an error of a kind that it does not know ends that.
    """
    import requests

    class Session(requests.Session):
        tries_again = True
        failed = False

        def request(self, *args: Any, **kwargs: Any) -> requests.Response:
            try:
                response = super().request(*args, **kwargs)
            except requests.RequestException as error:
                self.failed = True
                if self.tries_again:
                    raise
                raise ConnectionAbortedError(str(error)) from None
            self.failed = response.status_code >= 400
            if self.failed and not self.tries_again:
                raise ConnectionAbortedError(response.reason)
            return response

    return Session()


def _hush() -> None:
    """Keep what the exporters say of every failure off stderr, which is the user's terminal."""
    logger = logging.getLogger("opentelemetry")
    if not logger.handlers:
        logger.addHandler(logging.NullHandler())
    logger.propagate = False


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
