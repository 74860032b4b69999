"""One KafkaConsumer behind the words of the contracts: partitions in, columns out, our errors.

It lives as long as its client is healthy; ``KafkaPythonSource`` replaces it as a whole.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import crc32c  # noqa: F401  without it the client silently computes checksums in pure Python, 13 MB/s
from kafka import KafkaConsumer, TopicPartition, errors
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

import worker.kafka.kafka_python.records  # noqa: F401  it reads more header names than the client does
from worker.errors import CommitRefusedError, KafkaRefusedError, KafkaUnavailableError, WorkerError
from worker.kafka.contracts import NO_NOTES, Committed, Notes
from worker.kafka.kafka_python.admin import is_reachable, leave_group
from worker.kafka.kafka_python.errors import client_options, open_client, translated
from worker.kafka.kafka_python.fetch_ids import FetchesByTopicId
from worker.kafka.kafka_python.network import Network
from worker.kafka.kafka_python.offsets import committed_offsets, log_ranges, named, offsets_by_time, with_notes
from worker.kafka.kafka_python.ownership import Ownership, OwnershipChangedError
from worker.kafka.settings import ClientSettings
from worker.kafka.topic_ids import LOOK_INTERVAL_S
from worker.records.ownership import Partition
from worker.records.record_batch import RecordBatch

log = logging.getLogger("worker.kafka")

HEARTBEAT_INTERVAL_MS = 1000
METADATA_MAX_AGE_MS = round(LOOK_INTERVAL_S * 1000)
RECONNECT_BACKOFF_MAX_MS = 1_000
QUESTION_TIMEOUT_S = 2.0  # for what the watchdog asks, at most every LOOK_INTERVAL_S
JOIN_WAIT_S = 0.1  # poll does not return when a join without changes is complete


class Connection:
    """A consumer that has its own I/O thread. ``consumer`` is the client, ``ownership`` what it said about partitions.

    Raises KafkaUnavailableError when the cluster can't be reached, WorkerError when it refuses us.
    """

    def __init__(self, settings: ClientSettings, network: Callable[..., Any] = Network) -> None:
        self._settings = settings
        own = {
            "group_id": settings.group_id,
            "group_instance_id": settings.instance_id,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "partition_assignment_strategy": [CooperativeStickyAssignor],
            "allow_auto_create_topics": False,
            # Members learn of a rebalance by their heartbeats: 1 s in place of 3 s for each of its two rounds.
            "heartbeat_interval_ms": HEARTBEAT_INTERVAL_MS,
            # An answer to a request sent before the topics were set counts as theirs: a member that leads its group
            # then sees no partitions, and assigns none, until the metadata are old: for 5 minutes by default. And
            # topic_ids says what only metadata reveal.
            "metadata_max_age_ms": METADATA_MAX_AGE_MS,
            # 30 s by default, also to a broker that has come back.
            "reconnect_backoff_max_ms": RECONNECT_BACKOFF_MAX_MS,
        }
        self.consumer: Any = open_client(KafkaConsumer, client_options(settings, "consumer", own), network)
        self.ownership = Ownership(self.consumer)
        self.positions: dict[Partition, int] = {}
        self.fenced = False  # another process has taken our instance id
        self.fetches = FetchesByTopicId(self.consumer)
        self._by_name: dict[TopicPartition, Partition] = {}

    def start(self, starts: Mapping[Partition, int]) -> None:
        """Let partitions that were held since their assignment deliver from these offsets on."""
        for partition, offset in starts.items():
            name = named(partition)
            self.consumer.seek(name, offset)
            self.consumer.resume(name)
            self._by_name[name] = partition
            self.positions[partition] = offset

    def forget(self, partitions: Iterable[Partition]) -> None:
        """These partitions are no longer ours."""
        for partition in partitions:
            self.positions.pop(partition, None)
            self._by_name.pop(named(partition), None)

    def still_here(self) -> None:
        """Its thread leaves the group when no poll has come for max_poll_interval_ms: ``react`` runs between two."""
        self.consumer._coordinator.heartbeat.poll()

    def seek(self, starts: Mapping[Partition, int]) -> None:
        """Go back or forth. The client itself drops records it has fetched ahead: their offset is not the next one."""
        ours = self.consumer.assignment()
        for partition, offset in starts.items():
            # Not partitions that the loop has yet to start, nor lost ones that it has not been told of yet.
            if partition in self.positions and named(partition) in ours:
                self.consumer.seek(named(partition), offset)
                self.positions[partition] = offset

    def fetch(self, max_records: int, timeout_s: float, doubtful: Callable[[], object]) -> list[RecordBatch]:
        """One poll of the client. Raises the client's own errors. While topics are ``doubtful`` nothing is taken."""
        if max_records == 0:
            self._attend(timeout_s)
            return []
        self.ownership.resume_join()
        fetched = self.consumer.poll(timeout_ms=timeout_s * 1000, max_records=max_records)
        if self.ownership.note_return(self.positions):
            return []  # all of it is Lost
        if doubtful():
            self.seek(self.positions)
            return []
        batches = []
        for name, partition in self._by_name.items():
            # Not the last record's offset + 1: markers and gaps move the position too, also without any record.
            # No waiting (0 ms): the position is known, but asking may also start a check of the leader's epoch.
            position = self.consumer.position(name, timeout_ms=0)
            records = fetched.get(name)
            if records:
                batches.append(_columns(partition, position, records))
            elif position != self.positions[partition]:
                batches.append(RecordBatch(partition, position))
            self.positions[partition] = position
        return batches

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """See Source. While a join is under way the client can't commit, and only a poll completes the join."""
        positions = with_notes(offsets, notes)
        deadline = time.monotonic() + timeout_s
        while True:
            left_s = max(deadline - time.monotonic(), 0.0)
            try:
                with translated("commit"):
                    self.consumer.commit(positions, timeout_ms=left_s * 1000)
                return
            except CommitRefusedError as error:
                self.fenced = isinstance(error.__cause__, errors.FencedInstanceIdError)
                raise
            except KafkaUnavailableError as error:
                joining = isinstance(error.__cause__, errors.RebalanceInProgressError)
                if not joining or not left_s or self.ownership.changes:
                    raise
            self._complete_join(left_s)
            if self.ownership.note_return(self.positions):
                raise CommitRefusedError(f"group '{self._settings.group_id}' had removed this member")

    def _complete_join(self, timeout_s: float) -> None:
        with suppress(OwnershipChangedError), translated("rebalance"):
            self._attend(min(timeout_s, JOIN_WAIT_S))

    def _attend(self, timeout_s: float) -> None:
        """Poll without taking records: they stay in the client's buffer while their partitions are paused."""
        held = [name for name in self._by_name if name in self.consumer.assignment()]
        self.consumer.pause(*held)
        try:
            self.ownership.resume_join()
            self.consumer.poll(timeout_ms=timeout_s * 1000)
        finally:
            kept = self.consumer.assignment()
            self.consumer.resume(*(name for name in held if name in kept))

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, Committed | None]:
        """See Source."""
        return committed_offsets(self.consumer, partitions, timeout_s)

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """See Source."""
        return log_ranges(self.consumer, partitions, timeout_s)

    def offsets_at(self, partitions: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
        """See Source."""
        return offsets_by_time(self.consumer, partitions, time_ms, timeout_s)

    def reading(self) -> str:
        """The client's position in the log, for an error that it raised there."""
        records = self.consumer._fetcher._next_partition_records
        if not records:
            return "poll"
        name = records.topic_partition
        return f"poll: {name.topic}/{name.partition} at offset {records.next_fetch_offset}"

    def is_behind(self, error: Exception) -> bool:
        """Whether a reported truncation is older than the last seek: then we read no further than the log."""
        found = getattr(error, "divergent_offsets", {}).items()
        reached = all(at is not None and self.positions.get(self._by_name[name], 0) <= at.offset for name, at in found)
        return bool(found) and reached

    def check_let_in(self) -> None:
        """Raises KafkaRefusedError while every broker refuses us: the client itself says so only in its log."""
        if (refusal := self.consumer._manager.locked_out()) is not None:
            raise KafkaRefusedError(f"kafka: {refusal}")

    def looks_stuck(self) -> bool:
        """One look of the watchdog: data beyond a position that does not move, or a session without heartbeats.

        A cluster that is away is no reason: a new client would change nothing, and this one may yet keep its place.
        """
        try:
            ends = self.log_range(self.positions, QUESTION_TIMEOUT_S)
        except KafkaUnavailableError:
            return is_reachable(self._settings, QUESTION_TIMEOUT_S)
        if self.ownership.heartbeat_age_s() > self.consumer.config["session_timeout_ms"] / 1000:
            if self.positions:
                return True
            # A static member without partitions can't be asked whether it is fenced: coming back might fence in turn.
            return self._settings.instance_id is None and is_reachable(self._settings, QUESTION_TIMEOUT_S)
        return any(ends[partition][1] > position for partition, position in self.positions.items())

    def ask_whether_fenced(self) -> None:
        """Set ``fenced`` if so: the client does not report it, its heartbeats just end.

        Asked by committing what is committed already, which changes nothing if we still are the member.
        """
        with suppress(KafkaUnavailableError, CommitRefusedError):
            found = self.committed(self.positions, QUESTION_TIMEOUT_S)
            told = [(partition, committed) for partition, committed in found.items() if committed is not None]
            notes = {partition: committed.note for partition, committed in told}
            self.commit({partition: committed.offset for partition, committed in told}, QUESTION_TIMEOUT_S, notes)

    def close(self, timeout_s: float) -> None:
        """Leave the group. A client that may be stuck waits for its own thread without a limit; we don't."""
        self.ownership.ignore_changes()
        options = {"autocommit": False, "timeout_ms": timeout_s * 1000}
        closing = threading.Thread(target=self._leave, kwargs=options, daemon=True)
        closing.start()
        closing.join(timeout_s)
        if closing.is_alive():
            log.warning("kafka: the client did not close within %.0f s", timeout_s)

    def _leave(self, **options: Any) -> None:
        if self.ownership.awaits_answer():
            # A broker reads nothing more from a connection until it has answered the join, not even that we leave.
            if self._settings.instance_id is None and (member_id := self.ownership.member_id()):
                with suppress(KafkaUnavailableError, WorkerError):
                    leave_group(self._settings, member_id, QUESTION_TIMEOUT_S)
            self.ownership.give_up()
        self.consumer.close(**options)


def _columns(partition: Partition, position: int, records: Sequence[Any]) -> RecordBatch:
    return RecordBatch(
        partition,
        position,
        [record.offset for record in records],
        [record.timestamp for record in records],
        [record.key for record in records],
        [record.value for record in records],
        [record.headers or None for record in records],
    )
