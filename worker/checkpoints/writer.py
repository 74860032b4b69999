"""Checkpoints are written by one thread in the background; what became of them is asked for, nothing is thrown.

Of each partition at most one snapshot waits: a newer one takes its place, so a slow disk costs age, not memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from worker.checkpoints.hdf5 import CheckpointIdentity
from worker.checkpoints.store import CheckpointStore
from worker.records import Partition, PartitionState

DEFAULT_KEEP = 3  # generations per partition


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What became of a snapshot. ``error`` says why it failed or, with ``ok``, why old files could not be deleted."""

    partition: Partition
    next_offset: int
    ok: bool
    error: str | None
    duration_s: float
    size_bytes: int


class CheckpointWriter:
    """Takes snapshots on the loop's thread and publishes them on its own.

    A snapshot's arrays belong to the writer from ``submit`` on. One that was replaced while it waited has no result.
    """

    def __init__(
        self,
        store: CheckpointStore,
        keep: int = DEFAULT_KEEP,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._keep, self._now, self._clock = store, keep, now, clock
        self._waiting: dict[Partition, tuple[PartitionState, CheckpointIdentity]] = {}
        self._results: deque[CheckpointResult] = deque()
        self._changed = threading.Condition()
        self._busy = False
        self._closed = False
        # A daemon: a process that must end at once leaves a temporary file, which nobody reads.
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, state: PartitionState, identity: CheckpointIdentity) -> None:
        """Returns at once."""
        with self._changed:
            assert not self._closed, "submit after close"
            self._waiting[state.partition] = (state, identity)
            self._changed.notify_all()

    def poll_results(self) -> list[CheckpointResult]:
        """What has ended since the last call, oldest first."""
        with self._changed:
            results = list(self._results)
            self._results.clear()
        return results

    def close(self, timeout_s: float) -> bool:
        """Waits until everything submitted has ended; whether it has in time. Safe to call twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._waiting and not self._busy, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                partition = next(iter(self._waiting))
                state, identity = self._waiting.pop(partition)
                self._busy = True
            result = self._write(state, identity)
            del state  # or the arrays would stay until the next snapshot comes
            with self._changed:
                self._results.append(result)
                self._busy = False
                self._changed.notify_all()

    def _write(self, state: PartitionState, identity: CheckpointIdentity) -> CheckpointResult:
        started, size_bytes, ok, reason = self._clock(), 0, False, None
        try:
            created = self._now()
            path = self._store.publish(state, identity, created=created)
            size_bytes, ok = path.stat().st_size, True
            self._store.prune(state.partition, self._keep, newest=state.next_offset, now_s=created.timestamp())
        except Exception as error:  # noqa: BLE001 (a thread that dies silently would mean no checkpoints ever again)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        duration_s = self._clock() - started
        return CheckpointResult(state.partition, state.next_offset, ok, reason, duration_s, size_bytes)
