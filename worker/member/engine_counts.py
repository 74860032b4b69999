"""The engine's counts, as metrics, and the warnings that follow from them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from worker.engine.engine import Engine
from worker.records.events import Reset

if TYPE_CHECKING:
    from worker.web.metrics import Metrics

FULL = "state.max_streams %d is reached in a partition: %d longest idle streams forgotten so far"
DOUBLED = (
    "streams are live in two partitions of a topic, %d so far, the last is '%s' in %s and %s: each partition keeps its "
    "own state, and neither is right; partition records by what names the stream (input.stream)"
)


class EngineCounts:
    """The engine counts since its start; metrics get what was added since the last look."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._told: dict[str, int] = {}
        self._resets = [0] * len(Reset)

    def count(self, engine: Engine) -> Iterator[tuple[Any, ...]]:
        """Sets the metrics; yields (kind, message, values…) for each warning."""
        metrics, table = self._metrics, engine.table
        metrics.state_bytes.set(len(table) * table.initial.nbytes)
        resets = engine.resets.tolist()
        for reset, before, after in zip(Reset, self._resets, resets, strict=True):
            if after > before:
                metrics.sequences_started.labels(reset.name.lower()).inc(after - before)
        self._resets = resets
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

    def _added(self, name: str, now: int) -> int:
        before, self._told[name] = self._told.get(name, 0), now
        return now - before
