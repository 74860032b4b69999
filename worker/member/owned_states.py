"""The states of the partitions that this member owns: loaded when a partition comes, saved, dropped when it goes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from worker.checkpoints.writer import CheckpointWriter
from worker.kafka.contracts import Committed, Source
from worker.member.commit_notes import note_of
from worker.member.following import Follower, Nobody
from worker.member.limits import LoopLimits
from worker.member.positions import Positions
from worker.member.recovery import Recovery
from worker.member.recovery_policy import LogFacts
from worker.member.reporter import Reporter
from worker.member.timing import Clock
from worker.member.warming import warm_from
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
        self.positions = Positions(table.partitions, generates=table.generates)
        self._source, self._table, self._recovery = source, table, recovery
        self._writer, self._reporter, self._limits, self._clock = writer, reporter, limits, clock
        self._reloading: set[Partition] = set()  # dropped, and not loaded again yet
        self._due: dict[Partition, None] = {}  # for a checkpoint, in order
        self.follower: Follower = Nobody()

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
        warm = self._warm_from(committed, ranges, left_s)
        starts: dict[Partition, int] = {}
        try:
            for partition in partitions:
                topic = topics[partition.topic]
                offset, note = committed[partition] or (None, "")
                back_to = rebuild_from.get(partition, 0)
                known = LogFacts(partition, topic, offset, *ranges[partition], back_to, note, warm.get(partition, 0))
                start = self._recovery.start(known)
                left_out = self._table.open(partition, start.state)
                self.positions.open(partition, topic.id, start.offset, start.live_from, note_of(topic), start.owed)
                self._reporter.restored(partition, start, left_out, ranges[partition][1])
                self.follower.opened(partition, start.offset, topic.id)
                starts[partition] = start.offset
                self._source.still_here()
        except BaseException:
            self.drop(starts)
            raise
        return starts

    def _warm_from(
        self,
        committed: Mapping[Partition, Committed | None],
        ranges: Mapping[Partition, tuple[int, int]],
        left_s: Callable[[], float],
    ) -> Mapping[Partition, int]:
        """See ``LogFacts.warm_from``."""
        if self._recovery.warm is None:
            return {}
        begins = {each: begin for each, (begin, _) in ranges.items()}
        resumed = {each: min(max(at.offset, ranges[each][0]), ranges[each][1]) for each, at in committed.items() if at}
        return warm_from(
            self._recovery.warm,
            begins,
            resumed,
            lambda partitions, time_ms: self._source.offsets_at(partitions, time_ms, left_s()),
            int(self._clock.wall() * 1000),
        )

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
            self.follower.dropped(partition)
            self.positions.close(partition)
            self._due.pop(partition, None)
            self._table.drop(partition)

    def begin_checkpoint(self) -> None:
        """All partitions are due from now on; those still due since the last time were skipped."""
        if left := self._due.keys() & set(self.positions.moved()):
            self._reporter.saves.skipped("busy" if self._writer.unfinished() else "uncommitted", len(left))
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
            next_offset, read_to = self.positions.snapshot_at(partition)
            state = self._table.snapshot(partition, next_offset)
            if self._table.generates:
                state.read_to = read_to
            self._writer.submit(state, self._recovery.identity(partition.topic, self.positions.topic_id(partition)))
            self.positions.saved(partition)
            self.follower.saved(partition, next_offset)
            self._due.pop(partition, None)

    def look_at_checkpoints(self) -> None:
        """The checkpoints written in the background since the last look."""
        results = self._writer.poll_results()
        for result in results:
            if not result.ok:
                self.positions.not_saved(result.partition)
        self._reporter.checkpoints(results, self._writer.delay_s(), self._writer.replaced)

    def close(self, timeout_s: float) -> None:
        """Wait for the checkpoints that are being written."""
        self.follower.close(timeout_s)
        self._writer.close(timeout_s)
        self.look_at_checkpoints()
