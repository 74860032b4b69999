"""A second model that follows the first one on the same events, with its own states, into its own topic.

It can't touch the first: nothing it raises leaves this file, the loop waits for none of its outputs, and its
checkpoints are files of a group of their own. Whatever fails is counted. An error of the model itself ends the shadow
until the next start; outputs that can't be written now are dropped; states that can't be read begin at zero.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from worker.checkpoints.contracts import Store
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.writer import CheckpointWriter
from worker.errors import CheckpointUnusableError, UnavailableError, WorkerError, counted
from worker.member.lines import reason_in_log
from worker.member.shadow_outbox import ShadowOutbox
from worker.pipeline.pipeline import Outcome, predictions_of
from worker.pipeline.shadow import Compared, Followed, ShadowPipeline
from worker.records.events import Events
from worker.records.log_fields import about
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from worker.web.metrics import Metrics

log = logging.getLogger("worker.shadow")

REPEAT_INTERVAL_S = 60.0  # between two log lines about outputs


class Shadow:
    """A Follower. ``store``, ``writer`` and ``identity`` are the candidate's own."""

    def __init__(
        self,
        pipeline: ShadowPipeline,
        outbox: ShadowOutbox,
        store: Store,
        writer: CheckpointWriter,
        identity: CheckpointIdentity,
        specs: Sequence[StateSpec],
        metrics: Metrics,
    ) -> None:
        self.pipeline, self.outbox, self.metrics = pipeline, outbox, metrics
        self._store, self._writer, self._identity, self._specs = store, writer, identity, specs
        self._topic_ids: dict[Partition, str] = {}  # of the partitions that are open
        self._due: dict[Partition, int] = {}  # partitions whose states are to be saved, and at which position
        self._said_at = self._failed_at = -REPEAT_INTERVAL_S
        self._failed = 0
        self._lost = 0
        self.active = True
        metrics.shadow_active.set(1)

    def connect(self, now: float, timeout_s: float) -> None:
        """Before the first turn: wait so long for the topic of its outputs. While it isn't there, they are dropped."""
        try:
            self.outbox.connect(now, timeout_s)
        except (UnavailableError, WorkerError) as error:
            self._tell_lost(now, error)

    def opened(self, partition: Partition, next_offset: int, topic_id: str) -> None:
        """See Follower. Its states are those saved at this very position; else it begins at zero."""
        if not self.active:
            return
        with self._guarded("states"):
            self._topic_ids[partition] = topic_id
            state = self._saved_at(partition, next_offset, topic_id)
            self.pipeline.engine.table.open(partition, state)
            streams = 0 if state is None else len(state.keys)
            log.info("shadow: %s: %d streams at %d", partition, streams, next_offset, extra=about(partition))

    def turned(self, now: float, decoded: Sequence[Events], outcomes: Sequence[Outcome]) -> None:
        """See Follower."""
        if not self.active:
            return
        with self._guarded("model"):
            if decoded:
                followed = self.pipeline.follow(decoded, predictions_of(outcomes))
                self._count(now, decoded, followed)
                self._write(now, followed)
            self._look(now)
            for partition in list(self._due):
                self._save(partition)

    def saved(self, partition: Partition, next_offset: int) -> None:
        """See Follower. Its own copy is taken once it has seen the turn, too."""
        if self.active and partition in self._topic_ids:
            self._due[partition] = next_offset

    def dropped(self, partition: Partition) -> None:
        """See Follower."""
        if not self.active:
            return
        with self._guarded("states"):
            if partition in self._due:
                self._save(partition)
            self._topic_ids.pop(partition, None)
            self.pipeline.engine.table.drop(partition)

    def close(self, timeout_s: float) -> None:
        """See Follower."""
        self.outbox.close(timeout_s / 2)
        self._writer.close(timeout_s / 2)

    @contextmanager
    def _guarded(self, kind: str) -> Iterator[None]:
        """An error that was not foreseen ends the shadow, and nothing else."""
        try:
            yield
        except Exception:  # noqa: BLE001 (whatever it is, the first model goes on; it is logged with its traceback)
            self._fail(kind)

    def _saved_at(self, partition: Partition, next_offset: int, topic_id: str) -> PartitionState | None:
        try:
            for entry in self._store.candidates(partition, next_offset):
                if entry.next_offset == next_offset:
                    return self._store.read(entry, self._identity.of_topic(topic_id), self._specs)
        except CheckpointUnusableError as error:
            log.warning("shadow: checkpoint skipped: %s", error, extra=about(partition, next_offset))
        except (UnavailableError, WorkerError, OSError) as error:
            self.metrics.shadow_failures.labels("states").inc()
            log.warning("shadow: its states begin at zero: %s", error, extra=about(partition, next_offset))
        return None

    def _save(self, partition: Partition) -> None:
        next_offset = self._due.pop(partition)
        state = self.pipeline.engine.table.snapshot(partition, next_offset)
        self._writer.submit(state, self._identity.of_topic(self._topic_ids[partition]))

    def _count(self, now: float, decoded: Sequence[Events], followed: Followed) -> None:
        metrics, compared = self.metrics, followed.compared
        metrics.shadow_events.inc(sum(map(len, decoded)))
        _count_differences(metrics, compared)
        if followed.failed:
            metrics.shadow_failures.labels("records").inc()
            metrics.shadow_refused.inc(followed.failed)
            self._tell_failed(now, followed)
        if followed.too_large:
            metrics.shadow_outputs_lost.inc(followed.too_large)

    def _write(self, now: float, followed: Followed) -> None:
        for messages in followed.outputs:
            if not len(messages):
                continue
            try:
                self.outbox.send(now, messages)
            except (UnavailableError, WorkerError) as error:
                self._tell_lost(now, error)
            else:
                self.metrics.shadow_outputs.inc(len(messages))

    def _look(self, now: float) -> None:
        try:
            self.outbox.look(now)
        except WorkerError as error:
            self._tell_lost(now, error)
        for result in self._writer.poll_results():
            if not result.ok:
                self.metrics.shadow_failures.labels("states").inc()
                log.warning("shadow: checkpoint of %s at %d: %s", result.partition, result.next_offset, result.error)

    def _tell_lost(self, now: float, error: Exception) -> None:
        self.metrics.shadow_failures.labels("outputs").inc()
        self.metrics.shadow_outputs_lost.inc(self.outbox.lost - self._lost)
        self._lost = self.outbox.lost
        if now - self._said_at >= REPEAT_INTERVAL_S:
            self._said_at = now
            log.warning("shadow: outputs are dropped, %d so far: %s (shadow.topic)", self._lost, error)

    def _tell_failed(self, now: float, followed: Followed) -> None:
        self._failed += followed.failed
        if followed.first is not None and now - self._failed_at >= REPEAT_INTERVAL_S:
            self._failed_at = now
            told = "shadow: it can't answer %s so far, and has no output for them: %s (%s)"
            why = reason_in_log(followed.first)
            log.warning(told, counted(self._failed, "record"), why, followed.first.error)

    def _fail(self, kind: str) -> None:
        self.active = False
        self.metrics.shadow_failures.labels(kind).inc()
        self.metrics.shadow_active.set(0)
        table = self.pipeline.engine.table
        for partition in list(table.partitions):
            table.drop(partition)
        log.exception("shadow: it has failed and is off until the worker is started again (shadow.path)")


def _count_differences(metrics: Metrics, compared: Compared) -> None:
    metrics.shadow_compared.inc(compared.events)
    metrics.shadow_labels.inc(compared.labels)
    metrics.shadow_difference.inc(compared.difference)
