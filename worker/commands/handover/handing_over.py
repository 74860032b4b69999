"""One group's offsets and states become another's, in an order in which a crash at any point changes nothing yet.

The offsets are last: as long as they are missing, the new group has not taken over, and the handover can be repeated.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from worker.assembly.clients import check_clients, client_settings
from worker.assembly.input_description import input_description
from worker.assembly.model import load_scoring
from worker.assembly.model_digest import model_identity
from worker.checkpoints.header import CheckpointIdentity
from worker.checkpoints.opening import open_store
from worker.commands.handover.states import CheckpointCopies, Copied
from worker.config.sections import Config
from worker.errors import CommitRefusedError, WorkerError, counted
from worker.kafka.contracts import Committed, Questions
from worker.kafka.opening import open_questions, open_source
from worker.member.commit_notes import own_note
from worker.records.names import short_digest
from worker.records.ownership import Partition

ANSWER_S = 30.0  # of the cluster, to each question
CLOSE_S = 5.0
LOOK_INTERVAL_S = 1.0
SHOWN = 5  # members or partitions in a message

Offsets = Mapping[Partition, Committed | None]


@dataclass(frozen=True, slots=True)
class HandedPartition:
    """Where the new group begins, and with which states, in words."""

    partition: Partition
    offset: int
    states: str


@dataclass(frozen=True, slots=True)
class Handed:
    """What is handed over, or would be. ``members``: of the first group, which a dry run does not wait for.

    ``again``: the second group had all of it already.
    """

    partitions: Sequence[HandedPartition]
    members: Sequence[str]
    model: str
    states: str
    dry_run: bool
    again: bool = False


class Handover:
    """From one group to another, by a configuration whose own ``kafka.group_id`` does not matter."""

    def __init__(
        self,
        config: Config,
        old: str,
        new: str,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        """Connects to nothing. Raises ConfigError, WorkerError for what the configuration has wrong."""
        self._config, self._old, self._new, self._say = config, old, new, say
        self._clock, self._sleep = clock, sleep
        self._settings = client_settings(config)
        check_clients(self._settings)
        directory, model = config.state.directory, model_identity(config)
        self._model = model
        self._counts: dict[str, int] = {}  # of the partitions of each topic, once they are known
        stores = open_store(directory, old), open_store(directory, new)
        self._copies = CheckpointCopies(*stores, new, wanted_states(config, model, new), config.state.keep)

    def plan(self) -> Handed:
        """What would be handed over now. Raises WorkerError, KafkaUnavailableError, StoreUnavailableError."""
        with open_questions(self._settings, ANSWER_S) as cluster:
            self._check_nobody_runs(cluster)
            given, again = self._offsets(cluster)
            if not again:
                self._check_counts(given)
            copied = {each: self._copies.find(each, at.offset) for each, at in given.items()}
            return self._told(given, copied, cluster.members(self._old), dry_run=True, again=again)

    def carry_out(self, wait_s: float) -> Handed:
        """Wait for the first group to stop, copy its checkpoints, then its offsets. Raises as ``plan`` does."""
        with open_questions(self._settings, ANSWER_S) as cluster:
            self._check_nobody_runs(cluster)
            self._wait_until_stopped(cluster, wait_s)
            given, again = self._offsets(cluster)
            if again:
                copied = {each: self._copies.find(each, at.offset) for each, at in given.items()}
                return self._told(given, copied, (), again=True)
            self._check_counts(given)
            self._copies.check_writable()
            copied = {each: self._copies.copy(each, at.offset) for each, at in given.items()}
            try:
                cluster.set_committed(self._new, given)
            except CommitRefusedError as error:
                raise WorkerError(
                    f"group '{self._new}' has been joined meanwhile ({error})", self._stop_new()
                ) from None
            now = self._committed(self._old, list(given))
            check_still(self._old, self._new, given, now, cluster.members(self._old))
            return self._told(given, copied, ())

    def _check_nobody_runs(self, cluster: Questions) -> None:
        if members := cluster.members(self._new):
            raise WorkerError(f"group '{self._new}' has {_listed(members, 'member')} already", self._stop_new())

    def _check_counts(self, given: Mapping[Partition, Committed]) -> None:
        offsets = {each: at.offset for each, at in given.items()}
        self._copies.check_counts(offsets, self._counts, self._config.state.on_partitions_change)

    def _stop_new(self) -> str:
        return "stop its workers: they begin where the first group stops only if they start after the handover"

    def _wait_until_stopped(self, cluster: Questions, wait_s: float) -> None:
        deadline, told = self._clock() + wait_s, False
        while members := cluster.members(self._old):
            who = f"group '{self._old}' has {_listed(members, 'member')}"
            if self._clock() >= deadline:
                raise WorkerError(f"{who} after {wait_s:g} s", "stop its workers, or wait for longer (--wait)")
            if not told:
                self._say(f"{who}: waiting at most {wait_s:g} s until they have stopped")
            told = True
            self._sleep(LOOK_INTERVAL_S)

    def _offsets(self, cluster: Questions) -> tuple[dict[Partition, Committed], bool]:
        """What the new group is given, and whether it has just that."""
        partitions = []
        for topic in self._config.input.topics:
            count = cluster.partitions(topic)
            if count is None:
                raise WorkerError(f"input.topic: topic '{topic}' does not exist")
            self._counts[topic] = count
            partitions += [Partition(topic, number) for number in range(count)]
        old, new = (self._committed(group, partitions) for group in (self._old, self._new))
        return to_give(self._old, self._new, old, new)

    def _committed(self, group: str, partitions: Sequence[Partition]) -> Offsets:
        """Once every transaction that commits offsets of the group has ended."""
        settings = replace(self._settings, group_id=group, instance_id=None, transactional_id=None)
        source = open_source(settings)
        try:
            found = source.committed(partitions, ANSWER_S)
        finally:
            source.close(CLOSE_S)
        return {each: at and Committed(at.offset, own_note(at.note)) for each, at in found.items()}

    def _told(
        self,
        given: Mapping[Partition, Committed],
        copied: Mapping[Partition, Copied],
        members: Sequence[str],
        *,
        dry_run: bool = False,
        again: bool = False,
    ) -> Handed:
        rows = [HandedPartition(each, at.offset, copied[each].words) for each, at in sorted(given.items())]
        found = sum(each.offset is not None for each in copied.values())
        state = self._config.state
        words = f"{'would go on' if dry_run else 'go on'} in {found} of {counted(len(rows), 'partition')}"
        if found < len(rows):
            words += f"; in the others '{self._new}' begins by state.recover: {state.recover}"
            words += f" (state.warm: {state.warm})" if state.warm else ""
        return Handed(rows, members, short_digest(self._model), words, dry_run, again)


def wanted_states(config: Config, model: str, group: str) -> CheckpointIdentity:
    """Whose states the new group's workers take. Raises ConfigError, WorkerError."""
    by_input = config.model.task == "score" and isinstance(config.input.features, Mapping)
    inputs = [port.name for port in load_scoring(config).inputs] if by_input else []
    wanted = CheckpointIdentity(model, "", group, "", input=input_description(config, inputs))
    return wanted.of_topic("", any_model=config.state.on_model_change == "keep")


