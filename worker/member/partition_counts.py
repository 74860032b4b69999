"""Partitions added to a topic: the hash of a key then names another partition than the one that has its states.

No replay mends that, because a partition's states follow from its own log alone. So the change is detected (each
checkpoint says how many partitions the topic had), reported once, and refused or accepted by policy. New checkpoints
record the accepted number.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Literal, TypeAlias

from worker.checkpoints.contracts import Entry, Store
from worker.checkpoints.header import CheckpointHeader
from worker.errors import CheckpointUnusableError, WorkerError
from worker.kafka.contracts import TopicFacts
from worker.records.ownership import Partition

Look: TypeAlias = Callable[[Entry], CheckpointHeader]  # raises CheckpointUnusableError, StoreUnavailableError

log = logging.getLogger("worker.recovery")


class PartitionCounts:
    """How many partitions each topic had when its states were saved, against how many it has."""

    def __init__(self, store: Store, policy: Literal["fail", "reset"]) -> None:
        self._store = store
        self._policy = policy
        # (name, id) of a topic, whose id may not be known → the number of partitions that this member accepted
        self._accepted: dict[tuple[str, str], int] = {}

    def accepted(self, topic: str, topic_id: str) -> int:
        """The number for new checkpoints of this topic; 0 before ``accept``."""
        return self._accepted.get((topic, topic_id), 0)

    def accept(self, partition: Partition, topic: TopicFacts, entries: Sequence[Entry], look: Look) -> bool:
        """Whether partitions were added since this one's states were saved, and the policy allowed it.

        ``entries`` are the partition's checkpoints, at any offset, newest first; a partition without any goes by what
        this member has open, or by the checkpoints of the others. Raises WorkerError where the policy says ``fail``,
        StoreUnavailableError.
        """
        known = self._accepted.get((partition.topic, topic.id))
        was = _saved(entries, look, topic.id) or known or self._saved_elsewhere(partition, topic)
        # Kafka never removes partitions from a topic: a lower number is outdated.
        now = max(topic.partitions, known or 0, was)
        if was in (0, now):
            self._accepted[partition.topic, topic.id] = now
            return False
        change = f"{partition.topic}: the topic has {now} partitions and had {was} when its checkpoints were written"
        if self._policy == "fail":
            raise WorkerError(
                f"{change}, so events of a stream may now arrive in another partition than the one that holds its "
                "state, and no replay brings its history there; set state.on_partitions_change to reset (streams that "
                "moved start at zero, all others keep their states) until every worker has started once with it, or "
                "read a new topic and set state.directory to another folder"
            )
        if known != now:
            log.warning(
                "%s; streams that moved to another partition start at zero there, all others keep their states "
                "(state.on_partitions_change: reset)", change, extra={"topic": partition.topic},
            )  # fmt: skip
        self._accepted[partition.topic, topic.id] = now
        return True

    def _saved_elsewhere(self, partition: Partition, topic: TopicFacts) -> int:
        others = (Partition(partition.topic, number) for number in range(topic.partitions))
        listed = (self._store.candidates(other, None) for other in others if other != partition)
        # The greatest: a number accepted for one partition was accepted for the topic.
        return max((_saved(entries, self._store.header, topic.id) for entries in listed), default=0)


def _saved(entries: Sequence[Entry], look: Look, topic_id: str) -> int:
    """The number in the newest of these checkpoints that can be read; 0 where there is none."""
    header = newest_header(entries, look, topic_id)
    return 0 if header is None else header.identity.partitions


def newest_header(entries: Sequence[Entry], look: Look, topic_id: str) -> CheckpointHeader | None:
    """Of the newest checkpoint that can be read and is of this topic ("": of any); damaged ones are skipped."""
    for entry in entries:
        try:
            header = look(entry)
        except CheckpointUnusableError:
            continue
        if of_this_topic(header, topic_id):
            return header
    return None


def of_this_topic(header: CheckpointHeader, topic_id: str) -> bool:
    """Whether it is of the topic with this id, as far as both ids are known."""
    return header.identity.topic_id in ("", topic_id) or not topic_id


def remembering(look: Look) -> Look:
    """The same, once per entry: a header is believed only after the whole file was read."""
    known: dict[str, CheckpointHeader] = {}

    def remembered(entry: Entry) -> CheckpointHeader:
        if str(entry) not in known:
            known[str(entry)] = look(entry)
        return known[str(entry)]

    return remembered
