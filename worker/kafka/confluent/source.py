"""The Source contract on confluent-kafka: offsets and ownership decided by the loop.

Rule of this file: librdkafka calls back on the polling thread and waits for the callback, so ``react`` is called right
there: a revoked partition has no new owner before it returns.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException

from worker.errors import CommitRefusedError, KafkaUnavailableError, UnavailableError
from worker.kafka.confluent.admin import close_consumer, find_topic
from worker.kafka.confluent.commits import commit_offsets, committed_offsets
from worker.kafka.confluent.consumer import open_consumer
from worker.kafka.confluent.errors import FENCED, FencedError, translate, translated
from worker.kafka.confluent.health import holder_of_instance_id, looks_stuck
from worker.kafka.confluent.offsets import log_ranges, offsets_by_time
from worker.kafka.confluent.ownership import Ownership
from worker.kafka.confluent.records import to_batches
from worker.kafka.confluent.refusals import Refused
from worker.kafka.confluent.topic_ids import ConfluentTopicIds, TopicIdLog
from worker.kafka.contracts import NO_NOTES, Committed, Notes, React, TopicFacts
from worker.kafka.fencing import Fencing
from worker.kafka.settings import ClientSettings
from worker.kafka.static_return import StaticReturn
from worker.kafka.watchdog import StallWatch
from worker.records.ownership import Lost, Partition, Revoked, StartOffsets
from worker.records.record_batch import RecordBatch

log = logging.getLogger("worker.kafka")

CONNECT_TIMEOUT_S = 30.0
REPLACED_CLOSE_TIMEOUT_S = 2.0  # for a client that is given up: it has nothing to hand back


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
        self.rebuilds, self._closed = 0, False
        self._settings, self._monotonic = settings, monotonic
        self._watch = StallWatch(monotonic())
        self._member_at_s = monotonic()
        self._fencing, self._return = Fencing(settings, holder_of_instance_id), StaticReturn(settings)
        self._ids = ConfluentTopicIds(settings, monotonic)
        self._topics: list[str] = []
        self._react: React | None = None
        self._ownership: Ownership | None = None
        self._refused = Refused(settings)
        self._connect(connect_timeout_s)

    def _connect(self, timeout_s: float) -> None:
        fatal: list[KafkaError] = []

        def on_error(error: KafkaError) -> None:
            if error.fatal():
                fatal.append(error)
            self._refused.note(error)

        self._ids.said = TopicIdLog()
        self._consumer = open_consumer(self._settings, on_error, timeout_s, self._ids.said)
        self._fatal = fatal  # of this client only: the end of a replaced client does not count

    def subscribe(self, topics: Sequence[str], react: React) -> None:
        """See Source."""
        assert self._ownership is None, "subscribe once"
        self._topics, self._react = list(topics), self._ids.following(react)
        self._join()

    @property
    def joined(self) -> bool:
        """See Source."""
        return self._ownership is not None and not self._closed and self._ownership.assigned

    def _join(self) -> Ownership:
        assert self._react is not None, "subscribe first"
        owned = self._ownership = Ownership(self._consumer, self._react)
        self._consumer.subscribe(
            self._topics, on_assign=owned.on_assign, on_revoke=owned.on_revoke, on_lost=owned.on_lost
        )
        self._return.begin(self._topics)
        return owned

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """See Source."""
        owned = self._ownership
        assert owned is not None, "subscribe first"
        assert not self._closed, "closed"
        if self._fatal:
            owned = self._come_back(owned, self._fatal[0])
        self._fencing.note(self._consumer.memberid())
        try:
            owned.begin_anew(self._ids.look(self._consumer))
            owned.realign()
        except UnavailableError:
            # The group moves on meanwhile, and wants answers.
            self._read(owned, 0, 0.0)
            raise
        batches = self._read(owned, max_records, timeout_s)
        self._refused.check(batches)
        self._look(batches, owned)
        return batches

    def _read(self, owned: Ownership, max_records: int, timeout_s: float) -> list[RecordBatch]:
        deadline = time.monotonic() + timeout_s
        try:
            if max_records == 0:
                if messages := self._fetch(owned, 1, 0.0):
                    to_batches(messages, dict(owned.positions))  # it may be an error
                    owned.doubt()
                return []
            while True:
                left_s = max(deadline - time.monotonic(), 0.0)
                messages = self._fetch(owned, max_records, left_s)
                if self._ids.doubtful():
                    owned.doubt()  # they may be of another topic: read again once that is clear
                    return []
                batches = to_batches(messages, owned.positions)
                if batches or time.monotonic() >= deadline:
                    return batches
        except BaseException as error:
            if isinstance(error, FencedError):  # it may come as a message before the callback says so
                self._fatal.append(error.error)
            if self._fatal:
                raise KafkaUnavailableError(f"poll: {self._fatal[0].str()}") from error
            # Messages that the client had handed out are gone with the exception: read them again.
            owned.doubt()
            raise

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """See Source. A rebalance under way is KafkaUnavailableError: poll, then commit again."""
        commit_offsets(self._consumer, self._settings.group_id, offsets, notes, timeout_s, self._fatal)

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, Committed | None]:
        """See Source. Waits for open transactions that commit offsets of these partitions."""
        return committed_offsets(self._consumer, partitions, timeout_s)

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """See Source."""
        return log_ranges(self._consumer, self._settings, partitions, timeout_s)

    def offsets_at(self, partitions: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
        """See Source."""
        return offsets_by_time(self._consumer, self._settings, partitions, time_ms, timeout_s)

    def topic(self, name: str, timeout_s: float) -> TopicFacts:
        """See Source."""
        found = find_topic(self._settings, name, timeout_s)
        self._ids.asked(name, found.id)
        return found

    def still_here(self) -> None:
        """See Source. While it calls back the client counts as polled."""

    def seek(self, starts: StartOffsets) -> None:
        """See Source."""
        assert self._ownership is not None, "subscribe first"
        self._ownership.seek(starts)

    def member(self) -> object:
        """See Source. Raises CommitRefusedError once removed from the group: a nameless commit is never refused."""
        before = self._consumer.memberid()
        found: object = self._consumer.consumer_group_metadata()
        if not before or self._consumer.memberid() != before:
            raise CommitRefusedError(f"this process is no longer a member of group '{self._settings.group_id}'")
        return found

    def close(self, timeout_s: float) -> None:
        """See Source."""
        if self._closed:
            return
        self._closed = True
        self._return.close()
        try:
            if self._ownership is not None:
                self._ownership.hand_back(Lost if self._fatal else Revoked)
        finally:
            close_consumer(self._consumer, timeout_s)

    def _look(self, batches: Sequence[RecordBatch], owned: Ownership) -> None:
        """The watchdog: a client that is stuck is replaced here, Lost for all partitions and then assigned anew."""
        now_s = self._monotonic()
        if batches:
            self._watch.progressed(now_s)
        elif self._watch.is_due(now_s) and self._watch.looked(now_s, self._looks_stuck(owned, now_s)):
            log.warning("kafka: the client is stuck and will be replaced")
            self._replace(owned)

    def _looks_stuck(self, owned: Ownership, now_s: float) -> bool:
        if self._consumer.memberid():
            self._member_at_s = now_s
        without_a_group_s = now_s - self._member_at_s
        return looks_stuck(self._consumer, self._settings, self._topics[0], owned.positions, without_a_group_s)

    def _come_back(self, owned: Ownership, fatal: KafkaError) -> Ownership:
        """Replace a client that was fenced, but not by another process: Lost, then assigned anew."""
        if fatal.code() not in FENCED or self._settings.instance_id is None:
            raise translate(fatal, "poll") or KafkaException(fatal)
        owned.hand_back(Lost)
        self._fencing.settle(self._monotonic(), self._consumer.memberid())
        return self._replace(owned)

    def _replace(self, owned: Ownership) -> Ownership:
        """A new client in the place of this one, which has lost what it had."""
        old = self._consumer
        self._connect(self._settings.patience_s)
        self.rebuilds += 1
        self._watch = StallWatch(self._monotonic())
        owned.hand_back(Lost)
        close_consumer(old, REPLACED_CLOSE_TIMEOUT_S)
        return self._join()

    def _fetch(self, owned: Ownership, max_records: int, timeout_s: float) -> list[Any]:
        with translated("poll"):
            # consume(n, timeout) waits until it has n messages; poll waits for one.
            first = self._consumer.poll(timeout_s)
            messages = [] if first is None else [first]
            if messages and max_records > 1:
                owned.begun.clear()
                messages += self._consumer.consume(max_records - 1, 0)
                if owned.begun:
                    # A partition went and came back: its messages may be from before, and say nothing about the
                    # position.
                    owned.doubt(owned.begun)
                    messages = [each for each in messages if not owned.has_begun(each)]
        return messages
