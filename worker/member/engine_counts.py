"""The engine's counts, as metrics, and the warnings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

from worker.engine.engine import Engine
from worker.engine.feedback import FeedbackEngine
from worker.records.events import Reset

if TYPE_CHECKING:
    from worker.web.metrics import Metrics

AnyEngine: TypeAlias = Engine | FeedbackEngine

FULL = "state.max_streams %d is reached in a partition: %d longest idle streams forgotten so far"
DOUBLED = (
    "streams are live in two partitions of a topic, %d so far, the last is '%s' in %s and %s: each partition keeps its "
    "own state, and neither is right; partition records by what names the stream (input.stream)"
)
SOURCES_DROPPED = "sources were ended by a boundary (id, start, gap) before they were complete, %d so far: no output"


class EngineCounts:
    """The engine counts since its start; metrics get what was added since the last look."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[str, int] = {}
        self._resets = self._ended = [0] * len(Reset)

    def count(self, engine: AnyEngine) -> Iterator[tuple[Any, ...]]:
        """Sets the metrics; yields (kind, message, values…) for each warning."""
        metrics, table = self._metrics, engine.table
        metrics.state_bytes.set(len(table) * table.initial.nbytes)
        resets = engine.resets.tolist()
        for reset, before, after in zip(Reset, self._resets, resets, strict=True):
            if after > before:
                metrics.sequences_started.labels(reset.name.lower()).inc(after - before)
        self._resets = resets
        ended = (table.ended + engine.ended if isinstance(engine, Engine) else table.ended).tolist()
        for reset, before, after in zip(Reset, self._ended, ended, strict=True):
            if after > before:
                metrics.sequences_ended.labels(reset.name.lower()).inc(after - before)
        self._ended = ended
        metrics.waves.inc(self._added("waves", engine.waves))
        metrics.events_late.inc(self._added("late", engine.late))
        metrics.commands_without_stream.inc(self._added("without_stream", engine.without_stream))
        metrics.streams_evicted.labels("idle").inc(self._added("idle", table.idle))
        if evicted := self._added("evicted", table.evicted):
            metrics.streams_evicted.labels("evicted").inc(evicted)
            yield "evicted", FULL, table.limit, table.evicted
        if doubled := self._added("doubled", table.doubles.count):
            metrics.streams_doubled.inc(doubled)
            assert table.doubles.last is not None
            yield "doubled", DOUBLED, table.doubles.count, *table.doubles.last
        if isinstance(engine, Engine):
            metrics.step_rows.labels("event").inc(self._added("rows", engine.rows))
            metrics.events_unanswered.inc(self._added("unanswered", engine.unanswered))
            metrics.step_rows.labels("padding").inc(self._added("padding", engine.padding))
        else:
            yield from self._count_texts(engine)

    def _count_texts(self, engine: FeedbackEngine) -> Iterator[tuple[Any, ...]]:
        metrics = self._metrics
        metrics.items_drawn.inc(self._added("items_drawn", engine.items_drawn))
        metrics.items_fed.inc(self._added("items_fed", engine.items_fed))
        for partition, known in engine.table.partitions.items():
            metrics.of(metrics.unfinished_records, partition).set(len(known.unfinished))
        if dropped := self._added("sources_dropped", engine.sources_dropped):
            metrics.sources_dropped.inc(dropped)
            yield "sources dropped", SOURCES_DROPPED, engine.sources_dropped

    def _added(self, name: str, now: int) -> int:
        before, self._told[name] = self._told.get(name, 0), now
        return now - before
