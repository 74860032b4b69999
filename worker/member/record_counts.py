"""Counters of records: each counts once, when it is committed, however often its turn is tried again or replayed."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Mapping
from typing import TYPE_CHECKING

from worker.member.commit_notes import Place
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
        self._next: dict[Partition, int] = {}  # offset after the last record read
        self._places: dict[Partition, Place] = {}  # committed last, as far as we know

    def answered(self, outcome: Outcome, topics: Topics) -> None:
        """These records were answered; replayed ones were committed, and counted, before."""
        if outcome.batch.replay:
            return
        metrics, partition = self._metrics, outcome.batch.partition
        if outcome.advances:
            self._next[partition] = outcome.batch.next_offset
        counts = self._open.get(partition)
        if counts is None:
            names = (
                metrics.records_consumed, metrics.outputs_produced, metrics.records_refused,
                metrics.consumed_bytes, metrics.produced_bytes,
            )  # fmt: skip
            counts = self._open[partition] = {counter: Tally() for counter in names}
        if outcome.advances and not outcome.batch.sent:  # those were read before a restart or a rollback, too
            counts[metrics.records_consumed][partition.topic] += len(outcome.batch)
            counts[metrics.consumed_bytes][partition.topic] += outcome.batch.size_bytes()
        if len(outcome.outputs):
            counts[metrics.outputs_produced][topics.output] += len(outcome.outputs)
            counts[metrics.produced_bytes][topics.output] += outcome.outputs.size_bytes()
        if outcome.refusals:
            counts[metrics.records_refused].update(refusal.error for refusal in outcome.refusals)
            if topics.dead_letters is not None:
                counts[metrics.outputs_produced][topics.dead_letters] += len(outcome.dead)
                counts[metrics.produced_bytes][topics.dead_letters] += outcome.dead.size_bytes()

    def committed(self, places: Mapping[Partition, Place]) -> None:
        """What was read and sent up to these places is final."""
        self._places.update(places)
        for partition, place in places.items():
            if self._next.get(partition, place.read_to) > place.read_to:
                continue
            for counter, labels in self._open.pop(partition, {}).items():
                for label, count in labels.items():
                    counter.labels(label).inc(count)

    def keep(self, places: Mapping[Partition, Place]) -> None:
        """These partitions are ours; records of all others will be answered again, by another member."""
        self._open = {partition: counts for partition, counts in self._open.items() if partition in places}
        self._places = dict(places)

    def begin_again(self, places: Mapping[Partition, Place]) -> None:
        """Continue from what is committed: a commit may have succeeded although its answer was lost."""
        self.committed({each: place for each, place in places.items() if place != self._places.get(each)})
        self._open = {}
