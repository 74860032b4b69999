"""A collector of OpenTelemetry in the test's process: takes what comes by OTLP over HTTP, and shows it."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

REQUESTS: dict[str, Any] = {
    "/v1/traces": ExportTraceServiceRequest,
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1/logs": ExportLogsServiceRequest,
}


class Collector:
    """``status``: what it answers. ``endpoint``: for OTEL_EXPORTER_OTLP_ENDPOINT."""

    def __init__(self) -> None:
        self.status = 200
        self.asked = 0
        self._lock = threading.Lock()
        self._got: list[tuple[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def take(self, path: str, body: bytes) -> None:
        with self._lock:
            self.asked += 1
            if self.status == 200:
                self._got.append((path, REQUESTS[path].FromString(body)))

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def spans(self) -> list[Any]:
        return [
            span for request in self._of("/v1/traces") for whole in request.resource_spans
            for part in whole.scope_spans for span in part.spans
        ]  # fmt: skip

    def lines(self) -> list[Any]:
        """Log records."""
        return [
            line for request in self._of("/v1/logs") for whole in request.resource_logs
            for part in whole.scope_logs for line in part.log_records
        ]  # fmt: skip

    def metrics(self) -> dict[str, Any]:
        """The metrics of the last export, by their names."""
        last = self._of("/v1/metrics")[-1:]
        return {
            metric.name: metric for request in last for whole in request.resource_metrics
            for part in whole.scope_metrics for metric in part.metrics
        }  # fmt: skip

    def resources(self) -> list[dict[str, Any]]:
        """The attributes of everybody who exported."""
        fields = {"/v1/traces": "resource_spans", "/v1/metrics": "resource_metrics", "/v1/logs": "resource_logs"}
        with self._lock:
            got = list(self._got)
        return [attributes(whole.resource) for path, request in got for whole in getattr(request, fields[path])]

    def _of(self, path: str) -> list[Any]:
        with self._lock:
            return [request for each, request in self._got if each == path]


def attributes(of: Any) -> dict[str, Any]:
    """As a dictionary."""
    return {each.key: _value(each.value) for each in of.attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    return [_value(each) for each in value.array_value.values] if kind == "array_value" else getattr(value, kind)


def _handler(collector: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            collector.take(self.path, gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body)
            self.send_response(collector.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@contextmanager
def running_collector() -> Iterator[Collector]:
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()
