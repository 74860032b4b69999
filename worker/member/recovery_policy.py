"""Where to begin without a usable checkpoint: the log does not say, so policy decides.

Each answer says whether it is a decision: whether a later recovery, still without a checkpoint, could come to another
answer. Decisions are saved at once.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from worker.errors import CheckpointUnusableError, WorkerError
from worker.kafka.contracts import TopicFacts
from worker.member.commit_notes import noted_work
from worker.member.warming import Warm
from worker.records.arrays import NO_TIME_MS
from worker.records.log_fields import about
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

log = logging.getLogger("worker.recovery")


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """What to do without a usable checkpoint, with one of another model or input, and with partitions added.

    ``exactly_once``: outputs must not come twice, whatever becomes of the committed offsets.
    """

    recover: Literal["rebuild", "reset", "fail"] = "rebuild"
    on_model_change: Literal["fail", "reset", "keep", "warm"] = "fail"
    on_partitions_change: Literal["fail", "reset"] = "fail"
    rebuild_from_ms: int | None = None  # how far back ``rebuild`` goes; None: to the log's start
    exactly_once: bool = False
    warm: Warm | None = None  # how far back ``rebuild`` goes from the committed offset, and ``warm``


@dataclass(frozen=True, slots=True)
class Start:
    """Read from ``offset``; below ``live_from`` replay without emitting. ``state`` None: all streams at zero.

    ``owed``: of the records below ``live_from`` those whose answers are not complete: offset → outputs sent of it.
    """

    offset: int
    live_from: int
    state: PartitionState | None
    source: str  # where the states came from, for the log
    decided: bool = False  # by policy: only a checkpoint will record it
    new_rules: bool = False  # since the checkpoint was written
    owed: Mapping[int, int] = field(default_factory=dict)
    voided: int = 0  # checkpoints that could not be used
    lost: int = 0  # offsets that the log has no more, of those not read yet or read already

    @property
    def saw_nothing(self) -> bool:
        """No event was ever seen."""
        return self.state is None or saw_nothing(self.state)


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the cluster says of a partition: C1 (None: there is none) with its note, and the log's range.

    The note may say that the group has read beyond C1, up to P1, and which records in between are not answered: C1 is
    the first of these. ``rebuild_from``: how far back ``rebuild`` goes, if not to the log's start; ``warm_from``: how
    far where ``warm`` says it.
    """

    partition: Partition
    topic: TopicFacts
    committed: int | None
    begin: int
    end: int
    rebuild_from: int = 0
    note: str = ""
    warm_from: int = 0

    @property
    def _work(self) -> tuple[int, Mapping[int, int]]:
        """P1, and what is unfinished below."""
        return (0, {}) if self.committed is None else noted_work(self.note, self.topic, self.committed)

    @property
    def resumed_at(self) -> int:
        """C1, or what is left of the log after it."""
        return self.begin if self.committed is None else min(max(self.committed, self.begin), self.end)

    @property
    def live_from(self) -> int:
        """P1: records below were answered, but those owed."""
        return self.begin if self.committed is None else min(max(self._work[0], self.begin), self.end)

    @property
    def owed(self) -> Mapping[int, int]:
        """Offset → outputs sent, of the records below ``live_from`` whose answers are not complete."""
        return {offset: sent for offset, sent in self._work[1].items() if self.begin <= offset < self.live_from}

    @property
    def lost(self) -> bool:
        """Whether the group has read records that the cluster has no more."""
        return self.committed is not None and self._work[0] > self.end

    @property
    def gone(self) -> int:
        """How many offsets the log has no more: before its start and not answered, or beyond its end and read."""
        if self.committed is None:
            return 0
        return max(0, self.begin - self.committed) + max(0, self._work[0] - self.end)

    @property
    def believable(self) -> int:
        """A checkpoint beyond C1 has seen records whose outputs may be missing; one beyond the log, another log."""
        return self.end if self.committed is None else min(self.committed, self.end)

    @property
    def read_to(self) -> int:
        """The same for the position up to which a checkpoint has read: P1."""
        return self.end if self.committed is None else min(self._work[0], self.end)


def after_change(policy: RecoveryPolicy, facts: LogFacts, changed: CheckpointUnusableError) -> Start:
    """The newest checkpoint is of another model or input, and none of ours is left. Raises WorkerError for ``fail``,
    and for ``keep`` where its states have other shapes."""
    if policy.on_model_change == "fail":
        raise WorkerError(
            f"{changed}; set state.on_model_change to reset (start at zero), keep (same shapes) or warm (replay "
            "state.warm of the log), or state.directory to another folder"
        )
    if policy.on_model_change == "keep":  # it would have been taken
        raise WorkerError(
            f"{changed}, and its states have other shapes, which state.on_model_change: keep can't take; set it to "
            "reset (start at zero) or warm (replay state.warm of the log), or state.directory to another folder"
        )
    where = about(facts.partition, facts.resumed_at)
    if policy.on_model_change == "warm":
        first = _first(facts, facts.warm_from)
        log.warning("%s; states are warmed from offset %d on (state.warm)", changed, first, extra=where)
        return Start(first, facts.live_from, None, f"the log from {first} (state.on_model_change: warm)", decided=True)
    log.warning("%s; all streams of %s start at zero", changed, facts.partition, extra=where)
    return Start(facts.resumed_at, facts.live_from, None, "zero (state.on_model_change: reset)", decided=True)


