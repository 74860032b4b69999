"""Tells the outside what the loop does: metrics, probes and log lines. Counts per turn, never per event."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.checkpoints.writer import CheckpointResult
from worker.errors import KafkaRefusedError, StoreUnavailableError
from worker.member.answer_times import AnswerTimes
from worker.member.checkpoint_counts import CheckpointCounts
from worker.member.client_gauges import ClientGauges
from worker.member.commit_notes import Place
from worker.member.engine_counts import AnyEngine, EngineCounts
from worker.member.lag_gauges import LagGauges
from worker.member.limits import Topics
from worker.member.lines import Lines, listed
from worker.member.positions import Positions
from worker.member.reach import Reach
from worker.member.record_counts import RecordCounts
from worker.member.recovery_policy import Start
from worker.member.timing import Clock
from worker.member.turn_times import TurnTimes
from worker.pipeline.pipeline import Outcome
from worker.records.log_fields import about, about_all
from worker.records.ownership import Assigned, Change, Partition
from worker.web.metrics import Metrics
from worker.web.status import WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Gauge

    from worker.web.histogram import Histogram

log = logging.getLogger("worker.loop")

REFUSAL_SHOWN_S = 15.0  # longer than from one try of a client to the next
GAUGES_INTERVAL_S = 0.2  # while turns follow each other: to set all gauges takes as long as the turn of an event


class Reporter:
    """One per worker."""

    def __init__(self, metrics: Metrics, status: WorkerStatus, clock: Clock) -> None:
        self.metrics, self.status, self._clock = metrics, status, clock
        self._lines = Lines()
        self._engine = EngineCounts(metrics)
        self._records = RecordCounts(metrics)
        self.lag, self.saves = LagGauges(metrics, clock), CheckpointCounts(metrics, clock)
        self.lateness = self.lag.lateness
        self.times = TurnTimes(metrics, clock.now)
        self.answers = AnswerTimes(metrics.answer_duration, self.lateness, clock.now)
        self.client, self.reach = ClientGauges(metrics), Reach(status)
        self._lost_at: dict[Partition, int] = {}  # where records lost were counted last
        self._owned: set[Partition] = set()
        self._replaying: dict[Partition, float] = {}  # partition → when its replay began
        self._gauges_at = -math.inf
        self._behind = False  # the gauges
        self.watch: Callable[[float], object] = lambda now: None  # called after each turn
        # Called after each turn: (outcomes, when it began and ended, in seconds since the epoch).
        self.traced: Callable[[Sequence[Outcome], float, float], object] | None = None

    @contextmanager
    def timed(self, histogram: Histogram) -> Iterator[None]:
        """Observe how long the block takes."""
        started = self._clock.now()
        try:
            yield
        finally:
            histogram.observe(self._clock.now() - started)

    def answered(self, outcomes: Sequence[Outcome], topics: Topics) -> None:
        """Their messages for these topics are about to be written."""
        for outcome in outcomes:
            self._records.answered(outcome, topics)

    def turned(self, now: float, outcomes: Sequence[Outcome], positions: Positions, engine: AnyEngine) -> None:
        """A turn has ended."""
        self.status.turned(now)
        self.reach.turned()
        self._lines.back(now)
        self.watch(now)
        if outcomes:
            self._count(outcomes)
        self._behind |= bool(outcomes) or engine.busy
        if self._replaying:
            self._count_replay(now, positions)
        if self._behind and (now >= self._gauges_at or not outcomes):
            self._gauges_at, self._behind = now + GAUGES_INTERVAL_S, False
            self._count_engine(now, engine)
            self._set(self.metrics.position_offset, positions.all())
        for outcome in outcomes:
            for refusal in outcome.refusals:
                self._lines.refused(now, outcome, refusal)
        if outcomes and self.traced is not None:
            ended_s = self._clock.wall()
            self.traced(outcomes, ended_s - (self._clock.now() - self.times.began_s), ended_s)

    def commit_failed(self, now: float, error: Exception) -> None:
        """Nothing is lost: the next commit covers it, or another member repeats the outputs."""
        self.metrics.commits.labels("failed").inc()
        self.client.failed(error)
        # By its class: a refused message is reported even just after a slow cluster.
        kind = type(error).__name__
        fields: dict[str, object] = {"error": kind}
        self._lines.warn(now, f"commit {kind}", "offsets are not committed now: %s", error, fields=fields)

    def rolling_back(self, told: str | None) -> None:
        """The turn that failed will be made again; ``told``: why the worker makes no progress, if it makes none."""
        self.status.set("delivery", told)

    def committed(self, places: Mapping[Partition, Place]) -> None:
        """These are committed."""
        self.metrics.commits.labels("ok").inc()
        self._records.committed(places)
        self.lateness.committed(places)
        self.status.set("delivery", None)
        self._set(self.metrics.committed_offset, {each: place.offset for each, place in places.items()})

    def rebalanced(self, change: Change) -> None:
        """The group has given or taken partitions."""
        kind = type(change).__name__.lower()
        self.metrics.rebalances.labels(kind).inc()
        log.info("%s: %s", kind, listed(change.partitions), extra=about_all(change.partitions))
        if isinstance(change, Assigned):
            self.reach.answered()
        else:
            for partition in change.partitions:
                self._replaying.pop(partition, None)

    def owned(self, positions: Positions) -> None:
        """The change of ownership is complete. A member without partitions is ready, too."""
        self.metrics.assigned_partitions.set(len(positions))
        owned = set(positions.all())
        # Not before: giving a partition up commits it, which still reports on it.
        for partition in self._owned - owned:
            self.metrics.drop_partition(partition)
        self.lag.owned(owned, owned - self._owned)
        self._owned = owned
        self.answers.keep(owned)
        self._records.keep(positions.commits())
        now = self._clock.now()
        for partition in positions.replaying():
            self._replaying.setdefault(partition, now)
        self.status.set("kafka", self.reach.reason)
        self._say_state()

    def outside(self, now: float, waited_s: float, session_s: float) -> None:
        """We have not joined the group for so long; the group waits ``session_s`` for a member that died."""
        self.status.set(
            "kafka",
            self.reach.reason
            or f"has waited {waited_s:.0f} s to join the group, which waits for a member that does not answer: a dead "
            f"member is removed when its session of {session_s:.0f} s (session.timeout.ms) is over",
        )
        self._lines.warn(now, "outside", "kafka: %s", self.status.reason("kafka"))

    def let_in(self, waited_s: float, told: bool) -> None:
        """We have joined the group."""
        if told:
            log.info("kafka: joined the group after %.0f s", waited_s)

    def restored(self, partition: Partition, start: Start, left_out: int, end: int) -> None:
        """A partition's states are where ``start`` says, and its log has this end. A hundred of them may take longer
        than the loop may stand.
        """
        now = self._clock.now()
        self.status.turned(now)
        self.lateness.assigned(partition, min(start.owed, default=start.live_from), start.offset, end, now)
        self.metrics.checkpoints_voided.inc(start.voided)
        if start.lost and self._lost_at.get(partition) != start.live_from:  # not again after a rollback
            self._lost_at[partition] = start.live_from
            self.metrics.records_lost.inc(start.lost)
        streams = 0 if start.state is None else len(start.state.keys) - left_out
        replay = start.live_from - start.offset
        log.info(
            "%s: from %s, %d streams%s", partition, start.source, streams,
            f", replaying {replay} offsets up to {start.live_from}" if replay else "",
            extra=about(partition, start.offset),
        )  # fmt: skip
        if left_out:
            told = "%s: %d streams of the checkpoint are forgotten: state.max_streams"
            log.warning(told, partition, left_out, extra=about(partition, start.offset))

    def kafka_away(self, now: float, error: Exception) -> None:
        """The cluster or the store does not answer. No reason to restart: the loop keeps asking."""
        self.status.turned(now)
        self.client.failed(error)
        if isinstance(error, StoreUnavailableError):
            self.status.set("states", str(error))  # until they are there
        if isinstance(error, KafkaRefusedError):
            self.status.set("connection", str(error), REFUSAL_SHOWN_S)
        self.reach.away(now, error)
        self._lines.away(now, error)

    def began_again(self, positions: Positions) -> None:
        """A turn has failed, and states and positions are again what they were at the last commit."""
        self.metrics.rollbacks.inc()
        self._records.begin_again(positions.commits())
        self._replaying.clear()
        self._lines.rolled_back(self._clock.now(), sorted(positions.all()))
        self.owned(positions)

    def stopping(self) -> None:
        """The worker has been told to stop."""
        self.metrics.set_worker_state("stopping")
        self.status.set("worker", "stopping")
        log.info("stopping: flushing outputs, committing offsets, writing checkpoints")

    def checkpoints(self, results: Iterable[CheckpointResult], delay_s: float, replaced: int) -> None:
        """Checkpoints written in the background, and how long the oldest copy has been waiting."""
        self.saves.told(results, delay_s, replaced, self._owned)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        metrics, steps = self.metrics, sum(outcome.events for outcome in outcomes)
        if replayed := sum(len(outcome.batch) for outcome in outcomes if outcome.batch.replay):
            metrics.replayed_records.inc(replayed)
        metrics.events_processed.inc(steps)
        metrics.batch_events.observe(steps)

    def _count_replay(self, now: float, positions: Positions) -> None:
        left = positions.replaying()
        for partition in set(self._replaying) - set(left):
            self.metrics.restore_duration.observe(now - self._replaying.pop(partition))
            at = positions.of(partition)
            log.info("%s is live at offset %d", partition, at, extra=about(partition, at))
            self.metrics.of(self.metrics.replay_remaining, partition).set(0)
        self._set(self.metrics.replay_remaining, left)
        self._say_state()

    def _count_engine(self, now: float, engine: AnyEngine) -> None:
        table = engine.table
        self._set(self.metrics.streams_active, {each: len(known.rows) for each, known in table.partitions.items()})
        for kind, message, *values in self._engine.count(engine):
            fields = {"stream": values[1]} if kind == "doubled" else None
            self._lines.warn(now, kind, message, *values, fields=fields)

    def _set(self, gauge: Gauge, values: Mapping[Partition, int]) -> None:
        for partition, value in values.items():
            self.metrics.of(gauge, partition).set(value)

    def _say_state(self) -> None:
        self.metrics.set_worker_state("restoring" if self._replaying else "running")
        self.status.set("states", f"replaying {listed(sorted(self._replaying))}" if self._replaying else None)
