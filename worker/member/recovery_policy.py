"""Where to begin without a usable checkpoint: the log does not say, so policy decides.

Each answer says whether it is a decision: whether a later recovery, still without a checkpoint, could come to another
answer. Decisions are saved at once.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from worker.errors import CheckpointUnusableError, WorkerError
from worker.kafka.contracts import TopicFacts
from worker.records.arrays import NO_TIME_MS
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

log = logging.getLogger("worker.recovery")


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """What to do without a usable checkpoint, with one of another model or input, and with partitions added.

    ``exactly_once``: outputs must not come twice, whatever becomes of the committed offsets.
    """

    recover: Literal["rebuild", "reset", "fail"] = "rebuild"
    on_model_change: Literal["fail", "reset", "keep"] = "fail"
    on_partitions_change: Literal["fail", "reset"] = "fail"
    rebuild_from_ms: int | None = None  # how far back ``rebuild`` goes; None: to the log's start
    exactly_once: bool = False


@dataclass(frozen=True, slots=True)
class Start:
    """Read from ``offset``; below ``live_from`` replay without emitting. ``state`` None: all streams at zero."""

    offset: int
    live_from: int
    state: PartitionState | None
    source: str  # where the states came from, for the log
    decided: bool = False  # by policy: only a checkpoint will record it
    new_rules: bool = False  # since the checkpoint was written

    @property
    def saw_nothing(self) -> bool:
        """No event was ever seen."""
        return self.state is None or saw_nothing(self.state)


@dataclass(frozen=True, slots=True)
class LogFacts:
    """What the cluster says of a partition: C1 (None: there is none) with its note, and the log's range.

    ``rebuild_from``: how far back ``rebuild`` goes, if not to the log's start.
    """

    partition: Partition
    topic: TopicFacts
    committed: int | None
    begin: int
    end: int
    rebuild_from: int = 0
    note: str = ""

    @property
    def live_from(self) -> int:
        return self.begin if self.committed is None else min(max(self.committed, self.begin), self.end)

    @property
    def believable(self) -> int:
        """A checkpoint beyond C1 has seen records whose outputs may be missing; one beyond the log, another log."""
        return self.end if self.committed is None else min(self.committed, self.end)


def after_change(policy: RecoveryPolicy, facts: LogFacts, changed: CheckpointUnusableError) -> Start:
    """The newest checkpoint is of another model or input, and none of ours is left. Raises WorkerError for ``fail``."""
    if policy.on_model_change == "fail":
        raise WorkerError(
            f"{changed}; set state.on_model_change to reset (start at zero) or keep (same shapes), "
            "or state.directory to another folder"
        )
    log.warning("%s; all streams of %s start at zero", changed, facts.partition)
    return Start(facts.live_from, facts.live_from, None, "zero (state.on_model_change: reset)", decided=True)


def without_checkpoint(policy: RecoveryPolicy, facts: LogFacts) -> Start:
    """No checkpoint is there, or all are unusable. Raises WorkerError for ``fail``, but not at a first start."""
    recover, begin, live_from = policy.recover, facts.begin, facts.live_from
    bounded = policy.rebuild_from_ms is not None
    # If the log begins later, its earlier records are in no state: only a first start may ignore them.
    if live_from == begin and (facts.committed is None or begin == 0 or recover != "fail"):
        return Start(begin, begin, None, "the beginning of the log", decided=recover != "rebuild" or bounded)
    if recover == "fail":
        raise WorkerError(
            f"{facts.partition}: no usable checkpoint for committed offset {live_from}; set state.recover to "
            "rebuild (replay the log) or reset (start at zero)"
        )
    if recover == "reset":
        log.warning("%s: no usable checkpoint; all streams start at zero at %d", facts.partition, live_from)
        return Start(live_from, live_from, None, "zero (state.recover: reset)", decided=True)
    first = min(max(begin, facts.rebuild_from), live_from)
    if first > 0:
        reason = "state.rebuild_from" if first > begin else "the log begins there"
        log.warning(
            "%s: no usable checkpoint; states are rebuilt from offset %d on (%s), and those of streams that began "
            "before it may differ from what they were", facts.partition, first, reason,
        )  # fmt: skip
    return Start(first, live_from, None, f"the log from {first} (state.recover: rebuild)", decided=bounded)


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
        "outputs after the checkpoint are sent twice", gone, start.offset,
    )  # fmt: skip


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
