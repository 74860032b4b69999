"""Lines of the log as OpenTelemetry's log records, with the same fields."""

from __future__ import annotations

import logging
from typing import Any

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.trace import TraceFlags

from worker.logs import Repeats, fields_of

# By the conventions for messaging, as far as they have a name for it.
ATTRIBUTES = {
    "topic": "messaging.destination.name",
    "partition": "messaging.destination.partition.id",
    "offset": "messaging.kafka.offset",
    "key": "messaging.kafka.message.key",
    "error": "error.type",
    "stream": "rnnw.stream",
    "partitions": "rnnw.partitions",
    "kept_back": "rnnw.kept_back",
}
NOT_ABOUT = ("opentelemetry", "urllib3", "requests")  # the export itself: its lines would make more of them
SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL, "FATAL"),
    (logging.ERROR, SeverityNumber.ERROR, "ERROR"),
    (logging.WARNING, SeverityNumber.WARN, "WARN"),
    (logging.INFO, SeverityNumber.INFO, "INFO"),
    (logging.NOTSET, SeverityNumber.DEBUG, "DEBUG"),
)
NS = 1_000_000_000


class ExportHandler(logging.Handler):
    """Hands lines over to ``logger``, as often as the log on standard error has them."""

    def __init__(self, logger: Logger) -> None:
        super().__init__()
        self._logger = logger
        self.addFilter(Repeats())

    def emit(self, record: logging.LogRecord) -> None:
        """Hand over one line, to be exported later."""
        if not record.name.startswith(NOT_ABOUT):
            self._logger.emit(_exported(record))


def _exported(record: logging.LogRecord) -> LogRecord:
    fields = fields_of(record)
    number, text = next((number, text) for level, number, text in SEVERITIES if record.levelno >= level)
    trace_id, span_id = fields.pop("trace_id", None), fields.pop("span_id", None)
    attributes: dict[str, Any] = {ATTRIBUTES[name]: value for name, value in fields.items()}
    if "partition" in fields:
        attributes[ATTRIBUTES["partition"]] = str(fields["partition"])
    if record.exc_info and record.exc_info[0] is not None:
        kind, error, _ = record.exc_info
        attributes["exception.type"], attributes["exception.message"] = kind.__name__, str(error)
        attributes["exception.stacktrace"] = logging.Formatter().formatException(record.exc_info)
    return LogRecord(
        timestamp=int(record.created * NS),
        observed_timestamp=int(record.created * NS),
        trace_id=None if trace_id is None else int(trace_id, 16),
        span_id=None if span_id is None else int(span_id, 16),
        trace_flags=None if trace_id is None else TraceFlags(TraceFlags.SAMPLED),
        severity_number=number,
        severity_text=text,
        body=record.getMessage(),
        attributes={**attributes, "rnnw.logger": record.name},
    )
