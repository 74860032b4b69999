"""The worker's loop: poll, decode, process, send, advance, and the commit law.

The commit law:
 1. All outputs and dead letters up to the positions are acknowledged.
 2. The positions are committed. Let C1 be the committed offset.
 3. A checkpoint taken at C0 gets its name only once C1 ≥ C0.
Whoever restarts reads C1, the newest checkpoint C0 ≤ C1, and replays C0..C1 without emitting.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from worker.checkpoints.writer import CheckpointWriter
from worker.errors import CommitRefusedError, KafkaUnavailableError, WorkerError
from worker.kafka.contracts import Sink, Source
from worker.limits import LoopLimits, Topics
from worker.partitions import Partitions
from worker.pipeline import Outcome, Pipeline
from worker.records import Assigned, Change, Lost, Partition, RecordBatch, Revoked, StartOffsets
from worker.recovery import Recovery
from worker.reporter import Reporter

KAFKA_AWAY = -1
UNAVAILABLE_WAIT_S = 0.5  # between two polls while the cluster is away


class Worker:
    """One member of the group. Time is an argument of every method that depends on it, in monotonic seconds."""

    def __init__(
        self,
        source: Source,
        sink: Sink,
        pipeline: Pipeline,
        recovery: Recovery,
        writer: CheckpointWriter,
        reporter: Reporter,
        topics: Topics,
        limits: LoopLimits,
    ) -> None:
        self.source, self.sink, self.pipeline = source, sink, pipeline
        self.recovery, self.writer, self.reporter = recovery, writer, reporter
        self.topics, self.limits = topics, limits
        self.partitions = Partitions()
        self._commit_at = 0.0
        self._checkpoint_at = 0.0
        self._lag_at = 0.0
        self._joined = False
        self._refused_since: float | None = None

    def start(self, now: float) -> None:
        """Join the group."""
        self._commit_at = now + self.limits.commit_interval_s
        self._checkpoint_at = now + self.limits.checkpoint_interval_s
        self._lag_at = now + self.limits.lag_interval_s
        self.source.subscribe(self.topics.inputs, self.react)

    def turn(self, now: float) -> int:
        """The way of an event, for all that one poll brings; how many records it brought, or KAFKA_AWAY."""
        timed, metrics = self.reporter.timed, self.reporter.metrics
        try:
            with timed(metrics.poll_duration):
                batches = self._poll()
        except KafkaUnavailableError as error:
            # Only here is nothing lost by going on: no record has been taken yet.
            self.reporter.kafka_away(now, error)
            return KAFKA_AWAY
        work = [part for batch in batches for part in self.partitions.parts(batch)]
        outcomes = []
        if work:
            with timed(metrics.turn_duration):
                outcomes = self.pipeline.turn(work)
            with timed(metrics.send_duration):
                for outcome in outcomes:
                    self._send(outcome)
        for batch in batches:
            self.partitions.advance(batch.partition, batch.next_offset)
        self.reporter.turned(now, outcomes, self.partitions, self.pipeline.engine)
        if not self._joined and self.source.joined:
            self._joined = True
            self.reporter.owned(self.partitions)  # a member without partitions is ready, too, and nothing else says so
        if now >= self._commit_at:
            self.commit(now)
        if now >= self._checkpoint_at:
            self.checkpoint(now)
        if now >= self._lag_at:
            self._look_at_lag(now)
        self.reporter.checkpoints(self.writer.poll_results())
        return sum(map(len, batches))

    def commit(self, now: float) -> bool:
        """Steps 1 and 2 of the commit law, for all partitions; whether everything read is committed."""
        self._commit_at = now + self.limits.commit_interval_s
        offsets = self.partitions.uncommitted()
        if not offsets:
            return True
        try:
            self.sink.flush(self.limits.flush_s)  # 1
            self.source.commit(offsets, self.limits.kafka_call_s)  # 2
        except (CommitRefusedError, KafkaUnavailableError) as error:
            # Nothing is lost: whoever owns the partitions goes on from the last commit and repeats the outputs.
            self.reporter.commit_failed(now, error)
            self._give_up_if_refused(now, error)
            return False
        self._refused_since = None
        self.partitions.committed(offsets)
        self.reporter.committed(offsets)
        return True

    def checkpoint(self, now: float) -> None:
        """Step 3 of the commit law, for all partitions that have moved since their last checkpoint."""
        self._checkpoint_at = now + self.limits.checkpoint_interval_s
        if self.commit(now):
            self._snapshot(self.partitions.unsaved())

    def close(self, now: float) -> None:
        """Leave in order: outputs acknowledged, offsets committed, checkpoints written, group left."""
        try:
            self.checkpoint(now)
        finally:
            self.source.close(self.limits.close_s)  # reacts to what is revoked, so the writer is still needed
            self.sink.close(self.limits.close_s)
            self.writer.close(self.limits.close_s)
            self.reporter.checkpoints(self.writer.poll_results())

    def react(self, change: Change) -> StartOffsets:
        """A change of ownership, during ``poll`` or ``close``."""
        self.reporter.rebalanced(change)
        starts: StartOffsets = {}
        if isinstance(change, Assigned):
            starts = self._take_over(change.partitions)
            self._refused_since = None
        else:
            self._let_go(change)
        self.reporter.owned(self.partitions)
        return starts

    def _let_go(self, change: Revoked | Lost) -> None:
        if isinstance(change, Revoked):
            self._hand_over(change.partitions)
        for partition in change.partitions:
            # What is left of a lost partition belongs to nobody: no commit, no checkpoint.
            self.partitions.close(partition)
            self.pipeline.engine.table.drop(partition)

    def _poll(self) -> list[RecordBatch]:
        """What there is now; with ``batch_wait_s`` also what comes until then, if it is not enough."""
        batches = self.source.poll(self.limits.poll_records, self.limits.poll_wait_s)
        deadline = self.reporter.now() + self.limits.batch_wait_s
        missing = self.limits.poll_records - sum(map(len, batches))
        while batches and missing > 0 and (left_s := deadline - self.reporter.now()) > 0:
            self.partitions.gone.clear()
            try:
                more = self.source.poll(missing, left_s)
            except KafkaUnavailableError:
                more, missing = [], 0  # what is there is not lost for what is not
            # What was read of a partition that went meanwhile is read again by its next owner, be it this one.
            batches = [batch for batch in batches if batch.partition not in self.partitions.gone] + more
            missing -= sum(map(len, more))
        return batches

    def _take_over(self, partitions: tuple[Partition, ...]) -> StartOffsets:
        committed = self.source.committed(partitions, self.limits.kafka_call_s)
        ranges = self.source.log_range(partitions, self.limits.kafka_call_s)
        names = {partition.topic for partition in partitions}
        topics = {name: self.source.topic(name, self.limits.kafka_call_s) for name in names}
        starts = {}
        # From here on nothing asks the cluster: all of them are taken over, or (when it was away) none.
        for partition in partitions:
            topic_id = topics[partition.topic].id
            start = self.recovery.start(partition, topic_id, committed[partition], ranges[partition])
            left_out = self.pipeline.open(partition, start.state)
            self.partitions.open(partition, topic_id, start.offset, start.live_from)
            self.reporter.restored(partition, start, left_out)
            starts[partition] = start.offset
        return starts

    def _hand_over(self, partitions: tuple[Partition, ...]) -> None:
        """Commit and save what goes to another member; if the group does not wait, it repeats our last outputs."""
        now = self.reporter.now()
        if self.commit(now):
            self._snapshot([partition for partition in self.partitions.unsaved() if partition in partitions])

    def _snapshot(self, partitions: list[Partition]) -> None:
        for partition in partitions:
            position = self.partitions.position(partition)
            state = self.pipeline.snapshot(partition, position)
            self.writer.submit(state, self.recovery.identity(self.partitions.topic_id(partition)))
            self.partitions.saved(partition, position)

    def _send(self, outcome: Outcome) -> None:
        if len(outcome.outputs):
            self.sink.send(self.topics.output, outcome.outputs.keys, outcome.outputs.values)
            self.reporter.metrics.outputs_produced.labels(self.topics.output).inc(len(outcome.outputs))
        if len(outcome.dead) and self.topics.dead_letters is not None:
            dead = outcome.dead
            self.sink.send(self.topics.dead_letters, dead.keys, dead.values, dead.headers)
            self.reporter.metrics.outputs_produced.labels(self.topics.dead_letters).inc(len(dead))

    def _look_at_lag(self, now: float) -> None:
        self._lag_at = now + self.limits.lag_interval_s
        self.reporter.rebuilt(self.source.rebuilds)
        positions = self.partitions.positions()
        with suppress(KafkaUnavailableError):  # then it stays as it was
            ranges = self.source.log_range(positions, self.limits.kafka_call_s)
            self.reporter.lags({place: ranges[place][1] - position for place, position in positions.items()})

    def _give_up_if_refused(self, now: float, error: Exception) -> None:
        if not isinstance(error, CommitRefusedError):
            return
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > self.limits.commit_refused_s:
            raise WorkerError(
                f"the group has refused this member's commits for {self.limits.commit_refused_s:.0f} s ({error}); "
                "is another process running with the same kafka.instance_id?"
            )


def run(
    worker: Worker, clock: Callable[[], float], stopping: Callable[[], bool], wait: Callable[[float], object]
) -> None:
    """Turn until told to stop, then leave in order. An error leaves without a commit: a restart is always right."""
    worker.start(clock())
    while not stopping():
        if worker.turn(clock()) == KAFKA_AWAY:
            wait(UNAVAILABLE_WAIT_S)
    worker.reporter.stopping()
    worker.close(clock())
