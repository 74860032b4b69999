"""What the worker says on standard error: text for people, JSON for machines. Called once, by commands."""

from __future__ import annotations

import logging
import math
import re
import sys
import time
from types import TracebackType
from typing import Any, Literal

import msgspec

from worker.errors import printable
from worker.records.log_fields import FIELDS

CHATTY = (
    "kafka",
    "h5py",
    "absl",
    "tensorflow",
    "botocore",
    "aiobotocore",
    "s3fs",
    "fsspec",
    "aiohttp",
    "urllib3",
    "opentelemetry",
)  # libraries whose info lines are not passed on
# Warnings of kafka-python at nearly every healthy start: topics whose metadata come a moment later (the worker itself
# looks whether its topics exist), and tasks of its own that take longer than 0.2 s on a busy machine.
HARMLESS = ("kafka.coordinator.assignors", "kafka.net.selector")
# The Kafka clients, kafka-python under its own name and confluent under ours, and the exporters of OpenTelemetry.
CLIENTS = ("kafka", "worker.kafka", "opentelemetry")
OURS = "worker"
REPEAT_INTERVAL_S = 60.0
LINES_OF_A_KIND = 100  # of our own in that time: one for each of many partitions is a line that somebody looks for
KINDS_LIMIT = 1_000


class Repeats(logging.Filter):
    """Drops lines that are repeated too often within a minute.

    A client library says each line once in that time: it tries an unreachable cluster many times a second. Lines that
    differ only in numbers count as the same line. Of our own lines LINES_OF_A_KIND differ only in what they are about;
    the first one after that minute says how many were kept back.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], tuple[float, int]] = {}  # kind → (since, lines in that time)

    def filter(self, record: logging.LogRecord) -> bool:
        """The first handler of a record decides for all."""
        known = vars(record)
        if "is_said" not in known:
            known["is_said"] = self._is_said(record)
        return bool(known["is_said"])

    def _is_said(self, record: logging.LogRecord) -> bool:
        if record.name.startswith(CLIENTS):
            return self._counted(record, record.getMessage()) == 1
        if record.name.startswith(OURS):
            return self._counted(record, str(record.msg)) <= LINES_OF_A_KIND
        return True

    def _counted(self, record: logging.LogRecord, text: str) -> int:
        """Which line of its kind this is, in this minute."""
        kind = record.name, re.sub("[0-9]+", "#", text)
        since, lines = self._said.get(kind, (-math.inf, 0))
        if 0 <= record.created - since < REPEAT_INTERVAL_S:
            self._said[kind] = since, lines + 1
            return lines + 1
        if len(self._said) >= KINDS_LIMIT:
            self._said.clear()
        self._said[kind] = record.created, 1
        if lines > LINES_OF_A_KIND and not record.name.startswith(CLIENTS):
            kept_back = lines - LINES_OF_A_KIND
            record.msg = f"{record.msg} (and {kept_back} more of this kind)"
            record.kept_back = kept_back
        return 1


class _Text(logging.Formatter):
    """One line for each record, whatever text it holds: the content of a topic can't forge lines of this log.

    The lines of a traceback follow, indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{moment}.{int(record.msecs):03d}Z {record.levelname.lower():<7} {printable(record.getMessage())}"
        if not record.exc_info:
            return line
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"    {printable(part)}" for part in traceback)])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **fields_of(record),
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        try:
            return msgspec.json.encode(fields).decode()
        except UnicodeEncodeError:  # half a surrogate pair, which is not text
            return msgspec.json.encode({name: printable(str(value)) for name, value in fields.items()}).decode()


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """What the line is about, by the names of FIELDS, as far as it says so."""
    return {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}


def configure_logs(form: Literal["text", "json"], level: str) -> None:
    """Log to standard error in this form, from this level up; libraries from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(Repeats())
    sys.excepthook = _unforeseen if form == "json" else sys.__excepthook__
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in HARMLESS:
        logging.getLogger(name).setLevel(max(logging.ERROR, root.level))


def _unforeseen(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    """A bug: its traceback is a line of the log, too."""
    logging.getLogger(OURS).critical("the worker has met a bug and ends", exc_info=(kind, error, traceback))
