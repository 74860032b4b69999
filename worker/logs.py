"""What the worker says on standard error: text for people, JSON for machines. Called once, by commands."""

from __future__ import annotations

import logging
import re
import sys
import time
from typing import Literal

import msgspec

from worker.errors import printable

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
)  # libraries whose info lines are not passed on
# Warnings of kafka-python at nearly every healthy start: topics whose metadata come a moment later (the worker itself
# looks whether its topics exist), and tasks of its own that take longer than 0.2 s on a busy machine.
HARMLESS = ("kafka.coordinator.assignors", "kafka.net.selector")
CLIENTS = ("kafka", "worker.kafka")  # the Kafka clients: kafka-python under its own name, confluent under ours
REPEAT_INTERVAL_S = 60.0
KINDS_LIMIT = 1_000


class _Repeats(logging.Filter):
    """Drops lines that a client library repeats within a minute: it tries an unreachable cluster many times a second.

    Lines that differ only in numbers count as the same line.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith(CLIENTS):
            return True
        kind = record.name, re.sub("[0-9]+", "#", record.getMessage())
        if record.created - self._said.get(kind, -REPEAT_INTERVAL_S) < REPEAT_INTERVAL_S:
            return False
        if len(self._said) >= KINDS_LIMIT:
            self._said.clear()
        self._said[kind] = record.created
        return True


class _Text(logging.Formatter):
    """One line for each record, whatever text it holds: the content of a topic can't forge lines of this log.

    The lines of a traceback follow, indented.
    """

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = f"{moment}.{int(record.msecs):03d}Z {record.levelname.lower():<7} {printable(record.getMessage())}"
        if record.exc_info is None:
            return line
        traceback = self.formatException(record.exc_info).split("\n")
        return "\n".join([line, *(f"    {printable(part)}" for part in traceback)])


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info is not None:
            fields["exception"] = self.formatException(record.exc_info)
        return msgspec.json.encode(fields).decode()


def configure_logs(form: Literal["text", "json"], level: str) -> None:
    """Log to standard error in this form, from this level up; libraries from warnings up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    handler.addFilter(_Repeats())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(logging.WARNING, root.level))
    for name in HARMLESS:
        logging.getLogger(name).setLevel(max(logging.ERROR, root.level))
