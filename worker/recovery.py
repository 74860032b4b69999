"""Where a partition goes on after a restart: the committed offset, the newest usable checkpoint below it, and policy.

Let C1 be the committed offset and C0 the position of a checkpoint. The states at C0 and the records C0..C1 give the
states at C1, whichever checkpoint is taken, so any older file is as right as the newest; it only replays longer. What
policy decides does not follow from the log: it is written to the store at once, so that it is decided once.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from functools import partial

from worker.checkpoints.contracts import Place, Store
from worker.checkpoints.header import SHOWN_DIGITS, CheckpointHeader, CheckpointIdentity
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
from worker.repartition import RECORDS_LOST, Look, PartitionCounts, newest_header, of_this_topic, remembering
from worker.starts import LogFacts, RecoveryPolicy, Start, after_change, nothing, saw_nothing, without_checkpoint

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
        places = self._store.candidates(partition, None)
        look = remembering(self._store.header)
        grown = self._counts.accept(partition, topic, places, look)
        committed = self._checked(partition, topic.id, committed, log_range, partial(newest_header, places, look))
        facts = LogFacts(partition, topic.id, committed, begin, end, max(begin, rebuild_from or 0))
        self._void(facts, places, look)
        found = self._from_checkpoint(facts, [place for place in places if int(place.stem) <= facts.believable], look)
        start, decided = found or without_checkpoint(self._policy, facts)
        if decided or grown:
            state = start.state or nothing(partition, start.offset, self._specs)
            self._save(state, self.identity(topic.id), "the start")
        return start

    def _checked(
        self,
        partition: Partition,
        topic_id: str,
        committed: int | None,
        log_range: tuple[int, int],
        newest: Callable[[str], CheckpointHeader | None],
    ) -> int | None:
        """The committed offset, if it is one of this log; ``newest`` finds a checkpoint by its topic's id."""
        begin, end = log_range
        if committed is not None and committed < begin:
            log.warning(
                "%s: offsets %d to %d were deleted from the log before they were read; going on at %d",
                partition, committed, begin, begin,
            )  # fmt: skip
        if committed is None or committed <= end:
            return committed
        if _of_a_deleted_topic(newest(""), newest(topic_id), topic_id, begin):
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

    def _void(self, facts: LogFacts, places: Sequence[Place], look: Look) -> None:
        """What was seen beyond the log's end is lost, and other records will take those offsets.

        Once the log has grown again nobody could tell: a checkpoint of nothing takes the place of such a one now. Only
        for this group it is sure: another one may have read on since the log's end was asked for.
        """
        for place in places:
            if int(place.stem) <= facts.end:
                return
            with suppress(CheckpointUnusableError):
                found = look(place).identity
                if (found.topic_id, found.group_id) == (facts.topic_id, self._identity.group_id):
                    log.warning(
                        "checkpoint voided: %s has seen records that the cluster has lost, the log of %s ends at %d",
                        place, facts.partition, facts.end,
                    )  # fmt: skip
                    state = nothing(facts.partition, int(place.stem), self._specs)
                    self._save(state, self._identity.of_topic(RECORDS_LOST), "a checkpoint of nothing")

    def _from_checkpoint(self, facts: LogFacts, places: Sequence[Place], look: Look) -> tuple[Start, bool] | None:
        """The start, and whether policy had a say; None where no checkpoint does."""
        changed: CheckpointUnusableError | None = None
        untouched: Start | None = None
        for place in places:
            try:
                header = look(place)
                self._check_origin(place, header, facts)
                state, ours = self._read(place, header, facts.topic_id)
            except (ModelChangedError, InputChangedError) as error:
                # An older one of this model is as right as any: a model that comes back goes on where it was.
                changed = changed or self._told(place, error)
                continue
            except CheckpointUnusableError as error:
                log.warning("checkpoint skipped: %s", error)
                continue
            if state.next_offset < facts.begin:
                log.warning("checkpoint skipped: %s is older than the log, which begins at %d", place, facts.begin)
                break
            # Without a committed offset nobody says how far outputs went: they are repeated rather than lost.
            live = max(facts.live_from, state.next_offset)
            start = Start(state.next_offset, live, state, f"checkpoint at {state.next_offset}")
            if not ours and saw_nothing(state):
                untouched = untouched or start  # of no model; one of ours, which has seen something, is better
                continue
            if changed is not None:
                log.warning("checkpoint skipped: %s; taking the one at %d", changed, state.next_offset)
            return start, not ours
        if changed is not None:
            return after_change(self._policy, facts, changed)
        return None if untouched is None else (untouched, True)

    def _read(self, place: Place, header: CheckpointHeader, topic_id: str) -> tuple[PartitionState, bool]:
        """The states, and whether they are of this model and input, as new checkpoints will say of them."""
        try:
            return self._store.read(place, self._identity.of_topic(topic_id), self._specs), True
        except (ModelChangedError, InputChangedError) as error:
            keep = self._policy.on_model_change == "keep"
            try:
                state = self._store.read(place, self._identity.of_topic(topic_id, any_model=True), self._specs)
            except CheckpointUnusableError as unusable:
                raise (unusable if keep else error) from None
            if not keep and not saw_nothing(state):
                raise
            if keep:
                self._tell_kept(place, header)
            return state, False

    def _check_origin(self, place: Place, header: CheckpointHeader, facts: LogFacts) -> None:
        """States are the same for every group; how far outputs went is not, and without C1 only the file says it."""
        if header.identity.topic_id == RECORDS_LOST:
            raise CheckpointUnusableError(f"{place}: it was voided when the cluster had lost records")
        theirs, ours = header.identity.group_id, self._identity.group_id
        if facts.committed is None and theirs != ours and of_this_topic(header, facts.topic_id):
            raise CheckpointUnusableError(
                f"{place}: it is of group '{theirs}', and group '{ours}' has no committed offset to go on from"
            )

    def _told(self, place: Place, error: CheckpointUnusableError) -> CheckpointUnusableError:
        """The same error; of a changed input only the keys that differ."""
        if not isinstance(error, InputChangedError):
            return error
        changes = input_changes(error.input, self._identity.input)
        return InputChangedError(f"{place}: its states were fed with another input ({changes})", error.input)

    def _tell_kept(self, place: Place, header: CheckpointHeader) -> None:
        found, ours = header.identity, self._identity
        if found.model_sha256 != ours.model_sha256:
            models = f"{found.model_sha256[:SHOWN_DIGITS]}, now {ours.model_sha256[:SHOWN_DIGITS]}"
            log.warning("%s: states of another model (%s) are kept (state.on_model_change: keep)", place, models)
        changes = input_changes(found.input, ours.input) if found.input and ours.input else ""
        if changes:
            log.warning("%s: states fed with another input (%s) are kept (state.on_model_change: keep)", place, changes)

    def _save(self, state: PartitionState, identity: CheckpointIdentity, what: str) -> None:
        """Before the first commit moves on: a crash, however early, then finds what was decided here."""
        try:
            self._store.publish(state, identity, created=self._now())
        except (OSError, StoreUnavailableError) as error:
            log.warning(
                "%s: %s at %d can't be saved (%s); a crash before the next checkpoint decides it anew",
                state.partition, what, state.next_offset, error,
            )  # fmt: skip


def _of_a_deleted_topic(
    newest: CheckpointHeader | None, ours: CheckpointHeader | None, topic_id: str, begin: int
) -> bool:
    """Whether what was saved here is of another topic of this name: what was committed is, too, then.

    A checkpoint of this topic at its log's start only says that another start found the same.
    """
    if newest is None or of_this_topic(newest, topic_id):
        return False
    return ours is None or ours.next_offset <= begin
