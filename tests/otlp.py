"""A collector: a real server that takes traces and metrics over OTLP, HTTP with protobuf."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span as WireSpan

from talks import PATIENCE_SECONDS


@dataclass(frozen=True)
class Span:
    """A span as it came."""

    name: str
    kind: str
    trace: str
    id: str
    parent: str
    failed: bool
    nanoseconds: int
    attributes: dict[str, Any]
    events: list[str]


@dataclass(frozen=True)
class Point:
    """What a histogram holds of one set of attributes."""

    attributes: dict[str, Any]
    count: int
    sum: float
    bounds: list[float]


@dataclass
class Collector:
    """What was sent, and what is answered: `status`, or nothing while it `hangs`."""

    port: int = 0
    status: int = 200
    hangs: bool = False
    bodies: list[bytes] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    resources: list[dict[str, Any]] = field(default_factory=list)
    points: dict[str, list[Point]] = field(default_factory=dict)
    units: dict[str, str] = field(default_factory=dict)
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def span(self, name: str) -> Span:
        """Return the one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.paths.append(path)
        self.headers.append(headers)
        self.bodies.append(body)
        if path == "/v1/traces":
            self._take_traces(ExportTraceServiceRequest.FromString(body))
        elif path == "/v1/metrics":
            self._take_metrics(ExportMetricsServiceRequest.FromString(body))

    def _take_traces(self, sent: ExportTraceServiceRequest) -> None:
        for group in sent.resource_spans:
            self.resources.append(_values(group.resource.attributes))
            for scope in group.scope_spans:
                assert scope.scope.name == "aosctl"
                self.spans += map(_span, scope.spans)

    def _take_metrics(self, sent: ExportMetricsServiceRequest) -> None:
        for group in sent.resource_metrics:
            self.resources.append(_values(group.resource.attributes))
            for metric in (one for scope in group.scope_metrics for one in scope.metrics):
                self.units[metric.name] = metric.unit
                self.points[metric.name] = [
                    Point(_values(p.attributes), p.count, p.sum, list(p.explicit_bounds))
                    for p in metric.histogram.data_points
                ]


def _span(wire: WireSpan) -> Span:
    return Span(
        wire.name,
        WireSpan.SpanKind.Name(wire.kind).removeprefix("SPAN_KIND_"),
        wire.trace_id.hex(),
        wire.span_id.hex(),
        wire.parent_span_id.hex(),
        wire.status.code == wire.status.STATUS_CODE_ERROR,
        wire.end_time_unix_nano - wire.start_time_unix_nano,
        _values(wire.attributes),
        [event.name for event in wire.events],
    )


def _values(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(one) for one in value.array_value.values]
    if kind == "kvlist_value":
        return MessageToDict(value)
    return getattr(value, str(kind))


@contextmanager
def collector(*, status: int = 200, hangs: bool = False) -> Iterator[Collector]:
    """Run a collector in the block."""
    made = Collector(status=status, hangs=hangs)

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            made.take(self.path, {k.lower(): v for k, v in self.headers.items()}, body)
            if made.hangs:
                made.done.wait(PATIENCE_SECONDS)
                return
            self.send_response(made.status)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield made
        made.done.set()
        server.shutdown()
        thread.join()