def to_give(old_group: str, new_group: str, old: Offsets, new: Offsets) -> tuple[dict[Partition, Committed], bool]:
    """What the new group is given, and whether it has just that. Raises WorkerError where it has anything else."""
    given = {each: at for each, at in old.items() if at is not None}
    topics = ", ".join(sorted({f"'{each.topic}'" for each in old}))
    if not given:
        raise WorkerError(f"group '{old_group}' has committed no offset of {topics}", "check the name after --from")
    has = {each: at for each, at in new.items() if at is not None}
    if has and has != given:
        other = sorted(each for each, at in has.items() if given.get(each) != at) or sorted(given.keys() - has.keys())
        places = ", ".join(f"{each} at {has[each].offset:,}" for each in other[:SHOWN] if each in has)
        raise WorkerError(
            f"group '{new_group}' has committed other offsets already ({places or 'of some partitions only'})",
            f"take a new name, or delete them ({deletion(new_group, old)})",
        )
    return given, has == given


def check_still(
    old_group: str, new_group: str, given: Mapping[Partition, Committed], now: Offsets, members: Sequence[str]
) -> None:
    """Raises WorkerError where the first group has begun anew meanwhile: then both would answer the same records."""
    moved = [str(each) for each, at in given.items() if now[each] != at]
    if members:
        moved.append(_listed(members, "member"))
    if moved:
        raise WorkerError(
            f"group '{old_group}' was started again during the handover ({', '.join(moved[:SHOWN])})",
            f"stop it, delete the offsets of '{new_group}' ({deletion(new_group, given)}), and hand over once more",
        )


def deletion(group: str, partitions: Mapping[Partition, object]) -> str:
    """The command that deletes a group's offsets."""
    topics = " ".join(f"--topic {each}" for each in sorted({each.topic for each in partitions}))
    return f"kafka-consumer-groups.sh --delete-offsets --group {group} {topics}"


def _listed(names: Sequence[str], noun: str) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{counted(len(names), noun)} ({', '.join(names[:SHOWN])}{more})"
