"""What a line of the log is about, beside its words: fields of JSON lines, and attributes where logs go by OTLP."""

from __future__ import annotations

from collections.abc import Iterable

from worker.records.ownership import Partition

LISTED_LIMIT = 1_000  # partitions of one line
FIELDS = (
    "topic", "partition", "offset", "partitions", "stream", "key", "error", "kept_back", "trace_id", "span_id",
)  # fmt: skip


def about(partition: Partition, offset: int | None = None, **more: object) -> dict[str, object]:
    """For ``extra`` of a call of the log. ``more``: names of FIELDS; what is None is left out."""
    fields = {"topic": partition.topic, "partition": partition.number, "offset": offset, **more}
    return {name: value for name, value in fields.items() if value is not None}


def about_all(partitions: Iterable[Partition]) -> dict[str, object]:
    """The same for a line about several partitions."""
    return {"partitions": [str(partition) for partition in partitions][:LISTED_LIMIT]}
