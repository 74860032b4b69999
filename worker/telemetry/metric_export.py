"""Exports the metrics of a registry again and again, on a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING

from opentelemetry.sdk.metrics.export import MetricExporter, MetricsData, ResourceMetrics, ScopeMetrics
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope

from worker.telemetry.metric_points import metric_points

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

log = logging.getLogger("worker.telemetry")

INTERVAL = "OTEL_METRIC_EXPORT_INTERVAL"
INTERVAL_MS = 60_000  # the standard's
LEAST_INTERVAL_MS = 100


class MetricExport:
    """Begins at once. ``scope`` names who counts."""

    def __init__(
        self,
        registry: CollectorRegistry,
        exporter: MetricExporter,
        resource: Resource,
        scope: InstrumentationScope,
        interval_ms: int,
    ) -> None:
        self._registry, self._exporter, self._resource, self._scope = registry, exporter, resource, scope
        self._interval_s = interval_ms / 1000
        self._started_ns = time.time_ns()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._repeat, name="metric-export", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Export once more. Safe to call twice; may take as long as the collector."""
        if not self._ended.is_set():
            self._ended.set()
            self._thread.join()
            self._export()
            self._exporter.shutdown()

    def _repeat(self) -> None:
        while not self._ended.wait(self._interval_s):
            self._export()

    def _export(self) -> None:
        try:
            metrics = list(metric_points(self._registry.collect(), self._started_ns, time.time_ns()))
            scopes = [ScopeMetrics(self._scope, metrics, "")]
            self._exporter.export(MetricsData([ResourceMetrics(self._resource, scopes, "")]))
        except Exception:
            log.exception("metrics are not exported now")


def interval_ms(environ: Mapping[str, str]) -> int:
    """Between two exports; the standard's where the variable says nothing that can be used."""
    text = environ.get(INTERVAL) or str(INTERVAL_MS)
    try:
        given = int(text)
    except ValueError:
        given = 0
    if given >= LEAST_INTERVAL_MS:
        return given
    log.warning(
        "%s: '%s' is not a number of milliseconds from %d on; taking %d", INTERVAL, text, LEAST_INTERVAL_MS, INTERVAL_MS
    )
    return INTERVAL_MS
