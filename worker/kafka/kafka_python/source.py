"""The Source contract on kafka-python: raw bytes in columns, offsets and ownership decided by the loop.

Rule of this file: the client's thread only notes a change of ownership; ``react`` runs on the loop's thread, between
two polls of the client.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence

from kafka import errors

from worker.errors import KafkaUnavailableError
from worker.kafka.contracts import NO_NOTES, Committed, Notes, React, TopicFacts
from worker.kafka.fencing import Fencing
from worker.kafka.kafka_python.admin import find_topic, holder_of_instance_id
from worker.kafka.kafka_python.connection import QUESTION_TIMEOUT_S, Connection
from worker.kafka.kafka_python.errors import DAMAGED, LOG_MOVED, translate
from worker.kafka.kafka_python.ownership import OwnershipChangedError
from worker.kafka.settings import ClientSettings
from worker.kafka.static_return import StaticReturn
from worker.kafka.topic_ids import TopicIds
from worker.kafka.watchdog import StallWatch
from worker.records.ownership import Assigned, Lost, Partition, StartOffsets
from worker.records.record_batch import RecordBatch

log = logging.getLogger("worker.kafka")

REPLACED_CLOSE_TIMEOUT_S = 10.0


class KafkaPythonSource:
    """A member of a consumer group. ``rebuilds`` counts how often a stuck client was replaced.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(self, settings: ClientSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self.rebuilds = 0
        self._settings = settings
        self._monotonic = monotonic
        self._ids = TopicIds(lambda name: "" if self._connection is None else self._connection.fetches.topic_id(name))
        self._topics: list[str] = []
        self._react: React | None = None
        self._watch = StallWatch(monotonic())
        self._return = StaticReturn(settings)
        self._fencing = Fencing(settings, holder_of_instance_id)
        self._closed = False
        self._connection: Connection | None = Connection(settings)

    def subscribe(self, topics: Sequence[str], react: React) -> None:
        """See Source."""
        assert self._react is None, "subscribe once"
        self._topics, self._react = list(topics), self._ids.following(react)
        self._subscribe(self._connected())

    @property
    def joined(self) -> bool:
        """See Source."""
        return self._connection is not None and self._connection.ownership.is_settled()

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """See Source. A client that is stuck is replaced here: Lost for all partitions, then assigned anew."""
        assert self._react is not None, "subscribe first"
        assert not self._closed, "closed"
        connection = self._connection or self._reconnect()
        if self._settings.instance_id is not None and connection.ownership.is_fenced():
            connection.fenced = True
        if connection.fenced:
            connection = self._come_back(connection, self._react)
        self._fencing.note(connection.ownership.member_id())
        self._look_at_topics(connection, self._ids.doubtful())
        self._settle(connection, self._react)
        try:
            batches = connection.fetch(max_records, timeout_s, self._ids.doubtful)
        except errors.KafkaError as error:
            if not isinstance(error.__cause__, OwnershipChangedError):
                connection.fenced = isinstance(error, errors.FencedInstanceIdError)
                if connection.fenced:
                    raise KafkaUnavailableError(f"poll: {type(error).__name__}") from error  # the next error says more
                if isinstance(error, LOG_MOVED) and (
                    self._look_at_topics(connection, self._ids.names()) or connection.is_behind(error)
                ):
                    return []
                raise translate(error, connection.reading() if isinstance(error, DAMAGED) else "poll") from error
            self._settle(connection, self._react)
            return []
        if batches:
            self._watch.progressed(self._monotonic())
            return batches
        connection.check_let_in()
        if self._watch.is_due(self._monotonic()):
            stuck = connection.looks_stuck()
            if self._watch.looked(self._monotonic(), stuck):
                self._replace(connection, self._react)
        return batches

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """See Source. A rebalance under way is KafkaUnavailableError: poll, then commit again."""
        self._connected().commit(offsets, timeout_s, notes)

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, Committed | None]:
        """See Source. Waits for open transactions that commit offsets of these partitions."""
        return self._connected().committed(partitions, timeout_s)

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """See Source. The end is where committed data ends: an open transaction lies beyond it."""
        return self._connected().log_range(partitions, timeout_s)

    def offsets_at(self, partitions: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
        """See Source."""
        return self._connected().offsets_at(partitions, time_ms, timeout_s)

    def still_here(self) -> None:
        """See Source."""
        if self._connection is not None:
            self._connection.still_here()

    def seek(self, starts: StartOffsets) -> None:
        """See Source."""
        if self._connection is not None:
            self._connection.seek(starts)

    def member(self) -> object:
        """See Source. Raises KafkaUnavailableError too, while there is no connection."""
        return self._connected().ownership.member()

    def topic(self, name: str, timeout_s: float) -> TopicFacts:
        """See Source."""
        found = find_topic(self._settings, name, timeout_s)
        self._ids.asked(name, found.id)
        return found

    def close(self, timeout_s: float) -> None:
        """See Source."""
        if self._closed:
            return
        self._closed = True
        self._return.close()
        if self._connection is None:
            return
        try:
            if self._react is not None:
                self._hand_back(self._connection, self._react)
        finally:
            self._connection.close(timeout_s)
            self._connection = None

    def _connected(self) -> Connection:
        if self._connection is None:
            raise KafkaUnavailableError("kafka: not connected")
        return self._connection

    def _settle(self, connection: Connection, react: React) -> None:
        """Tell the loop what the client's thread has noted, oldest first; start what was assigned."""
        connection.ownership.note_return(connection.positions)
        changes = connection.ownership.changes
        while changes:
            change = changes[0]
            if isinstance(change, Assigned):
                # The change stays noted when react raises, so that react is asked again: without offsets nothing can
                # start.
                starts = react(change)
                connection.start({partition: starts[partition] for partition in change.partitions})
                changes.popleft()
            else:
                changes.popleft()
                connection.forget(change.partitions)
                react(change)
            self._watch.progressed(self._monotonic())

    def _look_at_topics(self, connection: Connection, names: set[str]) -> bool:
        """Whether some of these topics were created again. Raises KafkaUnavailableError, WorkerError."""
        if not names:
            return False
        anew = self._ids.made_anew(names, lambda name: find_topic(self._settings, name, QUESTION_TIMEOUT_S).id)
        if not anew:
            connection.fetches.learn()  # the client's knowledge is older
        return connection.ownership.begin_anew(anew)

    def _hand_back(self, connection: Connection, react: React) -> None:
        """Before the client leaves the group: give the loop its last chance to commit what it owns."""
        while connection.ownership.changes:
            change = connection.ownership.changes.popleft()
            if not isinstance(change, Assigned):
                connection.forget(change.partitions)
                react(change)
        owned = tuple(connection.positions)
        connection.forget(owned)
        if owned:
            react(Lost(owned) if connection.fenced else connection.ownership.farewell(owned))

    def _replace(self, connection: Connection, react: React) -> None:
        if self._settings.instance_id is not None:
            connection.ask_whether_fenced()
        if connection.fenced:
            return  # the next poll says so
        log.warning("kafka: the client is stuck and will be replaced")
        self._give_up(connection, react)
        self._reconnect()

    def _come_back(self, connection: Connection, react: React) -> Connection:
        """Replace a client that was fenced, but not by another process: Lost, then assigned anew."""
        owned = tuple(connection.positions)
        connection.forget(owned)
        if owned:
            react(Lost(owned))
        self._fencing.settle(self._monotonic(), connection.ownership.member_id())
        self._give_up(connection, react)
        return self._reconnect()

    def _give_up(self, connection: Connection, react: React) -> None:
        self.rebuilds += 1
        self._connection = None
        connection.close(REPLACED_CLOSE_TIMEOUT_S)
        if connection.positions:
            react(Lost(tuple(connection.positions)))

    def _reconnect(self) -> Connection:
        self._watch = StallWatch(self._monotonic())
        connection = Connection(self._settings)
        self._subscribe(connection)
        self._connection = connection
        return connection

    def _subscribe(self, connection: Connection) -> None:
        connection.consumer.subscribe(self._topics, listener=connection.ownership)
        self._return.begin(self._topics)
