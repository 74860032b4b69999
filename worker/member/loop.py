"""The worker's loop: poll, decode, process, send, advance, and the commit law.

The commit law:
 1. All outputs and dead letters up to the positions are acknowledged.
 2. The positions are committed. Let C1 be the committed offset.
 3. A checkpoint taken at C0 gets its name only once C1 ≥ C0.
A restarted worker reads C1, loads the newest checkpoint C0 ≤ C1, and replays C0..C1 without emitting.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from worker.errors import KafkaUnavailableError, UnavailableError
from worker.kafka.contracts import Source
from worker.member.delivery import UNDONE_AFTER, Delivery
from worker.member.intake import Intake
from worker.member.lag import Lag
from worker.member.limits import LoopLimits, Topics
from worker.member.membership import Membership
from worker.member.owned_states import OwnedStates
from worker.member.reporter import Reporter
from worker.member.setbacks import Setbacks
from worker.member.timing import Clock, Due
from worker.pipeline.backlog import Taken
from worker.pipeline.generation import GenerationPipeline
from worker.pipeline.pipeline import Outcome, Pipeline
from worker.records.events import Events
from worker.records.ownership import Assigned, Change, Lost, Revoked, StartOffsets
from worker.records.record_batch import RecordBatch


class Worker:
    """One member of the group. ``now`` is when a turn, or a call, began; the clock says only what has passed since."""

    def __init__(
        self,
        source: Source,
        delivery: Delivery,
        pipeline: Pipeline | GenerationPipeline,
        states: OwnedStates,
        reporter: Reporter,
        topics: Topics,
        limits: LoopLimits,
        clock: Clock,
    ) -> None:
        self.source, self.delivery, self.pipeline, self.reporter = source, delivery, pipeline, reporter
        self.states, self.positions = states, states.positions
        self.topics, self.limits, self.clock = topics, limits, clock
        self.intake = Intake(source, clock.now, reporter.lag.came)
        self.membership = Membership(source, reporter, limits.session_s)
        self.setbacks = Setbacks(limits, pipeline.output_numbers, delivery.transactional, topics.dead_letters)
        self._commit_due, self._checkpoint_due = Due(limits.commit_interval_s), Due(limits.checkpoint_interval_s)
        self._lag = Lag(source, delivery, self.positions, reporter, limits, topics.inputs)
        self._commit_until = math.inf  # when leaving: after that the worker waits for nothing any more
        self._in_doubt = False  # states have seen records whose outputs may never appear

    def start(self, now: float) -> None:
        """Join the group."""
        for due in (self._commit_due, self._checkpoint_due, self._lag.due):
            due.put_off(now)
        self.membership.left(now)
        self.source.subscribe(self.topics.inputs, self.react)

    def turn(self, now: float) -> int | None:
        """One turn, the path of an event; returns how many records it answered, None while Kafka is away."""
        try:
            if self._in_doubt:
                self._begin_again()
            if self.delivery.behind:
                self._catch_up(now)
            with self.reporter.timed(self.reporter.metrics.poll_duration):
                self._poll()
        except UnavailableError as error:
            # Only here is it safe to continue: no record of this poll has been taken yet.
            self.reporter.kafka_away(now, error)
            return None
        taken, outcomes = Taken(), list[Outcome]()
        if self.intake or self.pipeline.busy:
            self.reporter.times.began()
            taken = self.intake.take(self._decode, self.setbacks.limit(), self.pipeline.full())
            outcomes = self._answer(taken)
        sent = bool(outcomes) and self._send(now, outcomes)
        self._advance(taken, outcomes)
        due = self._commit_due.at(now) or (self.setbacks.each_turn and sent)
        if sent:
            self.reporter.answers.sent(now, outcomes, self.delivery, due, not self.intake)
        if due and self.commit(now, outcomes):
            self.states.save_due()
        # After the commit: readers of the outputs need not wait for our metrics.
        self.reporter.turned(now, outcomes, self.positions, self.pipeline.engine)
        self._look_around(now)
        self.states.follower.turned(now, taken.events, outcomes)
        return taken.records()

    def _answer(self, taken: Taken) -> list[Outcome]:
        times, most = self.reporter.times, self.setbacks.limit().live_events
        times.decoded()
        self.pipeline.pass_by(taken.passed)
        answer = self.pipeline.answer(taken.events, self.setbacks.unwritable, most, times.stepped)
        times.encoded()
        self.intake.give_back(answer.left_over)
        return answer.outcomes

    def _advance(self, taken: Taken, outcomes: Sequence[Outcome]) -> None:
        for batch in (*taken.passed, *(outcome.batch for outcome in outcomes if outcome.advances)):
            self.positions.advance(batch.partition, batch.next_offset)

    def _look_around(self, now: float) -> None:
        self._lag.look(now)
        self.membership.look(now, self.positions)
        if self._checkpoint_due.at(now):
            self.checkpoint(now)
        self.states.look_at_checkpoints()

    def commit(self, now: float, outcomes: Sequence[Outcome] = ()) -> bool:
        """Steps 1 and 2 of the commit law, for all partitions; returns whether everything answered is committed.

        ``outcomes``: of the turn that began ``now``, because of which a transaction may have failed.
        """
        self._commit_due.put_off(now)
        offsets = self.positions.uncommitted()
        if self._in_doubt or not offsets:
            return not self._in_doubt
        timeout_s = min(self.limits.kafka_call_s, self._commit_until - self.clock.now())
        if timeout_s <= 0:
            return False
        try:
            with self.reporter.timed(self.reporter.metrics.commit_duration):
                self.delivery.commit(offsets, timeout_s, self.positions.notes(offsets))
        except self.delivery.retried_after as error:
            # Nothing is lost: the partitions' next owner continues from the last commit and repeats the outputs.
            self._failed(now, error, outcomes)
            return False
        self.setbacks.committed(offsets)
        self.reporter.answers.acknowledged(self.delivery.acknowledged_at or self.clock.now())
        self.reporter.committed(self.positions.committed(offsets))
        return True

    def checkpoint(self, now: float) -> None:
        """Step 3 of the commit law, for all partitions that have moved since their last checkpoint; for as many at once
        as the memory set aside allows, for the others after later commits.
        """
        self._checkpoint_due.put_off(now)
        self.states.begin_checkpoint()
        if self.commit(now):
            self.states.save_due()

    def close(self, now: float) -> None:
        """Leave in order, in ``stop_s`` at most: outputs and offsets committed, group left, checkpoints written."""
        deadline = self.clock.now() + self.limits.stop_s
        self._commit_until = deadline - self.limits.stop_s / 2

        def left_s() -> float:
            return max(0.0, deadline - self.clock.now())

        try:
            self.checkpoint(now)
            self.states.save_all_due(left_s() / 2)
        finally:
            self.source.close(left_s() / 2)  # reacts to revoked partitions, so sink and store are still needed
            self.delivery.close(left_s() / 2)
            self.states.close(left_s())

    def react(self, change: Change) -> StartOffsets:
        """A change of ownership, during ``poll`` or ``close``."""
        self.reporter.rebalanced(change)
        self.intake.drop(change.partitions)
        starts: StartOffsets = {}
        if isinstance(change, Assigned):
            starts = self.states.take_over(change.partitions)
            self.setbacks.assigned()
        else:
            self._let_go(change)
        self.reporter.owned(self.positions)
        return starts

    def _let_go(self, change: Revoked | Lost) -> None:
        # Commit and save what goes to another member; if the group does not wait, that member repeats our last outputs.
        if isinstance(change, Revoked) and self.commit(self.clock.now()):
            self.states.save([each for each in self.positions.unsaved() if each in change.partitions])
        self.states.give_up(change.partitions)

    def _begin_again(self) -> None:
        """After a transaction that failed, or may have: states go back to what is committed. Raises as ``poll``."""
        try:
            self.delivery.renew()
            self.source.seek(self.states.reload())
        except UnavailableError:
            # The client handles a change of ownership, and is replaced when it is stuck, only while it is polled:
            # either may be the obstacle. Records read now are read again later.
            self._poll()
            raise
        self._in_doubt = False
        self.reporter.began_again(self.positions)

    def _catch_up(self, now: float) -> None:
        """Stay in the group, and read nothing until the written messages are acknowledged. Raises as ``poll``."""
        self.source.poll(0, 0.0)
        if not self.commit(now):
            raise KafkaUnavailableError("outputs are not acknowledged")

    def _poll(self) -> None:
        self.intake.poll(self.limits, self.pipeline.busy)
        if self._in_doubt:
            self.intake.clear()  # a commit in flight may have failed: then they are read again

    def _decode(self, batches: Sequence[RecordBatch]) -> list[Events]:
        marked = [part for batch in batches for part in self.positions.to_answer(batch)]
        return self.reporter.lag.decoded(self.pipeline.decode(marked))

    def _send(self, now: float, outcomes: Sequence[Outcome]) -> bool:
        """Hand over outputs and dead letters; returns whether there were any."""
        sent = False
        self.reporter.answered(outcomes, self.topics)
        try:
            with self.reporter.timed(self.reporter.metrics.send_duration):
                self.setbacks.sent(max(outcome.largest_bytes for outcome in outcomes))
                for outcome in outcomes:
                    for topic, messages in self.topics.messages(outcome):
                        sent = True
                        self.delivery.send(topic, messages)
        except self.delivery.retried_after as error:
            if not self.delivery.transactional and not isinstance(error, UNDONE_AFTER):
                raise
            self._failed(now, error, outcomes)
        return sent

    def _failed(self, now: float, error: Exception, outcomes: Sequence[Outcome] = ()) -> None:
        """A commit, or a message that belongs to it, has failed: try again, but not for ever."""
        self.reporter.commit_failed(now, error)
        if self.delivery.transactional or isinstance(error, UNDONE_AFTER):
            self._in_doubt = True
            self.intake.clear()
            self.reporter.rolling_back(self.setbacks.rolled_back(outcomes, self.clock.now() - now, error))
        self.setbacks.failed(now, error)


def run(
    worker: Worker, clock: Callable[[], float], stopping: Callable[[], bool], wait: Callable[[float], object]
) -> None:
    """Turn until told to stop, then leave in order. An error leaves without a commit: a restart is always right."""
    worker.start(clock())
    while not stopping():
        if worker.turn(clock()) is None:
            wait(worker.limits.unavailable_wait_s)
    worker.reporter.stopping()
    worker.close(clock())
