"""Which partitions a confluent-kafka consumer owns and where each continues: the callbacks of a rebalance.

Rule of this file: librdkafka calls back on the polling thread and waits for the callback, so ``react`` is called right
there: a revoked partition has no new owner before it returns.

Where to continue is set by assignment or by seek, never by unassigning for a moment: in the middle of a rebalance the
client takes an unassign for the answer to the rebalance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from worker.kafka.confluent.errors import translated
from worker.kafka.contracts import React
from worker.records.ownership import Assigned, Change, Lost, Partition, Revoked, StartOffsets


class Ownership:
    """``positions``: next offset of each partition that may deliver. ``assigned``: the group has answered, perhaps
    without partitions. ``begun``: partitions assigned since it was last cleared.
    """

    def __init__(self, consumer: Any, react: React) -> None:
        self.positions: dict[Partition, int] = {}
        self.assigned = False
        self.begun: set[Partition] = set()
        self._consumer = consumer
        self._react = react
        self._unanswered: tuple[Partition, ...] = ()  # assigned, but react raised
        self._anew: tuple[Partition, ...] = ()  # lost with their topic, and to be assigned as those of the new one
        self._astray: set[Partition] = set()  # the client would deliver from another offset than the loop expects
        self._leaving = False

    def on_assign(self, consumer: Any, names: list[TopicPartition]) -> None:
        """Callback: start where the loop says."""
        partitions = tuple(sorted(map(_partition, names)))
        self.assigned = True
        if self._leaving or not partitions:
            consumer.incremental_assign(names)
            return
        try:
            starts = self._react(Assigned(partitions))
        except BaseException:
            # The client would assign them itself: it gets none until react answers. If they were assigned and paused,
            # they would be read before the pause arrives, and those records would come after the answer.
            consumer.incremental_assign([])
            self._unanswered += partitions
            raise
        self._begin(partitions, starts)
        consumer.incremental_assign(self._named(partitions))

    def on_revoke(self, consumer: Any, names: list[TopicPartition]) -> None:
        """Callback: the last chance to commit."""
        self._give_up(consumer, names, Revoked)

    def on_lost(self, consumer: Any, names: list[TopicPartition]) -> None:
        """Callback: another member may own them already."""
        self._give_up(consumer, names, Lost)

    def seek(self, starts: StartOffsets) -> None:
        """Continue from these offsets; partitions that are not owned are ignored."""
        known = {partition: start for partition, start in starts.items() if partition in self.positions}
        self.positions.update(known)
        self._astray.update(known)

    def doubt(self, partitions: Iterable[Partition] | None = None) -> None:
        """Records of these partitions (None: of all) that the client had handed out have not reached the loop."""
        self._astray.update(self.positions if partitions is None else partitions)

    def begin_anew(self, partitions: Iterable[Partition]) -> None:
        """Their topic is another one now: what was read is lost, and ``realign`` assigns them again."""
        told = tuple(sorted(self.positions.keys() & set(partitions)))
        for partition in told:
            del self.positions[partition]
        self._astray.difference_update(told)
        self._anew += told
        if told:
            self._react(Lost(told))

    def has_begun(self, message: Any) -> bool:
        """Whether the message is of a partition in ``begun``."""
        return Partition(message.topic(), message.partition()) in self.begun

    def realign(self) -> None:
        """Before a poll: ask react again where it did not answer, and continue from the positions the loop knows."""
        if self._unanswered:
            asked = self._unanswered
            starts = self._react(Assigned(asked))
            self._unanswered = ()
            self._begin(asked, starts)
            with translated("assignment"):
                self._consumer.incremental_assign(self._named(asked))
        if self._anew:
            # The client has never given them back, so it is told where to continue, not that they are assigned.
            starts = self._react(Assigned(self._anew))
            self._begin(self._anew, starts)
            self._astray.update(self._anew)
            self._anew = ()
        while self._astray:
            partition = next(iter(self._astray))
            with translated("seek", partition):
                self._go_to(*self._named([partition]))
            self._astray.discard(partition)

    def _go_to(self, name: TopicPartition) -> None:
        # The client drops records fetched for an earlier position, and end-of-log events, too.
        try:
            self._consumer.seek(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise
            # Not fetching, because its last position was not in the log.
            self._consumer.incremental_unassign([name])
            self._consumer.incremental_assign([name])

    def _begin(self, partitions: tuple[Partition, ...], starts: StartOffsets) -> None:
        self.positions.update({partition: starts[partition] for partition in partitions})
        self.begun.update(partitions)
        self._astray.difference_update(partitions)

    def hand_back(self, kind: Callable[[tuple[Partition, ...]], Change]) -> None:
        """Before the member leaves: everything is ``kind``, Revoked or Lost."""
        self._leaving = True
        owned = tuple(sorted(self.positions))
        self.positions.clear()
        self._astray.clear()
        if owned:
            self._react(kind(owned))

    def _give_up(
        self, consumer: Any, names: list[TopicPartition], kind: Callable[[tuple[Partition, ...]], Change]
    ) -> None:
        gone = {_partition(name) for name in names}
        never_given = gone & set(self._unanswered)
        told = tuple(sorted(gone & set(self.positions)))
        self._unanswered = tuple(partition for partition in self._unanswered if partition not in gone)
        self._anew = tuple(partition for partition in self._anew if partition not in gone)
        for partition in told:
            del self.positions[partition]
        self._astray -= gone
        try:
            if told and not self._leaving:
                self._react(kind(told))
        finally:
            consumer.incremental_unassign([name for name in names if _partition(name) not in never_given])

    def _named(self, partitions: Iterable[Partition]) -> list[TopicPartition]:
        return [
            TopicPartition(partition.topic, partition.number, self.positions[partition]) for partition in partitions
        ]


def _partition(name: TopicPartition) -> Partition:
    return Partition(name.topic, name.partition)
