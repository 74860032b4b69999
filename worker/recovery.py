"""Where a partition goes on after a restart: the committed offset, the newest usable checkpoint below it, and policy.

Let C1 be the committed offset and C0 the position of a checkpoint. The states at C0 and the records C0..C1 give the
states at C1, whichever checkpoint is taken, so any older file is as right as the newest; it only replays longer. What
policy decides does not follow from the log: it is written to the store at once, so that it is decided once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime

import numpy as np

from worker.checkpoints.contracts import Place, Store
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity
from worker.checkpoints.writer import utc_now
from worker.config.inputs import input_changes
from worker.errors import (
    CheckpointUnusableError,
    InputChangedError,
    ModelChangedError,
    StoreUnavailableError,
)
from worker.kafka.contracts import TopicFacts
from worker.records import Partition, PartitionState, StateSpec
from worker.repartition import PartitionCounts, newest_header, of_this_topic
from worker.starts import LogFacts, RecoveryPolicy, Start, after_change, without_checkpoint

__all__ = ["Recovery", "RecoveryPolicy", "Start"]

log = logging.getLogger("worker.recovery")


class Recovery:
    """Finds the start of a partition. ``now`` is the wall clock, for the attribute ``created`` and nothing else."""

    def __init__(
        self,
        store: Store,
        identity: CheckpointIdentity,
        specs: Sequence[StateSpec],
        policy: RecoveryPolicy,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._identity = identity
        self._specs = specs
        self._policy = policy
        self._now = now
        self._counts = PartitionCounts(store, policy.on_partitions_change)

    def identity(self, topic_id: str) -> CheckpointIdentity:
        """Whose states new checkpoints of this topic hold."""
        return self._identity.of_topic(topic_id, self._counts.accepted(topic_id))

    def rebuild_since_ms(self, now_ms: int) -> int | None:
        """The time for ``Source.offsets_at`` whose answer ``start`` wants; None: it wants none."""
        bounded = self._policy.recover == "rebuild" and self._policy.rebuild_from_ms is not None
        return max(0, now_ms - (self._policy.rebuild_from_ms or 0)) if bounded else None

    def start(
        self,
        partition: Partition,
        topic: TopicFacts,
        committed: int | None,
        log_range: tuple[int, int],
        rebuild_from: int | None = None,
    ) -> Start:
        """``rebuild_from``: the offset at ``rebuild_since_ms``, None where that is None.

        Raises WorkerError where the policy says ``fail``, StoreUnavailableError when nobody knows what the store has.
        """
        begin, end = log_range
        grown = self._counts.accept(partition, topic)
        committed = self._checked(partition, topic.id, committed, begin, end)
        facts = LogFacts(partition, topic.id, committed, begin, end, max(begin, rebuild_from or 0))
        found = self._from_checkpoint(facts)
        start, decided = found or without_checkpoint(self._policy, facts)
        if decided or grown:
            self._write_down(facts, start)
        return start

    def _checked(self, partition: Partition, topic_id: str, committed: int | None, begin: int, end: int) -> int | None:
        """The committed offset, if it is one of this log."""
        if committed is not None and committed < begin:
            log.warning(
                "%s: offsets %d to %d were deleted from the log before they were read; going on at %d",
                partition, committed, begin, begin,
            )  # fmt: skip
        if committed is None or committed <= end:
            return committed
        if self._of_a_deleted_topic(partition, topic_id, begin):
            log.warning(
                "%s: committed offset %d is of a deleted topic of the same name, this one ends at %d; "
                "reading all of it", partition, committed, end,
            )  # fmt: skip
            return None
        log.warning(
            "%s: committed offset %d lies beyond the log's end %d: the cluster has lost records; going on at its end",
            partition, committed, end,
        )  # fmt: skip
        return committed

    def _of_a_deleted_topic(self, partition: Partition, topic_id: str, begin: int) -> bool:
        """Whether what was saved here is of another topic of this name: what was committed is, too, then.

        A checkpoint of this topic at its log's start only says that another start found the same.
        """
        newest, ours = (newest_header(self._store, partition, wanted) for wanted in ("", topic_id))
        if newest is None or of_this_topic(newest, topic_id):
            return False
        return ours is None or ours.next_offset <= begin

    def _from_checkpoint(self, facts: LogFacts) -> tuple[Start, bool] | None:
        """The start, and whether policy had a say; None where no checkpoint does."""
        changed: CheckpointUnusableError | None = None
        for path in self._store.candidates(facts.partition, facts.believable):
            try:
                header = self._store.header(path)
                self._check_group(path, header, facts)
                state = self._read(path, facts.topic_id)
            except (ModelChangedError, InputChangedError) as error:
                # An older one of this model is as right as any: a model that comes back goes on where it was.
                changed = changed or self._told(path, error)
                continue
            except CheckpointUnusableError as error:
                log.warning("checkpoint skipped: %s", error)
                continue
            if state.next_offset < facts.begin:
                log.warning("checkpoint skipped: %s is older than the log, which begins at %d", path, facts.begin)
                break
            if changed is not None:
                log.warning("checkpoint skipped: %s; taking the one at %d", changed, state.next_offset)
            # Without a committed offset nobody says how far outputs went: they are repeated rather than lost.
            live = max(facts.live_from, state.next_offset)
            start = Start(state.next_offset, live, state, f"checkpoint at {state.next_offset}")
            return start, self._kept(path, header)
        return None if changed is None else after_change(self._policy, facts, changed)

    def _read(self, path: Place, topic_id: str) -> PartitionState:
        keep = self._policy.on_model_change == "keep"
        return self._store.read(path, self._identity.of_topic(topic_id, any_model=keep), self._specs)

    def _check_group(self, path: Place, header: CheckpointHeader, facts: LogFacts) -> None:
        """States are the same for every group; how far outputs went is not, and without C1 only the file says it."""
        theirs, ours = header.identity.group_id, self._identity.group_id
        if facts.committed is None and theirs != ours and of_this_topic(header, facts.topic_id):
            raise CheckpointUnusableError(
                f"{path}: it is of group '{theirs}', and group '{ours}' has no committed offset to go on from"
            )

    def _told(self, path: Place, error: CheckpointUnusableError) -> CheckpointUnusableError:
        """The same error; of a changed input only the keys that differ."""
        if not isinstance(error, InputChangedError):
            return error
        changes = input_changes(error.input, self._identity.input)
        return InputChangedError(f"{path}: its states were fed with another input ({changes})", error.input)

    def _kept(self, path: Place, header: CheckpointHeader) -> bool:
        """Whether the policy ``keep`` let this one pass; says so."""
        found, ours = header.identity, self._identity
        if found.model_sha256 != ours.model_sha256:
            models = f"{found.model_sha256[:12]}, now {ours.model_sha256[:12]}"
            log.warning("%s: states of another model (%s) are kept (state.on_model_change: keep)", path, models)
        changes = input_changes(found.input, ours.input) if found.input and ours.input else ""
        if changes:
            log.warning("%s: states fed with another input (%s) are kept (state.on_model_change: keep)", path, changes)
        return found.model_sha256 != ours.model_sha256 or bool(changes)

    def _write_down(self, facts: LogFacts, start: Start) -> None:
        """Before the first commit moves on: a crash, however early, then finds what was decided here."""
        state = start.state or _nothing(facts.partition, start.offset, self._specs)
        try:
            self._store.publish(state, self.identity(facts.topic_id), created=self._now())
        except (OSError, StoreUnavailableError) as error:
            log.warning(
                "%s: the start at %d can't be saved (%s); a crash before the next checkpoint decides it anew",
                facts.partition, start.offset, error,
            )  # fmt: skip


def _nothing(partition: Partition, offset: int, specs: Sequence[StateSpec]) -> PartitionState:
    """A partition whose streams are all at zero: none is known."""
    numbers = np.zeros(0, np.int64)
    return PartitionState(
        partition=partition,
        next_offset=offset,
        clock=-1,
        keys=[],
        steps=numbers,
        times=numbers,
        clocks=numbers,
        pending=numbers.astype(np.uint8),
        sequences=[],
        states={(spec.layer, spec.name): np.zeros((0, *spec.shape), spec.dtype) for spec in specs},
        touched=numbers,
    )
