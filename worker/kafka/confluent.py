"""The Source contract on confluent-kafka: offsets and ownership decided by the loop.

Rule of this file: librdkafka calls back on the polling thread and waits for the callback, so ``react`` is called right
there: a revoked partition has no new owner before it returns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from worker.errors import CommitRefusedError, KafkaUnavailableError
from worker.kafka.confluent_admin import answers, close_consumer, find_topic, is_reachable
from worker.kafka.confluent_errors import FENCED, FencedError, client_options, translate, translated
from worker.kafka.confluent_offsets import committed_offsets, log_ranges, offsets_by_time
from worker.kafka.confluent_ownership import Ownership
from worker.kafka.confluent_records import to_batches
from worker.kafka.contracts import React, TopicFacts
from worker.kafka.settings import ClientSettings, instance_id_taken
from worker.kafka.static_return import StaticReturn
from worker.kafka.watchdog import StallWatch
from worker.records import Lost, Partition, RecordBatch, Revoked, StartOffsets

log = logging.getLogger("worker.kafka")

HEARTBEAT_INTERVAL_MS = 1000
FETCH_QUEUE_BACKOFF_MS = 10
CONNECT_TIMEOUT_S = 30.0
QUESTION_TIMEOUT_S = 2.0  # for what the watchdog asks, at most every LOOK_INTERVAL_S
REPLACED_CLOSE_TIMEOUT_S = 10.0
JOIN_LIMIT_S = 330.0  # longer than the group waits for a member that is busy (max.poll.interval.ms)


class ConfluentSource:
    """A member of a consumer group.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(
        self,
        settings: ClientSettings,
        connect_timeout_s: float = CONNECT_TIMEOUT_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.rebuilds = 0
        self._settings = settings
        self._monotonic = monotonic
        self._watch = StallWatch(monotonic())
        self._member_at_s = monotonic()
        self._topics: list[str] = []
        self._react: React | None = None
        self._ownership: Ownership | None = None
        self._return = StaticReturn(settings)
        self._fatal: KafkaError | None = None
        self._closed = False
        self._consumer = self._connect(connect_timeout_s)

    def _connect(self, timeout_s: float) -> Any:
        own: dict[str, Any] = {
            "group.id": self._settings.group_id,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "isolation.level": "read_committed",
            "partition.assignment.strategy": "cooperative-sticky",
            # Tells the position at the end of the log, beyond markers and gaps, which no record does.
            "enable.partition.eof": True,
            "allow.auto.create.topics": False,
            # Members learn of a rebalance by their heartbeats: 1 s in place of 3 s for each of its two rounds.
            "heartbeat.interval.ms": HEARTBEAT_INTERVAL_MS,
            # A full queue makes librdkafka wait 1 s before it fetches again: half of the time there was nothing to do.
            "fetch.queue.backoff.ms": FETCH_QUEUE_BACKOFF_MS,
            "error_cb": self._on_error,
        }
        if self._settings.instance_id is not None:
            own["group.instance.id"] = self._settings.instance_id
        with translated(f"kafka at {self._settings.bootstrap_servers}"):
            consumer: Any = Consumer(client_options(self._settings, "consumer", own), logger=log)
            consumer.list_topics(timeout=timeout_s)
        return consumer

    def subscribe(self, topics: Sequence[str], react: React) -> None:
        """See Source."""
        assert self._ownership is None, "subscribe once"
        self._topics, self._react = list(topics), react
        self._join()

    @property
    def joined(self) -> bool:
        """See Source."""
        return self._ownership is not None and not self._closed and self._ownership.assigned

    def _join(self) -> None:
        assert self._react is not None, "subscribe first"
        owned = self._ownership = Ownership(self._consumer, self._react)
        self._consumer.subscribe(
            self._topics, on_assign=owned.on_assign, on_revoke=owned.on_revoke, on_lost=owned.on_lost
        )
        self._return.begin(self._topics)

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """See Source."""
        owned = self._ownership
        assert owned is not None, "subscribe first"
        assert not self._closed, "closed"
        deadline = time.monotonic() + timeout_s
        if self._fatal is not None:
            raise self._explained(self._fatal)
        owned.realign()
        try:
            while True:
                left_s = max(deadline - time.monotonic(), 0.0)
                batches = to_batches(self._fetch(owned, max_records, left_s), owned.positions)
                if batches or time.monotonic() >= deadline:
                    break
        except BaseException as error:
            if isinstance(error, FencedError):  # it may come as a message before the callback says so
                self._fatal = error.error
            if self._fatal is not None:
                raise self._explained(self._fatal) from error
            # Messages that the client had handed out are gone with the exception: read them again.
            owned.doubt()
            raise
        self._look(batches, owned)
        return batches

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        """See Source. A rebalance under way is KafkaUnavailableError: poll, then commit again."""
        named = [TopicPartition(place.topic, place.number, offset) for place, offset in offsets.items()]
        if not named:
            return
        # A synchronous commit has no time-out: while the cluster is silent it never returns, and from another thread
        # it holds up every other call. So it is sent off, and what then is committed tells, within the time.
        with translated("commit"):
            self._consumer.commit(offsets=named, asynchronous=True)
        if self.committed(offsets, timeout_s) == dict(offsets):
            return
        # The coordinator answers and has not taken it: ask again for the reason.
        with translated("commit"):
            try:
                answers = self._consumer.commit(offsets=named, asynchronous=False)
            except KafkaException as error:
                self._fatal = error.args[0] if error.args[0].code() in FENCED else None
                raise
            for answer in answers:
                if answer.error is not None:
                    raise KafkaException(answer.error)

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]:
        """See Source. Waits for open transactions that commit offsets of these partitions."""
        return committed_offsets(self._consumer, partitions, timeout_s)

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """See Source."""
        return log_ranges(self._consumer, partitions, timeout_s)

    def offsets_at(self, partitions: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
        """See Source."""
        return offsets_by_time(self._consumer, partitions, time_ms, timeout_s)

    def topic(self, name: str, timeout_s: float) -> TopicFacts:
        """See Source."""
        return find_topic(self._settings, name, timeout_s)

    def seek(self, starts: StartOffsets) -> None:
        """See Source."""
        assert self._ownership is not None, "subscribe first"
        self._ownership.seek(starts)

    def member(self) -> object:
        """See Source. Raises CommitRefusedError when the group has put us out: a commit in no name is never refused."""
        before = self._consumer.memberid()
        found: object = self._consumer.consumer_group_metadata()
        if not before or self._consumer.memberid() != before:
            raise CommitRefusedError(f"group '{self._settings.group_id}': this member is no longer part of it")
        return found

    def close(self, timeout_s: float) -> None:
        """See Source."""
        if self._closed:
            return
        self._closed = True
        self._return.close()
        try:
            if self._ownership is not None:
                self._ownership.hand_back(Revoked if self._fatal is None else Lost)
        finally:
            close_consumer(self._consumer, timeout_s)

    def _look(self, batches: Sequence[RecordBatch], owned: Ownership) -> None:
        """The watchdog: a client that is stuck is replaced here, Lost for all partitions and then assigned anew."""
        now_s = self._monotonic()
        if batches:
            self._watch.progressed(now_s)
        elif self._watch.is_due(now_s) and self._watch.looked(now_s, self._looks_stuck(owned, now_s)):
            log.warning("kafka: the client is stuck and will be replaced")
            fresh = self._connect(CONNECT_TIMEOUT_S)
            self.rebuilds += 1
            self._watch = StallWatch(self._monotonic())
            owned.hand_back(Lost)
            close_consumer(self._consumer, REPLACED_CLOSE_TIMEOUT_S)
            self._consumer = fresh
            self._join()

    def _looks_stuck(self, owned: Ownership, now_s: float) -> bool:
        """One look: the cluster answers others but not this client, or this one reads nothing new, or joins no group.

        Seen once, after a broker's restart: a consumer without a connection that never made another. A cluster that
        is away is no reason: a new client would change nothing, and this one may yet keep its place.
        """
        if self._consumer.memberid():
            self._member_at_s = now_s
        try:
            ends = self.log_range(owned.positions, QUESTION_TIMEOUT_S)
        except KafkaUnavailableError:
            return is_reachable(self._settings, self._topics[0], QUESTION_TIMEOUT_S)
        if not answers(self._consumer, self._topics[0], QUESTION_TIMEOUT_S) or now_s > self._member_at_s + JOIN_LIMIT_S:
            return is_reachable(self._settings, self._topics[0], QUESTION_TIMEOUT_S)
        return any(ends[place][1] > position for place, position in owned.positions.items())

    def _fetch(self, owned: Ownership, max_records: int, timeout_s: float) -> list[Any]:
        with translated("poll"):
            # consume(n, timeout) waits until it has n messages; poll waits for one.
            first = self._consumer.poll(timeout_s)
            messages = [] if first is None else [first]
            if messages and max_records > 1:
                owned.begun.clear()
                messages += self._consumer.consume(max_records - 1, 0)
                if owned.begun:
                    # A partition went and came back: its messages may be of before, and tell nothing of the position.
                    owned.doubt(owned.begun)
                    messages = [each for each in messages if not owned.has_begun(each)]
        return messages

    def _explained(self, error: KafkaError) -> Exception:
        if error.code() in FENCED:
            return instance_id_taken(self._settings)
        return translate(error, "poll") or KafkaException(error)

    def _on_error(self, error: KafkaError) -> None:
        if error.fatal():
            self._fatal = error
        log.log(logging.ERROR if error.fatal() else logging.INFO, "kafka: %s: %s", error.name(), error.str())
