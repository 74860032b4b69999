"""Which partitions a confluent-kafka consumer owns and where each goes on: the callbacks of a rebalance.

Rule of this file: librdkafka calls back on the polling thread and waits for the callback, so ``react`` is called right
there: a revoked partition has no new owner before it returns.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from confluent_kafka import TopicPartition

from worker.kafka.confluent_errors import translated
from worker.kafka.contracts import React
from worker.records import Assigned, Change, Lost, Partition, Revoked


class Ownership:
    """``positions``: next offset of each partition that may deliver.
    ``assigned``: the group has answered, be it without partitions.

    ``doubtful``: an exception came between the client and the loop, so what the client delivers next may not be what
    the loop waits for; ``realign`` mends it.
    """

    def __init__(self, consumer: Any, react: React) -> None:
        self.positions: dict[Partition, int] = {}
        self.doubtful = False
        self.assigned = False
        self._consumer = consumer
        self._react = react
        self._unanswered: tuple[Partition, ...] = ()  # assigned, but react raised
        self._leaving = False

    def on_assign(self, consumer: Any, names: list[TopicPartition]) -> None:
        """Callback: start where the loop says."""
        places = tuple(sorted(map(_place, names)))
        self.assigned = True
        if self._leaving or not places:
            consumer.incremental_assign(names)
            return
        try:
            starts = self._react(Assigned(places))
        except BaseException:
            # The client would assign them itself: it gets none until react answers. Held somewhere and paused, they
            # would be read before the pause arrives, and what comes of that after the answer.
            consumer.incremental_assign([])
            self._unanswered += places
            raise
        self.positions.update({place: starts[place] for place in places})
        consumer.incremental_assign(self._named(places))

    def on_revoke(self, consumer: Any, names: list[TopicPartition]) -> None:
        """Callback: the last chance to commit."""
        self._give_up(consumer, names, Revoked)

    def on_lost(self, consumer: Any, names: list[TopicPartition]) -> None:
        """Callback: another member may own them already."""
        self._give_up(consumer, names, Lost)

    def realign(self) -> None:
        """After an exception: ask again what react did not answer, and go on from the positions the loop knows."""
        if not self.doubtful:
            return
        if self._unanswered:
            starts = self._react(Assigned(self._unanswered))
            self.positions.update({place: starts[place] for place in self._unanswered})
            self._unanswered = ()
        names = self._named(tuple(self.positions))
        with translated("assignment"):
            self._consumer.incremental_unassign(self._consumer.assignment())
            self._consumer.incremental_assign(names)
        self.doubtful = False

    def hand_back(self, kind: Callable[[tuple[Partition, ...]], Change]) -> None:
        """Before the member leaves: everything is ``kind``, Revoked or Lost."""
        self._leaving = True
        owned = tuple(sorted(self.positions))
        self.positions.clear()
        if owned:
            self._react(kind(owned))

    def _give_up(
        self, consumer: Any, names: list[TopicPartition], kind: Callable[[tuple[Partition, ...]], Change]
    ) -> None:
        gone = {_place(name) for name in names}
        never_given = gone & set(self._unanswered)
        told = tuple(sorted(gone & set(self.positions)))
        self._unanswered = tuple(place for place in self._unanswered if place not in gone)
        for place in told:
            del self.positions[place]
        try:
            if told and not self._leaving:
                self._react(kind(told))
        finally:
            consumer.incremental_unassign([name for name in names if _place(name) not in never_given])

    def _named(self, places: tuple[Partition, ...]) -> list[TopicPartition]:
        return [TopicPartition(place.topic, place.number, self.positions[place]) for place in places]


def _place(name: TopicPartition) -> Partition:
    return Partition(name.topic, name.partition)
