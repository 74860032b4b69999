"""Traces, metrics and logs, on their way to a collector by OTLP. Endpoints, headers, certificates, time-outs, batches
and the sampler are OpenTelemetry's own, set by its variables (OTEL_*).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING

from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from worker.telemetry.identity import SERVICE, Identity
from worker.telemetry.log_handler import ExportHandler
from worker.telemetry.metric_export import MetricExport, interval_ms
from worker.telemetry.refused_variables import not_exported
from worker.telemetry.turn_spans import TurnSpans

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger("worker.telemetry")

CLOSE_S = 5.0  # for the last spans, metrics and lines to reach the collector


class Telemetry:
    """What is exported for one worker: ``spans`` of its turns if traces are wanted; metrics and logs by themselves.

    Nothing waits for the collector: what it does not take in time is dropped, and the log says so.
    """

    def __init__(
        self, signals: Collection[str], environ: Mapping[str, str], registry: CollectorRegistry, identity: Identity
    ) -> None:
        self.spans: TurnSpans | None = None
        self._handler: ExportHandler | None = None
        self._closing: list[tuple[Callable[[], object], Callable[[], object]]] = []  # export the rest; give it up
        begun, resource = [], _resource(identity)
        begin = {
            "TRACES": lambda: self._begin_traces(resource, identity),
            "METRICS": lambda: self._begin_metrics(resource, identity, registry, interval_ms(environ)),
            "LOGS": lambda: self._begin_logs(resource, identity),
        }
        for signal in signals:
            try:
                begin[signal]()
            except Exception as error:  # noqa: BLE001 (whatever the SDK raises for a variable; the worker goes on)
                not_exported(environ, (signal,), error)
            else:
                begun.append(signal.lower())
        if begun:
            log.info("opentelemetry: exporting %s", ", ".join(begun))

    def _begin_traces(self, resource: Resource, identity: Identity) -> None:
        exporter = OTLPSpanExporter()
        processor = BatchSpanProcessor(exporter)
        traces = TracerProvider(resource=resource, shutdown_on_exit=False)
        traces.add_span_processor(processor)
        self.spans = TurnSpans(traces.get_tracer(SERVICE, identity.version), identity.group)
        self._closing.append((traces.shutdown, exporter.shutdown))

    def _begin_metrics(
        self, resource: Resource, identity: Identity, registry: CollectorRegistry, interval_ms: int
    ) -> None:
        exporter = OTLPMetricExporter()
        scope = InstrumentationScope(SERVICE, identity.version)
        metrics = MetricExport(registry, exporter, resource, scope, interval_ms)
        self._closing.append((metrics.close, exporter.shutdown))

    def _begin_logs(self, resource: Resource, identity: Identity) -> None:
        exporter = OTLPLogExporter()
        processor = BatchLogRecordProcessor(exporter)
        logs = LoggerProvider(resource=resource, shutdown_on_exit=False)
        logs.add_log_record_processor(processor)
        self._handler = ExportHandler(logs.get_logger(SERVICE, identity.version))
        logging.getLogger().addHandler(self._handler)
        self._closing.append((logs.shutdown, exporter.shutdown))

    def ends(self, error: Exception) -> None:
        """The worker ends with this error, which is said elsewhere, too."""
        if self._handler is not None:
            record = logging.LogRecord("worker", logging.CRITICAL, "", 0, "%s", (error,), None)
            record.error = type(error).__name__
            self._handler.handle(record)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Export what is left, in this time at most. Safe to call twice."""
        if self._handler is not None:
            logging.getLogger().removeHandler(self._handler)
        closing, self._closing = self._closing, []
        threads = [threading.Thread(target=close, name="telemetry-close", daemon=True) for close, _ in closing]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout_s / len(threads))
        late = [give_up for thread, (_, give_up) in zip(threads, closing, strict=True) if thread.is_alive()]
        if late:
            log.warning("opentelemetry: the collector has not taken all within %g s; the rest is dropped", timeout_s)
            logging.getLogger("opentelemetry").setLevel(logging.CRITICAL)  # it says the same in many words
        for give_up in late:
            give_up()


def _resource(identity: Identity) -> Resource:
    """Ours first: the variables say better."""
    return Resource.create(identity.attributes()).merge(OTELResourceDetector().detect())
