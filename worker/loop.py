"""The worker's loop: poll, decode, process, send, advance, and the commit law.

The commit law:
 1. All outputs and dead letters up to the positions are acknowledged.
 2. The positions are committed. Let C1 be the committed offset.
 3. A checkpoint taken at C0 gets its name only once C1 ≥ C0.
Whoever restarts reads C1, the newest checkpoint C0 ≤ C1, and replays C0..C1 without emitting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from contextlib import suppress

from worker.checkpoints.writer import CheckpointWriter
from worker.delivery import Delivery
from worker.errors import CommitRefusedError, KafkaUnavailableError, UnavailableError, WorkerError
from worker.kafka.contracts import Source
from worker.limits import LoopLimits, Topics
from worker.pipeline import Outcome, Pipeline
from worker.records import Assigned, Change, Lost, RecordBatch, Revoked, StartOffsets
from worker.recovery import Recovery
from worker.reporter import Reporter
from worker.states import States

KAFKA_AWAY = -1
UNAVAILABLE_WAIT_S = 0.5  # between two polls while the cluster is away


class Worker:
    """One member of the group. Time is an argument of every method that depends on it, in monotonic seconds."""

    def __init__(
        self,
        source: Source,
        delivery: Delivery,
        pipeline: Pipeline,
        recovery: Recovery,
        writer: CheckpointWriter,
        reporter: Reporter,
        topics: Topics,
        limits: LoopLimits,
    ) -> None:
        self.source, self.delivery, self.pipeline, self.reporter = source, delivery, pipeline, reporter
        self.topics, self.limits = topics, limits
        self.states = States(source, pipeline, recovery, writer, reporter, limits)
        self.partitions = self.states.partitions
        self._commit_at = 0.0
        self._commit_until = math.inf  # when leaving: after that nothing is waited for any more
        self._checkpoint_at = 0.0
        self._lag_at = 0.0
        self._joined = False
        self._in_doubt = False  # states have seen records whose outputs may never appear
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
            if self._in_doubt:
                self._begin_again()
            with timed(metrics.poll_duration):
                batches = self._poll()
        except UnavailableError as error:
            # Only here is nothing lost by going on: no record has been taken yet.
            self.reporter.kafka_away(now, error)
            return KAFKA_AWAY
        work = [part for batch in batches for part in self.partitions.parts(batch)]
        outcomes: list[Outcome] = []
        sent = False
        if work:
            with timed(metrics.turn_duration):
                outcomes = self.pipeline.turn(work)
            with timed(metrics.send_duration):
                sent = self._send(now, outcomes)
        for batch in batches:
            self.partitions.advance(batch.partition, batch.next_offset)
        if (now >= self._commit_at or (self.delivery.transactional and sent)) and self.commit(now):
            self.states.save_due()
        # After the commit: whoever waits for the outputs does not wait for our numbers.
        self.reporter.turned(now, outcomes, self.partitions, self.pipeline.engine)
        if not self._joined and self.source.joined:
            self._joined = True
            self.reporter.owned(self.partitions)  # a member without partitions is ready, too, and nothing else says so
        if now >= self._checkpoint_at:
            self.checkpoint(now)
        if now >= self._lag_at:
            self._look_at_lag(now)
        self.states.look_at_checkpoints()
        return sum(map(len, batches))

    def commit(self, now: float) -> bool:
        """Steps 1 and 2 of the commit law, for all partitions; whether everything read is committed."""
        self._commit_at = now + self.limits.commit_interval_s
        offsets = self.partitions.uncommitted()
        if self._in_doubt or not offsets:
            return not self._in_doubt
        timeout_s = min(self.limits.commit_s, self._commit_until - self.reporter.now())
        if timeout_s <= 0:
            return False
        try:
            self.delivery.commit(offsets, timeout_s)
        except self.delivery.retried_after as error:
            # Nothing is lost: whoever owns the partitions goes on from the last commit and repeats the outputs.
            self._failed(now, error)
            return False
        self._refused_since = None
        self.partitions.committed(offsets)
        self.reporter.committed(offsets)
        return True

    def checkpoint(self, now: float) -> None:
        """Step 3 of the commit law, for all partitions that have moved since their last checkpoint; for as many at once
        as memory is set aside for, for the others after the commits to come.
        """
        self._checkpoint_at = now + self.limits.checkpoint_interval_s
        self.states.begin_checkpoint()
        if self.commit(now):
            self.states.save_due()

    def close(self, now: float) -> None:
        """Leave in order, in ``stop_s`` at most: outputs and offsets committed, group left, checkpoints written."""
        deadline = self.reporter.now() + self.limits.stop_s
        self._commit_until = deadline - self.limits.stop_s / 2

        def left_s() -> float:
            return max(0.0, deadline - self.reporter.now())

        try:
            self.checkpoint(now)
            self.states.save_all_due(left_s() / 2)
        finally:
            self.source.close(left_s() / 2)  # reacts to what is revoked, so the others are still needed
            self.delivery.close(left_s() / 2)
            self.states.close(left_s())

    def react(self, change: Change) -> StartOffsets:
        """A change of ownership, during ``poll`` or ``close``."""
        self.reporter.rebalanced(change)
        starts: StartOffsets = {}
        if isinstance(change, Assigned):
            starts = self.states.take_over(change.partitions)
            self._refused_since = None
        else:
            self._let_go(change)
        self.reporter.owned(self.partitions)
        return starts

    def _let_go(self, change: Revoked | Lost) -> None:
        # Commit and save what goes to another member; if the group does not wait, it repeats our last outputs.
        if isinstance(change, Revoked) and self.commit(self.reporter.now()):
            self.states.save([place for place in self.partitions.unsaved() if place in change.partitions])
        self.states.give_up(change.partitions)

    def _begin_again(self) -> None:
        """After a transaction that failed, or may have: states go back to what is committed. Raises as ``poll``."""
        try:
            self.delivery.renew()
            self.source.seek(self.states.reload())
        except UnavailableError:
            # The client takes in a change of ownership, and is replaced when it is stuck, only while it is polled:
            # either may be what stands in the way. What is read now is read again.
            self._poll()
            raise
        self._in_doubt = False
        self.reporter.began_again(self.partitions)

    def _poll(self) -> list[RecordBatch]:
        """What there is now; with ``batch_wait_s`` also what comes until then, if it is not enough."""
        batches = self.source.poll(self.limits.poll_records, self.limits.poll_wait_s)
        deadline = self.reporter.now() + self.limits.batch_wait_s
        missing = self.limits.poll_records - sum(map(len, batches))
        while batches and missing > 0 and (left_s := deadline - self.reporter.now()) > 0:
            self.partitions.gone.clear()
            try:
                more = self.source.poll(missing, left_s)
            except UnavailableError:
                more, missing = [], 0  # what is there is not lost for what is not
            # What was read of a partition that went meanwhile is read again by its next owner, be it this one.
            batches = [batch for batch in batches if batch.partition not in self.partitions.gone] + more
            missing -= sum(map(len, more))
        return [] if self._in_doubt else batches  # a commit on the way may have failed: then they are read again

    def _send(self, now: float, outcomes: Sequence[Outcome]) -> bool:
        """Hand over outputs and dead letters; whether there were any."""
        sent = False
        dead_letters = self.topics.dead_letters
        try:
            for outcome in outcomes:
                for topic, messages in ((self.topics.output, outcome.outputs), (dead_letters, outcome.dead)):
                    if topic is not None and len(messages):
                        sent = True
                        self.delivery.send(topic, messages.keys, messages.values, messages.headers)
                        self.reporter.metrics.outputs_produced.labels(topic).inc(len(messages))
        except self.delivery.retried_after as error:
            if not self.delivery.transactional:
                raise
            self._failed(now, error)
        return sent

    def _failed(self, now: float, error: Exception) -> None:
        """A commit, or what was to be in it, has failed: try again, but not for ever."""
        self._in_doubt = self.delivery.transactional
        self.reporter.commit_failed(now, error)
        if isinstance(error, KafkaUnavailableError):
            return
        refused = isinstance(error, CommitRefusedError)
        if self._refused_since is None:
            self._refused_since = now
        elif now - self._refused_since > self.limits.commit_refused_s:
            raise WorkerError(
                f"commits have been refused for {self.limits.commit_refused_s:.0f} s ({error})"
                + "; is another process running with the same kafka.instance_id?" * refused
            )

    def _look_at_lag(self, now: float) -> None:
        self._lag_at = now + self.limits.lag_interval_s
        self.reporter.rebuilt(self.source.rebuilds)
        positions = self.partitions.positions()
        with suppress(KafkaUnavailableError):  # then it stays as it was
            ranges = self.source.log_range(positions, self.limits.kafka_call_s)
            self.reporter.lags({place: ranges[place][1] - position for place, position in positions.items()})


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
