"""Source and Sink: all that the loop knows about Kafka. Offsets, ownership and acknowledgement are defined here, once.

Three implementations keep these contracts and pass one test suite: memory, kafka-python and confluent-kafka.

*Offset*: the position of a record in its partition. *Position*: the offset of the next record to read. *Committed*:
the position the group continues from. All three count records, markers and gaps alike, so they only ever compare.

*Threads*: every call is made by the loop's thread, and ``react`` is called on it too, during ``poll`` or ``close``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol, TypeAlias

from worker.kafka.message_sizes import TopicRules
from worker.records.messages import Messages
from worker.records.ownership import Change, Partition, StartOffsets
from worker.records.record_batch import RecordBatch

React: TypeAlias = Callable[[Change], StartOffsets]
Notes: TypeAlias = Mapping[Partition, str]
NO_NOTES: Notes = MappingProxyType({})


class Committed(NamedTuple):
    """The position that a group continues from, and the note that was committed with it."""

    offset: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What the cluster says of a topic: ``id`` tells a recreated topic from the old one."""

    id: str
    partitions: int
    cluster_id: str = ""  # empty where it is not told


class Questions(Protocol):
    """Asked of the cluster through one connection. All raise KafkaUnavailableError, WorkerError."""

    def partitions(self, topic: str) -> int | None:
        """How many partitions a topic has; None if it does not exist."""

    def comes_when_asked_for(self, topic: str, timeout_s: float) -> bool:
        """Whether a topic exists after asking for it as producers do: a broker may be set up to create it then."""

    def rules(self, topic: str) -> TopicRules:
        """What a topic requires of its messages, as far as we may ask."""

    def create(self, topics: Mapping[str, int]) -> None:
        """Begin to create topics (name → partitions); one that exists is left as it is.

        Raises KafkaUnavailableError also where too few brokers are up for its copies.
        """

    def members(self, group_id: str) -> list[str]:
        """Who is in a consumer group now, each by its instance id or member id; empty where there is no such group."""

    def set_committed(self, group_id: str, offsets: Mapping[Partition, Committed]) -> None:
        """What an operator can do: set the positions, with their notes, of a group that nobody is in.

        Raises CommitRefusedError where somebody is.
        """


@dataclass(frozen=True, slots=True)
class ClientFacts:
    """What a producer reports of itself: the mean round trip to each broker, and what nobody has acknowledged yet."""

    latency_s: Mapping[str, float] = field(default_factory=dict)
    messages: int = 0
    bytes: int = 0


class Source(Protocol):
    """Reads the partitions that the consumer group gives to this member.

    ``rebuilds`` counts how often the client was stuck and replaced; its partitions were then Lost and Assigned.
    """

    rebuilds: int

    @property
    def joined(self) -> bool:
        """Whether the group has taken this member in, with partitions or (when there are too few) without."""

    def subscribe(self, topics: Sequence[str], react: React) -> None:
        """Join the group. Returns at once; assignments come during ``poll``.

        ``react`` receives each change of ownership, on the calling thread. For Assigned it returns the offset to start
        each named partition from (all of them); no record of a partition is delivered before. For Revoked and Lost the
        answer is ignored; once it has returned, no record of those partitions is delivered. While ``react`` handles
        Revoked, ``commit`` for these partitions is still possible, and the next owner does not start before it returns.
        Partitions of a topic that was deleted and created again since ``react`` asked for it (``topic``) are Lost, and
        Assigned as those of the new topic.
        """

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """At most ``max_records`` records, waiting at most ``timeout_s`` for the first and never for more.

        With ``max_records`` 0 this member only takes part in the group: nothing is read, nothing is skipped.
        Batches may be empty and yet move the position. Records are in offset order within their partition.
        Raises OffsetOutOfRangeError, KafkaUnavailableError (nothing is lost: poll again).
        """

    def still_here(self) -> None:
        """Called during ``react`` while its work takes long: a group that sees no poll would consider us gone."""

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float, notes: Notes = NO_NOTES) -> None:
        """Commit positions (next offset to read), each with its note, and wait for the answer.

        Raises CommitRefusedError when the group has moved on, KafkaUnavailableError when nobody answers.
        """

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, Committed | None]:
        """Committed positions as the group coordinator has them now; None where there is none."""

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """(start, end) of each log: offset of the oldest record kept, and of the next one to be written."""

    def offsets_at(self, partitions: Iterable[Partition], time_ms: int, timeout_s: float) -> dict[Partition, int]:
        """Offset of the first record that is as late as ``time_ms`` (since the epoch); the log's end if none is."""

    def topic(self, name: str, timeout_s: float) -> TopicFacts:
        """Id and number of partitions of a topic, as they are now. Raises WorkerError when it does not exist."""

    def seek(self, starts: StartOffsets) -> None:
        """Deliver these partitions from these offsets on, whatever was delivered before.

        Not during ``react``. A partition that is no longer ours is ignored: the next ``poll`` says what became of it.
        """

    def member(self) -> object:
        """The member in whose name a transaction commits offsets, for ``TransactionalSink.commit`` of the same client.

        Ask again before each commit: it holds the group's generation, by which the coordinator recognises a member that
        has been replaced (KIP-447). Raises CommitRefusedError when the member already knows that the group has removed
        it.
        """

    def close(self, timeout_s: float) -> None:
        """Leave the group (calling ``react`` with what is revoked) and free everything. Safe to call twice."""


