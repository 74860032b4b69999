"""Where a partition goes on after a restart: the committed offset, the newest usable checkpoint below it, and policy.

Let C1 be the committed offset and C0 the position of a checkpoint. The states at C0 and the records C0..C1 give the
states at C1, whichever checkpoint is taken, so any older file is as right as the newest; it only replays longer.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from worker.checkpoints.hdf5 import CheckpointIdentity, read_checkpoint
from worker.checkpoints.store import CheckpointStore
from worker.errors import CheckpointUnusableError, ModelChangedError, WorkerError
from worker.records import Partition, PartitionState, StateSpec

log = logging.getLogger("worker.recovery")


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """What to do without a usable checkpoint, and with one of another model."""

    recover: Literal["rebuild", "reset", "fail"] = "rebuild"
    on_model_change: Literal["fail", "reset", "keep"] = "fail"


@dataclass(frozen=True, slots=True)
class Start:
    """Read from ``offset``; below ``live_from`` replay without emitting. ``state`` None: all streams at zero."""

    offset: int
    live_from: int
    state: PartitionState | None
    source: str  # where the states came from, for the log


class Recovery:
    """Finds the start of a partition."""

    def __init__(
        self,
        store: CheckpointStore,
        identity: CheckpointIdentity,
        specs: Sequence[StateSpec],
        policy: RecoveryPolicy,
    ) -> None:
        self._store = store
        self._identity = identity
        self._specs = specs
        self._policy = policy

    def start(self, partition: Partition, topic_id: str, committed: int | None, log_range: tuple[int, int]) -> Start:
        """Raises WorkerError where the policy says ``fail``."""
        begin, end = log_range
        if committed is not None and committed > end:
            # The log is shorter than what was read: another topic of the same name, or records lost by the cluster.
            log.warning(
                "%s: committed offset %d lies beyond the log's end %d; going on at its end", partition, committed, end
            )
        if committed is not None and committed < begin:
            log.warning(
                "%s: offsets %d to %d were deleted from the log before they were read", partition, committed, begin
            )
        live_from = begin if committed is None else min(max(committed, begin), end)
        # A checkpoint beyond C1 has seen records whose outputs nobody has; one beyond the log is of another log.
        at_most = end if committed is None else min(committed, end)
        start = self._from_checkpoint(partition, topic_id, begin, at_most, live_from)
        if start is not None:
            return start
        # What a log that begins later held before is in no state: only a first start may take it for nothing.
        if live_from == begin and (committed is None or begin == 0 or self._policy.recover != "fail"):
            return Start(begin, begin, None, "the beginning of the log")
        return self._without_checkpoint(partition, begin, live_from)

    def _from_checkpoint(
        self, partition: Partition, topic_id: str, begin: int, at_most: int, live_from: int
    ) -> Start | None:
        for path in self._store.candidates(partition, at_most):
            try:
                state = self._read(path, topic_id)
            except ModelChangedError as error:
                if self._policy.on_model_change == "fail":
                    raise WorkerError(
                        f"{error}; set state.on_model_change to reset (start at zero) or keep (same shapes), "
                        "or state.directory to another folder"
                    ) from None
                log.warning("%s; all streams of %s start at zero", error, partition)
                return Start(live_from, live_from, None, "zero (state.on_model_change: reset)")
            except CheckpointUnusableError as error:
                log.warning("checkpoint skipped: %s", error)
                continue
            if state.next_offset < begin:
                log.warning("checkpoint skipped: %s is older than the log, which begins at %d", path, begin)
                return None
            # Without a committed offset nobody says how far outputs went: they are repeated rather than lost.
            live = max(live_from, state.next_offset)
            return Start(state.next_offset, live, state, f"checkpoint at {state.next_offset}")
        return None

    def _read(self, path: Path, topic_id: str) -> PartitionState:
        keep = self._policy.on_model_change == "keep"
        return read_checkpoint(path, self._identity.of_topic(topic_id, any_model=keep), self._specs)

    def identity(self, topic_id: str) -> CheckpointIdentity:
        """Whose states new checkpoints of this topic hold."""
        return self._identity.of_topic(topic_id)

    def _without_checkpoint(self, partition: Partition, begin: int, live_from: int) -> Start:
        policy = self._policy.recover
        if policy == "fail":
            raise WorkerError(
                f"{partition}: no usable checkpoint for committed offset {live_from}; set state.recover to rebuild "
                "(replay the log) or reset (start at zero)"
            )
        if policy == "reset":
            return Start(live_from, live_from, None, "zero (state.recover: reset)")
        return Start(begin, live_from, None, f"the log from {begin} (state.recover: rebuild)")
