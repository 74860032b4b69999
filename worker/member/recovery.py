"""Where a partition continues after a restart: the committed offset, the newest usable checkpoint below it, and policy.

Let C1 be the committed offset and C0 the position of a checkpoint. The states at C0 and the records C0..C1 give the
states at C1, whichever checkpoint is taken, so any older file is as right as the newest; it only replays longer. A
decision by policy does not follow from the log: it is written to the store at once, so that it is made once; it
replaces the checkpoint at that offset, and checkpoints beyond it are deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial

from worker.checkpoints.contracts import Entry, Store
from worker.checkpoints.header import CheckpointHeader, CheckpointIdentity, another_model, read_to
from worker.checkpoints.input_identity import changes, spelt_as
from worker.checkpoints.writer import utc_now
from worker.errors import (
    CheckpointUnusableError,
    InputChangedError,
    ModelChangedError,
    StoreUnavailableError,
    counted,
)
from worker.member.beyond import delete_beyond, reads_beyond, too_far
from worker.member.committed_offset import checked
from worker.member.partition_counts import Look, PartitionCounts, newest_header, remembering
from worker.member.recovery_policy import (
    LogFacts,
    RecoveryPolicy,
    Start,
    after_change,
    nothing,
    owed,
    saw_nothing,
    without_checkpoint,
    without_commit,
)
from worker.member.warming import Warm
from worker.records.log_fields import about
from worker.records.states import PartitionState, StateSpec

log = logging.getLogger("worker.recovery")


@dataclass(frozen=True, slots=True)
class _Verdict:
    """Whether a checkpoint is usable: ``start`` is None if it is not, also where it is sound but of another model or
    input.

    ``decides``: no older one can be better.
    """

    start: Start | None = None
    changed: CheckpointUnusableError | None = None
    decides: bool = False


class Recovery:
    """Finds the start of a partition. ``now`` is the wall clock, only for the attribute ``created``."""

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
        self._voided = 0  # checkpoints that could not be used, of the partition being started

    def identity(self, topic: str, topic_id: str) -> CheckpointIdentity:
        """Whose states new checkpoints of this topic hold."""
        return self._identity.of_topic(topic_id, self._counts.accepted(topic, topic_id))

    def rebuild_since_ms(self, now_ms: int) -> int | None:
        """The time for ``Source.offsets_at`` whose answer is ``LogFacts.rebuild_from``; None: it is not needed."""
        bounded = self._policy.recover == "rebuild" and self._policy.rebuild_from_ms is not None
        return max(0, now_ms - (self._policy.rebuild_from_ms or 0)) if bounded else None

    @property
    def warm(self) -> Warm | None:
        """How far back from the committed offset ``LogFacts.warm_from`` is; None: it is not needed."""
        return self._policy.warm

    def start(self, facts: LogFacts) -> Start:
        """Where to begin this partition, and with which states.

        Raises WorkerError where the policy says ``fail``, StoreUnavailableError when nobody knows what the store has.
        """
        entries = self._store.candidates(facts.partition, None)
        look = remembering(self._store.header)
        grown = self._counts.accept(facts.partition, facts.topic, entries, look)
        facts = checked(facts, partial(newest_header, entries, look))
        self._voided = 0
        within = [entry for entry in entries if entry.next_offset <= facts.believable]
        start = self._from_checkpoint(facts, within, look) or without_checkpoint(self._policy, facts)
        without_commit(self._policy, facts, start)
        # From the log's first record on everything follows from the log, whatever the policy.
        another_way = start.new_rules or grown or (start.offset > 0 and (start.decided or start.state is None))
        beyond = entries[: len(entries) - len(within)]
        asked = within if another_way or facts.lost else [each for each in within if each.next_offset > start.offset]
        beyond = [*beyond, *(each for each in asked if reads_beyond(facts, each, look))]
        delete_beyond(self._store, facts, beyond, look, self._identity.rules, another_way=another_way)
        if start.decided or grown:
            self._save(start.state or nothing(facts.partition, start.offset, self._specs), facts.topic.id)
        unanswered = owed(facts, start)
        told = f", {counted(len(unanswered), 'answer')} to complete" if unanswered else ""
        source = start.source + told
        return replace(start, owed=unanswered, source=source, voided=self._voided, lost=facts.gone)

    def _from_checkpoint(self, facts: LogFacts, entries: Sequence[Entry], look: Look) -> Start | None:
        """None where no checkpoint does. Raises WorkerError, StoreUnavailableError."""
        judged: list[_Verdict] = []
        for entry in entries:  # one at a time: judging a checkpoint means loading it
            judged.append(self._judge(facts, entry, look))
            if judged[-1].decides:
                break
        changed = next((verdict.changed for verdict in judged if verdict.changed is not None), None)
        best = judged[-1].start if judged and judged[-1].decides else None
        if best is not None:
            return self._taken(best, entry, look(entry), changed)
        if changed is not None:
            return after_change(self._policy, facts, changed)
        return next((verdict.start for verdict in judged if verdict.start is not None), None)

    def _judge(self, facts: LogFacts, entry: Entry, look: Look) -> _Verdict:
        try:
            if reads_beyond(facts, entry, look):
                raise CheckpointUnusableError(f"{entry}: it has read further than the group had, to {facts.read_to}")
            start = self._read(facts, entry, look(entry))
        except (ModelChangedError, InputChangedError) as error:
            return _Verdict(changed=self._named(entry, error))
        except CheckpointUnusableError as error:
            log.warning("checkpoint skipped: %s", error, extra=about(facts.partition, entry.next_offset))
            self._voided += 1
            return _Verdict()
        if start.offset < facts.begin:
            log.warning(
                "checkpoint skipped: %s is older than the log, which begins at %d",
                entry, facts.begin, extra=about(facts.partition, entry.next_offset),
            )  # fmt: skip
            return _Verdict(decides=True)
        # States that have seen nothing fit any model, but an older checkpoint of ours that has seen records is better.
        return _Verdict(start, decides=not (start.decided and start.saw_nothing))

    def _taken(
        self, start: Start, entry: Entry, header: CheckpointHeader, changed: CheckpointUnusableError | None
    ) -> Start:
        """``changed``: a newer one was skipped. An older one of this model is as right as any."""
        if changed is not None:
            log.warning("checkpoint skipped: %s; taking the one at %d", changed, start.offset)
        return start if start.saw_nothing else replace(start, new_rules=self._tell_differences(entry, header))

    def _read(self, facts: LogFacts, entry: Entry, header: CheckpointHeader) -> Start:
        """A start with its states; ``decided``: they are of another model or input than new checkpoints will say."""
        state, ours = self._state(entry, header, facts.topic.id)
        if why := too_far(facts, state):
            raise CheckpointUnusableError(f"{entry}: {why}")
        # Without a committed offset nobody knows how far outputs went: they are repeated rather than lost.
        live = max(facts.live_from, read_to(state))
        return Start(state.next_offset, live, state, f"checkpoint at {state.next_offset}", decided=not ours)

    def _state(self, entry: Entry, header: CheckpointHeader, topic_id: str) -> tuple[PartitionState, bool]:
        """Its states, and whether they are of this model and input."""
        wanted = self._identity.of_topic(topic_id)
        try:
            same = replace(wanted, input=spelt_as(header.identity.input, wanted.input))
            return self._store.read(entry, same, self._specs), True
        except (ModelChangedError, InputChangedError) as error:
            keep = self._policy.on_model_change == "keep"
            try:
                any_model = self._identity.of_topic(topic_id, any_model=True)
                state = self._store.read(entry, any_model, self._specs)
            except CheckpointUnusableError as unusable:
                if keep and not self._is_sound(entry, any_model):
                    raise unusable from None
                raise error from None
            if not keep and not saw_nothing(state):
                raise
            if keep:
                self._tell_kept(entry, header)
            return state, False

    def _is_sound(self, entry: Entry, any_model: CheckpointIdentity) -> bool:
        """Whether it can be read, though its states have other shapes than ours."""
        try:
            self._store.read(entry, any_model, None)
        except CheckpointUnusableError:
            return False
        return True

    def _named(self, entry: Entry, error: CheckpointUnusableError) -> CheckpointUnusableError:
        """The same error; of a changed input only the keys that differ."""
        if not isinstance(error, InputChangedError):
            return error
        found = changes(error.input, self._identity.input)
        return InputChangedError(f"{entry}: its states were fed with another input ({found})", error.input)

    def _tell_differences(self, entry: Entry, header: CheckpointHeader) -> bool:
        """Logs differences that don't matter, once for all partitions; returns whether the rules differ."""
        found, ours = header.identity, self._identity
        rules = changes(found.rules, ours.rules) if found.rules and ours.rules else ""
        if rules:
            self._tell(f"other rules ({rules}): the new rules apply from each checkpoint on", entry)
        if found.cpu and ours.cpu and found.cpu != ours.cpu:
            self._tell(
                f"another processor level ({found.cpu}, now {ours.cpu}): the same events may give other last digits; "
                "model.cpu_level pins one level for all workers", entry,
            )  # fmt: skip
        return bool(rules)

    def _tell(self, what: str, entry: Entry) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning("%s: it was written under %s", entry, what)

    def _tell_kept(self, entry: Entry, header: CheckpointHeader) -> None:
        found, ours = header.identity, self._identity
        if found.model_sha256 != ours.model_sha256:
            which = another_model(found, ours).removeprefix("it is ")
            log.warning("%s: states %s are kept (state.on_model_change: keep)", entry, which)
        inputs = changes(found.input, ours.input) if found.input and ours.input else ""
        if inputs:
            log.warning("%s: states fed with another input (%s) are kept (state.on_model_change: keep)", entry, inputs)

    def _save(self, state: PartitionState, topic_id: str) -> None:
        """Before the first commit moves on: a crash, however early, then finds what was decided here."""
        identity = self.identity(state.partition.topic, topic_id)
        try:
            self._store.publish(state, identity, created=self._now(), replace=True)
        except (OSError, StoreUnavailableError) as error:
            log.warning(
                "%s: the start at %d can't be saved (%s); after a crash before the next checkpoint it is decided again",
                state.partition, state.next_offset, error, extra=about(state.partition, state.next_offset),
            )  # fmt: skip
