"""Counters of records: each counts once, when it is committed, however often its turn is tried again or replayed."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

from worker.member.limits import Topics
from worker.pipeline.pipeline import Outcome
from worker.records.ownership import Partition

if TYPE_CHECKING:
    from prometheus_client import Counter

    from worker.web.metrics import Metrics


class RecordCounts:
    """Records answered and not committed yet, partition by partition."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._open: dict[Partition, dict[Counter, Tally[str]]] = {}  # counter → label → records
        self._next: dict[Partition, int] = {}  # offset after the last record answered

    def answered(self, outcome: Outcome, topics: Topics) -> None:
        """These records were answered; replayed ones were committed, and counted, before."""
        if outcome.batch.replay:
            return
        metrics, partition = self._metrics, outcome.batch.partition
        self._next[partition] = outcome.batch.next_offset
        counts = self._open.get(partition)
        if counts is None:
            names = metrics.records_consumed, metrics.outputs_produced, metrics.records_refused
            counts = self._open[partition] = {counter: Tally() for counter in names}
        counts[metrics.records_consumed][partition.topic] += len(outcome.batch)
        if len(outcome.outputs):
            counts[metrics.outputs_produced][topics.output] += len(outcome.outputs)
        if outcome.refusals:
            counts[metrics.records_refused].update(refusal.error for refusal in outcome.refusals)
            if topics.dead_letters is not None:
                counts[metrics.outputs_produced][topics.dead_letters] += len(outcome.dead)

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Records answered below these offsets are final."""
        for partition, offset in offsets.items():
            if self._next.get(partition, offset) > offset:
                continue
            for counter, labels in self._open.pop(partition, {}).items():
                for label, count in labels.items():
                    counter.labels(label).inc(count)

    def keep(self, partitions: Collection[Partition]) -> None:
        """Records of all other partitions will be answered again, here or by another member."""
        self._open = {partition: counts for partition, counts in self._open.items() if partition in partitions}

    def begin_again(self, offsets: Mapping[Partition, int]) -> None:
        """Continue from what is committed: a commit may have succeeded although its answer was lost."""
        self.committed(offsets)
        self.keep(())
