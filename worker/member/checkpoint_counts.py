"""Checkpoints written in the background, as metrics and log lines."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from worker.checkpoints.writer import CheckpointResult
from worker.member.timing import Clock
from worker.records.log_fields import about
from worker.records.ownership import Partition

if TYPE_CHECKING:
    from worker.web.metrics import Metrics

log = logging.getLogger("worker.loop")


class CheckpointCounts:
    """A checkpoint that fails is an alert and no reason to be "not ready": it must not block the rollout that mends it.

    The counts of copies that wait or were replaced are of the writer, since its start.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics, self._clock = metrics, clock
        self._replaced = 0

    def told(
        self, results: Iterable[CheckpointResult], delay_s: float, replaced: int, owned: Collection[Partition]
    ) -> None:
        """What has ended since the last look, and how long the oldest copy has been waiting."""
        metrics = self._metrics
        metrics.checkpoint_delay.set(delay_s)
        if replaced > self._replaced:
            metrics.checkpoints_skipped.labels("replaced").inc(replaced - self._replaced)
            self._replaced = replaced
        for result in results:
            metrics.checkpoints.labels("ok" if result.ok else "failed").inc()
            if result.ok:
                metrics.checkpoint_duration.observe(result.duration_s)
            if result.ok and result.partition in owned:
                metrics.of(metrics.checkpoint_size, result.partition).set(result.size_bytes)
                metrics.of(metrics.checkpoint_offset, result.partition).set(result.next_offset)
                metrics.of(metrics.checkpoint_success, result.partition).set(self._clock.wall())
            if result.error is not None:
                fields = about(result.partition, result.next_offset, error="checkpoint_failed")
                told = "checkpoint of %s at %d: %s"
                log.warning(told, result.partition, result.next_offset, result.error, extra=fields)

    def skipped(self, reason: str, partitions: int) -> None:
        """So many that were due got none yet."""
        self._metrics.checkpoints_skipped.labels(reason).inc(partitions)