def without_checkpoint(policy: RecoveryPolicy, facts: LogFacts) -> Start:
    """No checkpoint is there, or all are unusable. Raises WorkerError for ``fail``, but not at a first start."""
    recover, begin, live_from, resumed_at = policy.recover, facts.begin, facts.live_from, facts.resumed_at
    bounded = policy.rebuild_from_ms is not None or policy.warm is not None
    # If the log begins later, its earlier records are in no state: only a first start may ignore them.
    if resumed_at == begin and (facts.committed is None or begin == 0 or recover != "fail"):
        return Start(begin, live_from, None, "the beginning of the log", decided=recover != "rebuild" or bounded)
    if recover == "fail":
        raise WorkerError(
            f"{facts.partition}: no usable checkpoint for committed offset {resumed_at}; set state.recover to "
            "rebuild (replay the log) or reset (start at zero)"
        )
    if recover == "reset":
        log.warning(
            "%s: no usable checkpoint; all streams start at zero at %d",
            facts.partition, resumed_at, extra=about(facts.partition, resumed_at),
        )  # fmt: skip
        return Start(resumed_at, live_from, None, "zero (state.recover: reset)", decided=True)
    first = _first(facts, facts.rebuild_from if policy.warm is None else facts.warm_from)
    if first > 0:
        key = "state.rebuild_from" if policy.warm is None else "state.warm"
        reason = key if first > begin else "the log begins there"
        log.warning(
            "%s: no usable checkpoint; states are rebuilt from offset %d on (%s), and those of streams that began "
            "before it may differ from what they were", facts.partition, first, reason,
            extra=about(facts.partition, first),
        )  # fmt: skip
    return Start(first, live_from, None, f"the log from {first} (state.recover: rebuild)", decided=bounded)


def _first(facts: LogFacts, back_to: int) -> int:
    """Where a replay begins that goes back so far."""
    return min(max(facts.begin, back_to), facts.resumed_at)


def without_commit(policy: RecoveryPolicy, facts: LogFacts, start: Start) -> None:
    """The group has a checkpoint, and Kafka has forgotten how far it was committed: at or beyond it, nobody knows.

    A worker that stops in order leaves its last checkpoint there, so mostly nothing is repeated. Raises WorkerError
    where nothing may be repeated.
    """
    if facts.committed is not None or start.saw_nothing:
        return
    gone = f"{facts.partition}: the group has no committed offset any more (it has expired, or was deleted)"
    if policy.exactly_once and policy.recover == "fail":
        raise WorkerError(
            f"{gone}, so nobody knows which outputs after its checkpoint at {start.offset} were sent; once the group "
            "has no members, set the offset (kafka-consumer-groups.sh --reset-offsets --to-offset N --execute), or set "
            "state.recover to rebuild, which continues at the checkpoint and may repeat outputs"
        )
    log.warning(
        "%s; continuing at its checkpoint at %d: if the worker had stopped in order, nothing is repeated; if not, "
        "outputs after the checkpoint are sent twice", gone, start.offset, extra=about(facts.partition, start.offset),
    )  # fmt: skip


def owed(facts: LogFacts, start: Start) -> Mapping[int, int]:
    """See ``Start.owed``. Without a committed offset nobody knows which were sent: all that the checkpoint names."""
    if facts.committed is not None:
        return facts.owed
    return {} if start.state is None else {each.offset: 0 for each in start.state.unfinished}


def saw_nothing(state: PartitionState) -> bool:
    """No event was ever seen: these states fit any model."""
    return state.clock == NO_TIME_MS and not state.keys and not state.forgotten


def nothing(partition: Partition, offset: int, specs: Sequence[StateSpec]) -> PartitionState:
    """A partition whose streams are all at zero: none is known."""
    numbers = np.zeros(0, np.int64)
    return PartitionState(
        partition=partition,
        next_offset=offset,
        clock=NO_TIME_MS,
        keys=[],
        steps=numbers,
        times=numbers,
        clocks=numbers,
        pending=numbers.astype(np.uint8),
        sequences=[],
        states={(spec.layer, spec.name): np.zeros((0, *spec.shape), spec.dtype) for spec in specs},
        touched=numbers,
    )
