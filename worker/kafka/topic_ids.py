"""A topic that is deleted and created again while we read it: another log, to which our states and positions don't
belong.

Kafka tells the two apart by the topic's id. A client learns the id with its metadata and does not report a new one: it
continues at the old position. So the ids it has learnt are checked at each poll, and records read since then are not
believed until it is clear which topic they are from. No I/O of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable

from worker.kafka.contracts import React
from worker.records.ownership import Assigned, Change, Partition, StartOffsets

log = logging.getLogger("worker.kafka")

LOOK_INTERVAL_S = 5.0  # between two looks of a client at its metadata: for recreated topics that no error has revealed

TopicId = Callable[[str], str]  # of a topic's name; empty: not known


class TopicIds:
    """``known`` says what the client has learnt last."""

    def __init__(self, known: TopicId) -> None:
        self._known = known
        self._asked: dict[str, str] = {}
        self._begun: dict[tuple[str, str], set[Partition]] = {}  # (name, id) → partitions assigned as part of it

    def asked(self, name: str, topic_id: str) -> str:
        """The loop has asked for it: partitions assigned next belong to it."""
        self._asked[name] = topic_id
        return topic_id

    def following(self, react: React) -> React:
        """The same ``react``, with its changes noted here."""

        def followed(change: Change) -> StartOffsets:
            self._end(change.partitions)
            starts = react(change)
            if isinstance(change, Assigned):
                for partition in change.partitions:
                    begun_as = partition.topic, self._asked.get(partition.topic, "")
                    self._begun.setdefault(begun_as, set()).add(partition)
            return starts

        return followed

    def names(self) -> set[str]:
        """Topics of which we own a partition, as far as they have ids."""
        return {name for name, topic_id in self._begun if topic_id}

    def doubtful(self) -> set[str]:
        """Topics whose id, as the client knows it, is not the one our partitions began with."""
        return {name for name, topic_id in self._begun if topic_id and self._known(name) not in ("", topic_id)}

    def made_anew(self, names: Iterable[str], now: TopicId) -> tuple[Partition, ...]:
        """Our partitions of topics that have another id ``now``, by the cluster: returned once. Raises as ``now``."""
        found: list[Partition] = []
        for name in names:
            topic_id = now(name)
            for (begun, was), partitions in self._begun.items():
                if begun == name and "" not in (was, topic_id) and was != topic_id:
                    log.warning(
                        "kafka: topic '%s' was deleted and created again (id %s, now %s): its partitions start over",
                        name, was, topic_id, extra={"topic": name},
                    )  # fmt: skip
                    found += partitions
        self._end(found)
        return tuple(sorted(found))

    def _end(self, partitions: Iterable[Partition]) -> None:
        gone = set(partitions)
        left = {key: ours - gone for key, ours in self._begun.items()}
        self._begun = {key: ours for key, ours in left.items() if ours}
