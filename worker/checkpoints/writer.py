"""Checkpoints are written by one thread in the background; it raises nothing: callers ask for the results.

At most one snapshot per partition waits: a newer one replaces it, so a slow disk makes checkpoints older but takes no
memory.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from worker.checkpoints.contracts import Store
from worker.checkpoints.header import CheckpointIdentity
from worker.records.ownership import Partition
from worker.records.states import PartitionState

DEFAULT_KEEP = 3  # generations per partition


def utc_now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What became of a snapshot. ``error`` says why it failed or, with ``ok``, why old files could not be deleted.

    A failed snapshot must be taken again: a partition without new records gets no other chance. ``waited_s`` is how
    long it waited for others before ``duration_s`` began.
    """

    partition: Partition
    next_offset: int
    ok: bool
    error: str | None
    duration_s: float
    size_bytes: int
    waited_s: float = 0.0


@dataclass(frozen=True, slots=True)
class _Snapshot:
    state: PartitionState
    identity: CheckpointIdentity
    since_s: float  # when the oldest snapshot that it stands for was taken


class CheckpointWriter:
    """Takes snapshots on the loop's thread and publishes them on its own.

    A snapshot's arrays belong to the writer from ``submit`` on. A snapshot that was replaced while it waited has no
    result.
    """

    def __init__(
        self,
        store: Store,
        keep: int = DEFAULT_KEEP,
        now: Callable[[], datetime] = utc_now,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._keep, self._now, self._clock = store, keep, now, clock
        self._waiting: dict[Partition, _Snapshot] = {}
        self._results: deque[CheckpointResult] = deque()
        self._changed = threading.Condition()
        self._writing: Partition | None = None
        self._writing_since_s: float | None = None
        self._closed = False
        self.replaced = 0  # snapshots that waited and were never written, because a newer one came; since the start
        # A daemon: a process that must end at once leaves a temporary file, which nobody reads.
        self._thread = threading.Thread(target=self._run, name="checkpoints", daemon=True)
        self._thread.start()

    def submit(self, state: PartitionState, identity: CheckpointIdentity) -> None:
        """Returns at once."""
        with self._changed:
            assert not self._closed, "submit after close"
            replaced = self._waiting.get(state.partition)
            self.replaced += replaced is not None
            since_s = self._clock() if replaced is None else replaced.since_s
            self._waiting[state.partition] = _Snapshot(state, identity, since_s)
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """How many snapshots wait, beside the one that is being written: at most one of each partition."""
        return len(self._waiting)

    def unfinished(self) -> set[Partition]:
        """Partitions with a snapshot that waits or is being written."""
        with self._changed:
            return {*self._waiting, *([] if self._writing is None else [self._writing])}

    def delay_s(self) -> float:
        """How long the oldest snapshot has waited and been written by now, 0 when there is none: it grows when the
        store is slow or hangs."""
        with self._changed:
            since = [snapshot.since_s for snapshot in self._waiting.values()]
            if self._writing_since_s is not None:
                since.append(self._writing_since_s)
            return max(0.0, self._clock() - min(since)) if since else 0.0

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
        return self.wait(timeout_s)

    def wait(self, timeout_s: float) -> bool:
        """Waits until everything submitted has ended; whether it has in time."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting and self._writing_since_s is None, timeout_s)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                if not self._waiting:
                    return
                partition = next(iter(self._waiting))
                snapshot = self._waiting.pop(partition)
                self._writing, self._writing_since_s = partition, snapshot.since_s
            result = self._write(snapshot)
            del snapshot  # or the arrays would stay in memory until the next one comes
            with self._changed:
                self._results.append(result)
                self._writing = self._writing_since_s = None
                self._changed.notify_all()

    def _write(self, snapshot: _Snapshot) -> CheckpointResult:
        state, started, size_bytes, ok, reason = snapshot.state, self._clock(), 0, False, None
        try:
            created = self._now()
            entry = self._store.publish(state, snapshot.identity, created=created)
            size_bytes, ok = self._store.size_bytes(entry), True
            self._store.prune(state.partition, self._keep, newest=state.next_offset, now_s=created.timestamp())
        except Exception as error:  # noqa: BLE001 (a thread that dies silently would mean no checkpoints ever again)
            reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return CheckpointResult(
            partition=state.partition,
            next_offset=state.next_offset,
            ok=ok,
            error=reason,
            duration_s=self._clock() - started,
            size_bytes=size_bytes,
            waited_s=started - snapshot.since_s,
        )
