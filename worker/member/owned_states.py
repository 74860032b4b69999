"""The states of the partitions that this member owns: loaded when they come, saved, dropped when they go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from worker.checkpoints.writer import CheckpointWriter
from worker.kafka.contracts import Source
from worker.member.commit_notes import note_of
from worker.member.limits import LoopLimits
from worker.member.positions import Partitions
from worker.member.recovery import Recovery
from worker.member.reporter import Reporter
from worker.member.timing import Clock
from worker.pipeline.pipeline import Pipeline
from worker.records.ownership import Partition, StartOffsets

LEAST_WAIT_S = 0.1  # for each answer, however long the others have taken


class OwnedStates:
    """Between the log and the checkpoints. It follows the commit law's step 3: only committed positions are saved."""

    def __init__(
        self,
        source: Source,
        pipeline: Pipeline,
        recovery: Recovery,
        writer: CheckpointWriter,
        reporter: Reporter,
        limits: LoopLimits,
        clock: Clock,
    ) -> None:
        self.partitions = Partitions()
        self._source, self._pipeline, self._recovery = source, pipeline, recovery
        self._writer, self._reporter, self._limits, self._clock = writer, reporter, limits, clock
        self._reloading: set[Partition] = set()  # dropped, and not loaded again yet
        self._due: dict[Partition, None] = {}  # for a checkpoint, in order

    def take_over(self, places: Iterable[Partition]) -> StartOffsets:
        """Load what these partitions have; where to read each from. Raises for all of them, or for none."""
        places = list(places)
        deadline = self._clock.now() + self._limits.kafka_call_s

        def left_s() -> float:
            return max(LEAST_WAIT_S, deadline - self._clock.now())

        committed = self._source.committed(places, left_s())
        ranges = self._source.log_range(places, left_s())
        topics = {name: self._source.topic(name, left_s()) for name in {place.topic for place in places}}
        since_ms = self._recovery.rebuild_since_ms(int(self._clock.wall() * 1000))
        rebuild_from = {} if since_ms is None else self._source.offsets_at(places, since_ms, left_s())
        starts: dict[Partition, int] = {}
        try:
            for place in places:
                topic = topics[place.topic]
                offset, note = committed[place] or (None, "")
                start = self._recovery.start(place, topic, offset, ranges[place], rebuild_from.get(place), note)
                left_out = self._pipeline.open(place, start.state)
                self.partitions.open(place, topic.id, start.offset, start.live_from, note_of(topic))
                self._reporter.restored(place, start, left_out)
                starts[place] = start.offset
                self._source.still_here()
        except BaseException:
            self.drop(starts)
            raise
        return starts

    def reload(self) -> StartOffsets:
        """Put all partitions back to what is committed; where to read each from. When it raises, call it again."""
        self._reloading.update(self.partitions.positions())
        self.drop(self._reloading)
        starts = self.take_over(sorted(self._reloading))
        self._reloading.clear()
        return starts

    def give_up(self, places: Iterable[Partition]) -> None:
        """They are another member's now, or nobody's: drop them, and do not load them again."""
        places = list(places)
        self.drop(places)
        self._reloading.difference_update(places)

    def drop(self, places: Iterable[Partition]) -> None:
        """What is left of them belongs to nobody: no commit, no checkpoint."""
        for place in list(places):
            self.partitions.close(place)
            self._due.pop(place, None)
            self._pipeline.engine.table.drop(place)

    def begin_checkpoint(self) -> None:
        """All partitions are due from now on."""
        self._due.update(dict.fromkeys(self.partitions.positions()))

    def save_due(self) -> bool:
        """Save as many of those due as may be copied at once, once the last ones are written; whether any are left.

        So the loop is held for one part at a time, and there is memory for one part. What is due is saved where it has
        moved and is committed now.
        """
        if self._due and not self._writer.unfinished():
            unsaved, table = set(self.partitions.unsaved()), self._pipeline.engine.table
            self._due = {place: None for place in self._due if place in unsaved}
            part: list[Partition] = []
            rows = 0
            for place in self._due:
                rows += len(table.partitions[place].rows)
                if part and rows > table.copied_at_once:
                    break
                part.append(place)
            self.save(part)
        return bool(self._due)

    def save_all_due(self, timeout_s: float) -> None:
        """As ``save_due``, waiting for each part to be written."""
        deadline = self._clock.now() + timeout_s
        while self.save_due() and (left_s := deadline - self._clock.now()) > 0:
            if not self._writer.wait(left_s):
                return

    def save(self, places: Sequence[Partition]) -> None:
        """Step 3 of the commit law, for committed positions: a copy now, the file in the background."""
        for place in places:
            position = self.partitions.position(place)
            state = self._pipeline.snapshot(place, position)
            self._writer.submit(state, self._recovery.identity(place.topic, self.partitions.topic_id(place)))
            self.partitions.saved(place, position)
            self._due.pop(place, None)

    def look_at_checkpoints(self) -> None:
        """What the background has written since the last look."""
        results = self._writer.poll_results()
        for result in results:
            if not result.ok:
                self.partitions.not_saved(result.partition)
        self._reporter.checkpoints(results, self._writer.delay_s())

    def close(self, timeout_s: float) -> None:
        """Wait for the checkpoints that are being written."""
        self._writer.close(timeout_s)
        self.look_at_checkpoints()
