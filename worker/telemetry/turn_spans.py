"""A span for a turn now and then, linked to the spans that wrote its records.

A turn answers records of many traces, so its span is in none of them, and links to them: the convention for batches.
What is written carries the trace of its record (``records.trace_headers``). Spans are made for so few turns that no
stream of records makes them cost anything; the variables of OpenTelemetry (OTEL_TRACES_SAMPLER) make fewer of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from typing import Protocol, TypeAlias

from opentelemetry.trace import Link, SpanContext, SpanKind, TraceFlags, Tracer

from worker.records.record_batch import RecordBatch
from worker.records.trace_headers import TraceContext, trace_context

LINKS_LIMIT = 128  # of a span, as the SDK's own limit
LINKED_INTERVAL_S = 0.25  # between two spans of turns with traced records
UNLINKED_INTERVAL_S = 1.0  # between two of turns without any
NS = 1_000_000_000

Value: TypeAlias = str | int | bool


class Counted(Protocol):
    """Anything of which there are so many."""

    def __len__(self) -> int: ...


class Answered(Protocol):
    """What became of one batch: ``pipeline.Outcome``."""

    @property
    def batch(self) -> RecordBatch: ...
    @property
    def events(self) -> int: ...
    @property
    def outputs(self) -> Counted: ...
    @property
    def refusals(self) -> Counted: ...
    @property
    def advances(self) -> bool: ...


class TurnSpans:
    """Time is an argument, in seconds since the epoch."""

    def __init__(self, tracer: Tracer, group: str) -> None:
        self._tracer, self._group = tracer, group
        self._linked_at = self._unlinked_at = -math.inf  # the last span of each kind

    def turned(self, outcomes: Sequence[Answered], began_s: float, ended_s: float) -> None:
        """A turn has answered these. Records that were read before, or are replayed, are in no span."""
        if abs(ended_s - self._linked_at) < LINKED_INTERVAL_S:
            return
        read = [outcome for outcome in outcomes if outcome.advances and not outcome.batch.replay]
        if not read:
            return
        links = list(_first(LINKS_LIMIT, (outcome.batch for outcome in read)))
        if not links and abs(ended_s - self._unlinked_at) < UNLINKED_INTERVAL_S:
            return
        if links:
            self._linked_at = ended_s
        else:
            self._unlinked_at = ended_s
        topics = sorted({outcome.batch.partition.topic for outcome in read})
        name = f"process {topics[0]}" if len(topics) == 1 else "process"
        attributes = {**_told(read, topics), "messaging.consumer.group.name": self._group}
        span = self._tracer.start_span(
            name, kind=SpanKind.CONSUMER, attributes=attributes, links=links, start_time=int(began_s * NS)
        )
        span.end(int(max(began_s, ended_s) * NS))


def _told(read: Sequence[Answered], topics: Sequence[str]) -> dict[str, Value]:
    """The attributes of a turn, by the conventions for messaging as far as they have a name for it."""
    told: dict[str, Value] = {
        "messaging.system": "kafka",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.batch.message_count": sum(len(outcome.batch) for outcome in read),
        "rnnw.events": sum(outcome.events for outcome in read),
        "rnnw.outputs": sum(len(outcome.outputs) for outcome in read),
        "rnnw.refused": sum(len(outcome.refusals) for outcome in read),
    }
    if len(topics) == 1:
        told["messaging.destination.name"] = topics[0]
    partitions = {outcome.batch.partition for outcome in read}
    if len(partitions) == 1:
        ((_, number),) = partitions
        told["messaging.destination.partition.id"] = str(number)
        told["messaging.kafka.offset"] = read[0].batch.offsets[0]
    return told


def _first(most: int, batches: Iterable[RecordBatch]) -> Iterator[Link]:
    """Links to the spans that wrote these records, where somebody keeps them; the first ones of different spans."""
    seen: set[TraceContext] = set()
    for batch in batches:
        if not any(batch.headers):
            continue
        for headers, offset in zip(batch.headers, batch.offsets, strict=True):
            context = trace_context(headers) if headers else None
            if context is None or not context.sampled or context in seen:
                continue
            if len(seen) == most:
                return
            seen.add(context)
            yield Link(
                SpanContext(int(context.trace_id, 16), int(context.span_id, 16), True, TraceFlags(TraceFlags.SAMPLED)),
                {"messaging.destination.partition.id": str(batch.partition.number), "messaging.kafka.offset": offset},
            )
