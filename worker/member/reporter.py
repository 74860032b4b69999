"""Tells the outside what the loop does: metrics, probes and log lines. Counts per turn, never per event."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.checkpoints.writer import CheckpointResult
from worker.engine.engine import Engine
from worker.errors import KafkaRefusedError, StoreUnavailableError
from worker.member.engine_counts import EngineCounts
from worker.member.limits import Topics
from worker.member.positions import Positions
from worker.member.record_counts import RecordCounts
from worker.member.recovery_policy import Start
from worker.member.timing import Clock
from worker.pipeline.pipeline import Outcome
from worker.records.events import Refusal
from worker.records.ownership import Assigned, Change, Partition
from worker.web.metrics import Metrics
from worker.web.status import WorkerStatus

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Gauge, Histogram

log = logging.getLogger("worker.loop")

REPEAT_INTERVAL_S = 60.0  # between two log lines of one kind
REFUSAL_SHOWN_S = 15.0  # longer than from one try of a client to the next
GAUGES_INTERVAL_S = 0.2  # while turns follow each other: to set all gauges takes as long as the turn of an event


class Reporter:
    """One per worker."""

    def __init__(self, metrics: Metrics, status: WorkerStatus, clock: Clock) -> None:
        self.metrics, self.status, self._clock = metrics, status, clock
        self._said: dict[str, tuple[float, int]] = {}  # kind of line → (last said, times kept back since)
        self._engine = EngineCounts(metrics)
        self._records = RecordCounts(metrics)
        self._rebuilds = 0
        self._owned: set[Partition] = set()
        self._replaying: dict[Partition, float] = {}  # partition → when its replay began
        self._gauges_at = -math.inf
        self._behind = False  # the gauges

    @contextmanager
    def timed(self, histogram: Histogram) -> Iterator[None]:
        """Observe how long the block takes."""
        started = self._clock.now()
        yield
        histogram.observe(self._clock.now() - started)

    def answered(self, outcomes: Sequence[Outcome], topics: Topics) -> None:
        """Their messages for these topics are about to be written."""
        for outcome in outcomes:
            self._records.answered(outcome, topics)

    def turned(self, now: float, outcomes: Sequence[Outcome], positions: Positions, engine: Engine) -> None:
        """A turn has ended."""
        self.status.turned(now)
        if outcomes:
            self._count(outcomes)
            self._behind = True
        if self._replaying:
            self._count_replay(now, positions)
        if self._behind and (now >= self._gauges_at or not outcomes):
            self._gauges_at, self._behind = now + GAUGES_INTERVAL_S, False
            self._count_engine(now, engine)
            self._set(self.metrics.position_offset, positions.all())
        for outcome in outcomes:
            for refusal in outcome.refusals:
                self._refused(now, outcome, refusal)

    def commit_failed(self, now: float, error: Exception) -> None:
        """Nothing is lost: the next commit covers it, or another member repeats the outputs."""
        self.metrics.commits.labels("failed").inc()
        # By its class: a refused message is reported even just after a slow cluster.
        self._say(now, f"commit {type(error).__name__}", "offsets are not committed now: %s", error)

    def rolling_back(self, told: str | None) -> None:
        """The turn that failed will be made again; ``told``: why the worker makes no progress, if it makes none."""
        self.status.set("delivery", told)

    def committed(self, offsets: Mapping[Partition, int]) -> None:
        """Offsets are committed."""
        self.metrics.commits.labels("ok").inc()
        self._records.committed(offsets)
        self.status.set("delivery", None)
        self._set(self.metrics.committed_offset, offsets)

    def rebuilt(self, rebuilds: int) -> None:
        """How often the client was replaced, since the start."""
        self.metrics.client_rebuilds.inc(rebuilds - self._rebuilds)
        self._rebuilds = rebuilds

    def lags(self, ends: Mapping[Partition, int], positions: Positions) -> None:
        """How many records of the log are not answered yet, or not committed yet; ``ends`` of the logs."""
        for gauge, offsets in (
            (self.metrics.lag_records, positions.all()),
            (self.metrics.uncommitted_records, positions.commits()),
        ):
            self._set(gauge, {each: max(0, end - offsets[each]) for each, end in ends.items() if each in offsets})

    def rebalanced(self, change: Change) -> None:
        """The group has given or taken partitions."""
        kind = type(change).__name__.lower()
        self.metrics.rebalances.labels(kind).inc()
        log.info("%s: %s", kind, _listed(change.partitions))
        if not isinstance(change, Assigned):
            for partition in change.partitions:
                self._replaying.pop(partition, None)

    def owned(self, positions: Positions) -> None:
        """The change of ownership is complete. A member without partitions is ready, too."""
        self.metrics.assigned_partitions.set(len(positions))
        owned = set(positions.all())
        # Not before: giving a partition up commits it, which still reports on it.
        for partition in self._owned - owned:
            self.metrics.drop_partition(partition)
        self._owned = owned
        self._records.keep(owned)
        now = self._clock.now()
        for partition in positions.replaying():
            self._replaying.setdefault(partition, now)
        self.status.set("kafka", None)
        self._say_state()

    def outside(self, now: float, waited_s: float, session_s: float) -> None:
        """We have not joined the group for so long; the group waits ``session_s`` for a member that died."""
        self.status.set(
            "kafka",
            f"has waited {waited_s:.0f} s to join the group, which waits for a member that does not answer: a dead "
            f"member is removed when its session of {session_s:.0f} s (session.timeout.ms) is over",
        )
        self._say(now, "outside", "kafka: %s", self.status.reason("kafka"))

    def let_in(self, waited_s: float, told: bool) -> None:
        """We have joined the group."""
        if told:
            log.info("kafka: joined the group after %.0f s", waited_s)

    def restored(self, partition: Partition, start: Start, left_out: int) -> None:
        """A partition's states are where ``start`` says. A hundred of them may take longer than the loop may stand."""
        self.status.turned(self._clock.now())
        streams = 0 if start.state is None else len(start.state.keys) - left_out
        replay = start.live_from - start.offset
        log.info(
            "%s: from %s, %d streams%s", partition, start.source, streams,
            f", replaying {replay} offsets up to {start.live_from}" if replay else "",
        )  # fmt: skip
        if left_out:
            log.warning("%s: %d streams of the checkpoint are forgotten: state.max_streams", partition, left_out)

    def kafka_away(self, now: float, error: Exception) -> None:
        """The cluster or the store does not answer. No reason to restart: the loop keeps asking."""
        self.status.turned(now)
        if isinstance(error, StoreUnavailableError):
            self.status.set("states", str(error))  # until they are there
        if isinstance(error, KafkaRefusedError):
            self.status.set("connection", str(error), REFUSAL_SHOWN_S)
        self._say(now, "kafka", "%s; resuming when it is back", error)

    def began_again(self, positions: Positions) -> None:
        """A turn has failed, and states and positions are again what they were at the last commit."""
        self.metrics.rollbacks.inc()
        self._records.begin_again(positions.commits())
        self._replaying.clear()
        self.owned(positions)

    def stopping(self) -> None:
        """The worker has been told to stop."""
        self.metrics.set_worker_state("stopping")
        self.status.set("worker", "stopping")
        log.info("stopping: flushing outputs, committing offsets, writing checkpoints")

    def checkpoints(self, results: Iterable[CheckpointResult], delay_s: float) -> None:
        """Checkpoints written in the background, and how long the oldest copy has been waiting."""
        metrics = self.metrics
        metrics.checkpoint_delay.set(delay_s)
        for result in results:
            metrics.checkpoints.labels("ok" if result.ok else "failed").inc()
            self.status.set("checkpoints", None if result.ok else str(result.error))
            if result.ok:
                metrics.checkpoint_duration.observe(result.duration_s)
            if result.ok and result.partition in self._owned:
                metrics.of(metrics.checkpoint_size, result.partition).set(result.size_bytes)
                metrics.of(metrics.checkpoint_offset, result.partition).set(result.next_offset)
                metrics.of(metrics.checkpoint_success, result.partition).set(self._clock.wall())
            if result.error is not None:
                log.warning("checkpoint of %s at %d: %s", result.partition, result.next_offset, result.error)

    def _count(self, outcomes: Sequence[Outcome]) -> None:
        metrics, steps = self.metrics, sum(outcome.events for outcome in outcomes)
        if replayed := sum(len(outcome.batch) for outcome in outcomes if outcome.batch.replay):
            metrics.replayed_records.inc(replayed)
        metrics.events_processed.inc(steps)
        metrics.batch_events.observe(steps)
        latest = max((outcome.batch.timestamps[-1] for outcome in outcomes), default=-1)
        if latest >= 0:
            metrics.event_time_lag.observe(max(0.0, self._clock.wall() - latest / 1000))

    def _count_replay(self, now: float, positions: Positions) -> None:
        left = positions.replaying()
        for partition in set(self._replaying) - set(left):
            self.metrics.restore_duration.observe(now - self._replaying.pop(partition))
            log.info("%s is live at offset %d", partition, positions.of(partition))
            self.metrics.of(self.metrics.replay_remaining, partition).set(0)
        self._set(self.metrics.replay_remaining, left)
        self._say_state()

    def _count_engine(self, now: float, engine: Engine) -> None:
        table = engine.table
        self._set(self.metrics.streams_active, {each: len(known.rows) for each, known in table.partitions.items()})
        for kind, message, *values in self._engine.count(engine):
            self._say(now, kind, message, *values)

    def _set(self, gauge: Gauge, values: Mapping[Partition, int]) -> None:
        for partition, value in values.items():
            self.metrics.of(gauge, partition).set(value)

    def _refused(self, now: float, outcome: Outcome, refusal: Refusal) -> None:
        batch = outcome.batch
        where = f"{batch.partition} offset {batch.offsets[refusal.record]}"
        self._say(now, f"refused {refusal.error}", "record refused, %s: %s (%s)", where, refusal.reason, refusal.error)

    def _say(self, now: float, kind: str, message: str, *values: object) -> None:
        """A warning, once per kind and interval; the next one counts those kept back."""
        last, kept_back = self._said.get(kind, (now - REPEAT_INTERVAL_S, 0))
        if now - last < REPEAT_INTERVAL_S:
            self._said[kind] = (last, kept_back + 1)
            return
        self._said[kind] = (now, 0)
        more = f" (and {kept_back} more of this kind)" if kept_back else ""
        log.warning(message + more, *values)

    def _say_state(self) -> None:
        self.metrics.set_worker_state("restoring" if self._replaying else "running")
        self.status.set("states", f"replaying {_listed(sorted(self._replaying))}" if self._replaying else None)


def _listed(partitions: Sequence[Partition]) -> str:
    shown = ", ".join(map(str, partitions[:8]))
    return shown + (f" and {len(partitions) - 8} more" if len(partitions) > 8 else "")
