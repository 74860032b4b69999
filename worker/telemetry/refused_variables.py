"""Variables of OpenTelemetry with values that its packages refuse: a line says so, and the worker goes on."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping, Sequence

log = logging.getLogger("worker.telemetry")

VARIABLE = re.compile(r"OTEL_[A-Z_]+")
# What belongs to one signal, by the beginnings of names; the others are of all. Never values of headers: secrets.
OF_A_SIGNAL: Mapping[str, tuple[str, ...]] = {
    "TRACES": ("OTEL_BSP_", "OTEL_SPAN_", "OTEL_EVENT_", "OTEL_LINK_", "OTEL_TRACES_", "OTEL_EXPORTER_OTLP_TRACES_"),
    "METRICS": ("OTEL_METRIC", "OTEL_EXPORTER_OTLP_METRICS_"),
    "LOGS": ("OTEL_BLRP_", "OTEL_LOG", "OTEL_EXPORTER_OTLP_LOGS_"),
}
PLACES = ("_ENDPOINT", "_PROTOCOL", "_HEADERS", "OTEL_SERVICE_NAME", "OTEL_RESOURCE_ATTRIBUTES")  # are never refused
SETTINGS = {  # by the words with which the SDK refuses them
    "max_queue_size": "MAX_QUEUE_SIZE",
    "schedule_delay_millis": "SCHEDULE_DELAY",
    "max_export_batch_size": "MAX_EXPORT_BATCH_SIZE",
}


def not_exported(environ: Mapping[str, str], signals: Sequence[str], error: Exception) -> None:
    """One warning: what is not exported, why, and which of the variables that are set may be to blame."""
    log.warning(
        "opentelemetry: %s are not exported: %s%s",
        ", ".join(signal.lower() for signal in signals), _said(error), _named(environ, signals, str(error)),
    )  # fmt: skip


def _said(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split()).rstrip(".")


def _named(environ: Mapping[str, str], signals: Sequence[str], said: str) -> str:
    if VARIABLE.search(said):
        return ""
    others = [name for signal, names in OF_A_SIGNAL.items() if signal not in signals for name in names]
    found = [name for name in environ if VARIABLE.match(name) and not name.startswith(tuple(others))]
    found = sorted(name for name in found if environ[name] and not name.endswith(PLACES))
    words = [ending for word, ending in SETTINGS.items() if word in said]
    told = [name for name in found if name.endswith(tuple(words))] or found
    return f" ({', '.join(told)})" if told else ""
