"""How far and how late the partitions are, as metrics: noted by the loop, asked for by scrapes."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from worker.member.lateness import Lateness
from worker.member.positions import Positions
from worker.member.timing import Clock
from worker.records.events import Events
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

if TYPE_CHECKING:
    from worker.web.metrics import Metrics


class LagGauges:
    """``lateness`` knows when records came and what is answered."""

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self.lateness = Lateness()

    def came(self, batches: Sequence[RecordBatch], waiting: bool) -> None:
        """A poll has brought these; ``waiting``: it would have waited for them."""
        now = self._clock.now()
        if batches:
            self.lateness.polled(batches, now, self._clock.wall())
        elif waiting:
            self.lateness.waited(now)

    def decoded(self, events: list[Events]) -> list[Events]:
        """These events are read; returns them."""
        self.lateness.decoded(events, self._clock.now(), self._clock.wall())
        return events

    def looked(self, now: float, ends: Mapping[Partition, int], positions: Positions) -> None:
        """How many records of the log are not answered yet, or not committed yet; ``ends`` of the logs."""
        self.lateness.looked(ends, now)
        commits = {each: at.offset for each, at in positions.commits().items()}
        metrics = self._metrics
        for gauge, offsets in ((metrics.lag_records, positions.all()), (metrics.uncommitted_records, commits)):
            for partition in ends.keys() & offsets.keys():
                metrics.of(gauge, partition).set(max(0, ends[partition] - offsets[partition]))

    def owned(self, owned: Collection[Partition], fresh: Collection[Partition]) -> None:
        """These are ours, some of them from now on.

        Delays are asked for at each scrape, on its thread: they grow while the loop stands still.
        """
        self.lateness.keep(owned)
        for partition in fresh:
            self._tell(partition)

    def _tell(self, partition: Partition) -> None:
        late, now, wall, metrics = self.lateness, self._clock.now, self._clock.wall, self._metrics
        metrics.of(metrics.delay, partition).set_function(lambda: late.delay_s(partition, now(), wall()))
        metrics.of(metrics.event_delay, partition).set_function(lambda: late.event_delay_s(partition, now(), wall()))