class Writer(Protocol):
    """Takes messages for topics, in order."""

    def send(self, topic: str, messages: Messages) -> None:
        """Hand over a batch, in order. Blocks while the client's buffer is full.

        Messages of one key keep their order. Raises DeliveryFailedError when an earlier message has failed for good,
        KafkaUnavailableError when the buffer stays full for longer than the client's limit. After either error the
        batch may have been handed over in part: from then on the sink refuses everything, open a new one.
        """

    def facts(self) -> ClientFacts:
        """What is known of the client now. Cheap enough for once a second; raises nothing."""


class Sink(Writer, Protocol):
    """Writes messages; they are durable once ``flush`` has returned."""

    def flush(self, timeout_s: float) -> None:
        """Wait until every message handed over is acknowledged.

        Raises DeliveryFailedError when one was refused for good, KafkaUnavailableError when not all are in
        ``timeout_s``: flush again.
        """

    def acknowledged(self, timeout_s: float) -> bool:
        """Whether every message handed over is acknowledged, within ``timeout_s``. For measurements: raises nothing,
        and a failure is raised by the next ``flush`` all the same.
        """

    def close(self, timeout_s: float) -> None:
        """Flush what is left, as far as time allows, and free everything. Safe to call twice."""


class TransactionalSink(Writer, Protocol):
    """Writes messages and commits offsets together: everything in a transaction appears, or nothing does.

    A transaction begins with the first ``send`` after the last ``commit``, or with a ``commit`` of offsets alone. It
    must end before the next ``poll``. Opening a sink ends what an earlier one with the same transactional id, of
    whatever process, has left open, and takes from it the right to write: offsets asked for after that are final.

    After any error of any call the sink refuses everything, and whether its last transaction was committed is not
    known. To continue, close it, open a new one, and then ask what is committed. Errors: KafkaUnavailableError (no
    answer, or too late), CommitRefusedError (the group has moved on, or another sink has taken the id),
    DeliveryFailedError (a message was refused for good: writing it again will fail again).
    """

    def commit(
        self, offsets: Mapping[Partition, int], member: object, timeout_s: float, notes: Notes = NO_NOTES
    ) -> None:
        """Commit everything sent, and these positions in the name of ``member`` (``Source.member()`` of now).

        Returns once every message was acknowledged and the coordinator has said that the transaction is committed. Only
        partitions that this member owns may be named: the cluster does not check it (KIP-1287).
        """

    def close(self, timeout_s: float) -> None:
        """Abort what is open, as far as time allows, and free everything. Safe to call twice."""
