"""Where a partition goes on after a restart: the committed offset, the newest usable checkpoint below it, and policy.

Let C1 be the committed offset and C0 the position of a checkpoint. The states at C0 and the records C0..C1 give the
states at C1, whichever checkpoint is taken, so any older file is as right as the newest; it only replays longer. What
policy decides does not follow from the log: it is written to the store at once, so that it is decided once, in place of
whatever stands there, and what stands beyond goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial

from worker.checkpoints.contracts import Place, Store
from worker.checkpoints.header import SHOWN_DIGITS, CheckpointHeader, CheckpointIdentity
from worker.checkpoints.input_identity import changes, spelt_as
from worker.checkpoints.writer import utc_now
from worker.errors import (
    CheckpointUnusableError,
    InputChangedError,
    ModelChangedError,
    StoreUnavailableError,
)
from worker.kafka.contracts import TopicFacts
from worker.member.beyond import delete_beyond
from worker.member.commit_notes import noted_topic
from worker.member.partition_counts import Look, PartitionCounts, newest_header, of_this_topic, remembering
from worker.member.recovery_policy import (
    LogFacts,
    RecoveryPolicy,
    Start,
    after_change,
    nothing,
    saw_nothing,
    without_checkpoint,
    without_commit,
)
from worker.records.ownership import Partition
from worker.records.states import PartitionState, StateSpec

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
        self._told: set[str] = set()

    def identity(self, topic: str, topic_id: str) -> CheckpointIdentity:
        """Whose states new checkpoints of this topic hold."""
        return self._identity.of_topic(topic_id, self._counts.accepted(topic, topic_id))

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
        note: str = "",
    ) -> Start:
        """``rebuild_from``: the offset at ``rebuild_since_ms``, None where that is None. ``note``: of ``committed``.

        Raises WorkerError where the policy says ``fail``, StoreUnavailableError when nobody knows what the store has.
        """
        begin, end = log_range
        places = self._store.candidates(partition, None)
        look = remembering(self._store.header)
        grown = self._counts.accept(partition, topic, places, look)
        if committed is not None:
            was, newest = noted_topic(note, topic.cluster_id), partial(newest_header, places, look)
            committed = self._checked(partition, topic.id, was, committed, log_range, newest)
        facts = LogFacts(partition, topic.id, committed, begin, end, max(begin, rebuild_from or 0))
        within = [place for place in places if int(place.stem) <= facts.believable]
        start = self._from_checkpoint(facts, within, look) or without_checkpoint(self._policy, facts)
        without_commit(self._policy, facts, start)
        # From the log's first record on everything follows from the log, whatever policy calls it.
        another_way = start.new_rules or grown or (start.offset > 0 and (start.decided or start.state is None))
        beyond = places[: len(places) - len(within)]
        delete_beyond(self._store, facts, beyond, look, self._identity.rules, another_way=another_way)
        if start.decided or grown:
            self._save(start.state or nothing(partition, start.offset, self._specs), topic.id)
        return start

    def _checked(
        self,
        partition: Partition,
        topic_id: str,
        was: str,
        committed: int,
        log_range: tuple[int, int],
        newest: Callable[[str], CheckpointHeader | None],
    ) -> int | None:
        """The committed offset, if it is one of this log; ``newest`` finds a checkpoint by its topic's id.

        ``was``: id of the topic that it was committed for; empty when nobody knows, as where an operator has set it.
        """
        begin, end = log_range
        if was and topic_id and was != topic_id:
            log.warning(
                "%s: committed offset %d is of a deleted topic of the same name (id %s, now %s); reading all of "
                "this one", partition, committed, was, topic_id,
            )  # fmt: skip
            return None
        if committed < begin:
            log.warning(
                "%s: offsets %d to %d were deleted from the log before they were read; going on at %d",
                partition, committed, begin, begin,
            )  # fmt: skip
        if committed <= end:
            return committed
        if not was and _of_a_deleted_topic(newest(""), newest(topic_id), topic_id, begin):
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

    def _from_checkpoint(self, facts: LogFacts, places: Sequence[Place], look: Look) -> Start | None:
        """None where no checkpoint does. Raises WorkerError, StoreUnavailableError."""
        changed: CheckpointUnusableError | None = None
        untouched: Start | None = None
        for place in places:
            try:
                header = look(place)
                state, ours = self._read(place, header, facts.topic_id)
            except (ModelChangedError, InputChangedError) as error:
                # An older one of this model is as right as any: a model that comes back goes on where it was.
                changed = changed or self._named(place, error)
                continue
            except CheckpointUnusableError as error:
                log.warning("checkpoint skipped: %s", error)
                continue
            if state.next_offset < facts.begin:
                log.warning("checkpoint skipped: %s is older than the log, which begins at %d", place, facts.begin)
                break
            # Without a committed offset nobody says how far outputs went: they are repeated rather than lost.
            live = max(facts.live_from, state.next_offset)
            start = Start(state.next_offset, live, state, f"checkpoint at {state.next_offset}", decided=not ours)
            if not ours and saw_nothing(state):
                untouched = untouched or start  # of no model; one of ours, which has seen something, is better
                continue
            if changed is not None:
                log.warning("checkpoint skipped: %s; taking the one at %d", changed, state.next_offset)
            return start if saw_nothing(state) else replace(start, new_rules=self._tell_differences(place, header))
        return untouched if changed is None else after_change(self._policy, facts, changed)

    def _read(self, place: Place, header: CheckpointHeader, topic_id: str) -> tuple[PartitionState, bool]:
        """The states, and whether they are of this model and input, as new checkpoints will say of them."""
        try:
            wanted = self._identity.of_topic(topic_id)
            wanted = replace(wanted, input=spelt_as(header.identity.input, wanted.input))
            return self._store.read(place, wanted, self._specs), True
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

    def _named(self, place: Place, error: CheckpointUnusableError) -> CheckpointUnusableError:
        """The same error; of a changed input only the keys that differ."""
        if not isinstance(error, InputChangedError):
            return error
        found = changes(error.input, self._identity.input)
        return InputChangedError(f"{place}: its states were fed with another input ({found})", error.input)

    def _tell_differences(self, place: Place, header: CheckpointHeader) -> bool:
        """Once, whatever the number of partitions, what is no reason to refuse it; whether the rules are others."""
        found, ours = header.identity, self._identity
        rules = changes(found.rules, ours.rules) if found.rules and ours.rules else ""
        if rules:
            self._tell(f"other rules ({rules}): the new ones apply from the checkpoints on", place)
        if found.cpu and ours.cpu and found.cpu != ours.cpu:
            self._tell(
                f"another level of processor ({found.cpu}, now {ours.cpu}): the same events may give other last "
                "digits; model.cpu_level pins one level for all workers", place,
            )  # fmt: skip
        return bool(rules)

    def _tell(self, what: str, place: Place) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s: it was written under %s", place, what)

    def _tell_kept(self, place: Place, header: CheckpointHeader) -> None:
        found, ours = header.identity, self._identity
        if found.model_sha256 != ours.model_sha256:
            models = f"{found.model_sha256[:SHOWN_DIGITS]}, now {ours.model_sha256[:SHOWN_DIGITS]}"
            log.warning("%s: states of another model (%s) are kept (state.on_model_change: keep)", place, models)
        inputs = changes(found.input, ours.input) if found.input and ours.input else ""
        if inputs:
            log.warning("%s: states fed with another input (%s) are kept (state.on_model_change: keep)", place, inputs)

    def _save(self, state: PartitionState, topic_id: str) -> None:
        """Before the first commit moves on: a crash, however early, then finds what was decided here."""
        identity = self.identity(state.partition.topic, topic_id)
        try:
            self._store.publish(state, identity, created=self._now(), replace=True)
        except (OSError, StoreUnavailableError) as error:
            log.warning(
                "%s: the start at %d can't be saved (%s); a crash before the next checkpoint decides it anew",
                state.partition, state.next_offset, error,
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
