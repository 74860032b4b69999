"""The states of the partitions that this member owns: loaded when a partition comes, saved, dropped when it goes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker.checkpoints.writer import CheckpointWriter
from worker.kafka.contracts import Source
from worker.member.commit_notes import note_of
from worker.member.limits import LoopLimits
from worker.member.positions import Positions
from worker.member.recovery import Recovery
from worker.member.recovery_policy import LogFacts
from worker.member.reporter import Reporter
from worker.member.timing import Clock
from worker.records.ownership import Partition, StartOffsets
from worker.streams.table import StreamTable

LEAST_WAIT_S = 0.1  # for each answer, however long the others have taken


class OwnedStates:
    """Between the log and the checkpoints. It follows the commit law's step 3: only committed positions are saved."""

    def __init__(
        self,
        source: Source,
        table: StreamTable,
        recovery: Recovery,
        writer: CheckpointWriter,
        reporter: Reporter,
        limits: LoopLimits,
        clock: Clock,
    ) -> None:
        self.positions = Positions()
        self._source, self._table, self._recovery = source, table, recovery
        self._writer, self._reporter, self._limits, self._clock = writer, reporter, limits, clock
        self._reloading: set[Partition] = set()  # dropped, and not loaded again yet
        self._due: dict[Partition, None] = {}  # for a checkpoint, in order

    def take_over(self, partitions: Iterable[Partition]) -> StartOffsets:
        """Load the states of these partitions; returns where to read each from. Raises for all of them, or for none."""
        partitions = list(partitions)
        deadline = self._clock.now() + self._limits.kafka_call_s

        def left_s() -> float:
            return max(LEAST_WAIT_S, deadline - self._clock.now())

        committed = self._source.committed(partitions, left_s())
        ranges = self._source.log_range(partitions, left_s())
        topics = {name: self._source.topic(name, left_s()) for name in {partition.topic for partition in partitions}}
        since_ms = self._recovery.rebuild_since_ms(int(self._clock.wall() * 1000))
        rebuild_from = {} if since_ms is None else self._source.offsets_at(partitions, since_ms, left_s())
        starts: dict[Partition, int] = {}
        try:
            for partition in partitions:
                topic = topics[partition.topic]
                offset, note = committed[partition] or (None, "")
                back_to = rebuild_from.get(partition, 0)
                start = self._recovery.start(LogFacts(partition, topic, offset, *ranges[partition], back_to, note))
                left_out = self._table.open(partition, start.state)
                self.positions.open(partition, topic.id, start.offset, start.live_from, note_of(topic))
                self._reporter.restored(partition, start, left_out)
                starts[partition] = start.offset
                self._source.still_here()
        except BaseException:
            self.drop(starts)
            raise
        return starts

    def reload(self) -> StartOffsets:
        """Set all partitions back to what is committed; returns where to read each from. If it raises, call again."""
        self._reloading.update(self.positions.all())
        self.drop(self._reloading)
        starts = self.take_over(sorted(self._reloading))
        self._reloading.clear()
        return starts

    def give_up(self, partitions: Iterable[Partition]) -> None:
        """They belong to another member now, or to nobody: drop them, and do not load them again."""
        partitions = list(partitions)
        self.drop(partitions)
        self._reloading.difference_update(partitions)

    def drop(self, partitions: Iterable[Partition]) -> None:
        """Forget their states: no commit, no checkpoint."""
        for partition in list(partitions):
            self.positions.close(partition)
            self._due.pop(partition, None)
            self._table.drop(partition)

    def begin_checkpoint(self) -> None:
        """All partitions are due from now on."""
        self._due.update(dict.fromkeys(self.positions.all()))

    def save_due(self) -> bool:
        """Save as many of those due as may be copied at once, once the last ones are written; returns whether any are
        left.

        So the loop is held up for one part at a time, and there is memory for one part. A due partition is saved if it
        has moved and is committed now.
        """
        if self._due and not self._writer.unfinished():
            unsaved, table = set(self.positions.unsaved()), self._table
            self._due = {partition: None for partition in self._due if partition in unsaved}
            chosen: list[Partition] = []
            rows = 0
            for partition in self._due:
                rows += len(table.partitions[partition].rows)
                if chosen and rows > table.copied_at_once:
                    break
                chosen.append(partition)
            self.save(chosen)
        return bool(self._due)

    def save_all_due(self, timeout_s: float) -> None:
        """As ``save_due``, waiting for each part to be written."""
        deadline = self._clock.now() + timeout_s
        while self.save_due() and (left_s := deadline - self._clock.now()) > 0:
            if not self._writer.wait(left_s):
                return

    def save(self, partitions: Sequence[Partition]) -> None:
        """Step 3 of the commit law, for committed positions: a copy now, the file in the background."""
        for partition in partitions:
            position = self.positions.of(partition)
            state = self._table.snapshot(partition, position)
            self._writer.submit(state, self._recovery.identity(partition.topic, self.positions.topic_id(partition)))
            self.positions.saved(partition, position)
            self._due.pop(partition, None)

    def look_at_checkpoints(self) -> None:
        """The checkpoints written in the background since the last look."""
        results = self._writer.poll_results()
        for result in results:
            if not result.ok:
                self.positions.not_saved(result.partition)
        self._reporter.checkpoints(results, self._writer.delay_s())

    def close(self, timeout_s: float) -> None:
        """Wait for the checkpoints that are being written."""
        self._writer.close(timeout_s)
        self.look_at_checkpoints()
