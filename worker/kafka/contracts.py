"""Source and Sink: all that the loop knows of Kafka. Offsets, ownership and acknowledgement are defined here, once.

Three implementations keep these contracts and pass one test suite: memory, kafka-python and confluent-kafka.

*Offset*: the position of a record in its partition. *Position*: the offset of the next record to read. *Committed*:
the position the group goes on from. All three count records, markers and gaps alike, so they only ever compare.

*Threads*: every call is made by the loop's thread, and ``react`` is called on it too, during ``poll`` or ``close``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol, TypeAlias

from worker.records import Change, Headers, Partition, RecordBatch, StartOffsets

React: TypeAlias = Callable[[Change], StartOffsets]


class Source(Protocol):
    """Reads the partitions that the consumer group gives to this member.

    ``rebuilds`` counts how often the client was stuck and made anew; its partitions were then Lost and Assigned.
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
        """

    def poll(self, max_records: int, timeout_s: float) -> list[RecordBatch]:
        """At most ``max_records`` records, waiting at most ``timeout_s`` for the first and never for more.

        Batches may be empty and yet move the position. Records are in offset order within their partition.
        Raises OffsetOutOfRangeError, KafkaUnavailableError (nothing is lost: poll again).
        """

    def commit(self, offsets: Mapping[Partition, int], timeout_s: float) -> None:
        """Commit positions (next offset to read) and wait for the answer.

        Raises CommitRefusedError when the group has moved on, KafkaUnavailableError when nobody answers.
        """

    def committed(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, int | None]:
        """Committed positions as the group coordinator has them now; None where there is none."""

    def log_range(self, partitions: Iterable[Partition], timeout_s: float) -> dict[Partition, tuple[int, int]]:
        """(start, end) of each log: offset of the oldest record kept, and of the next one to be written."""

    def topic_id(self, topic: str) -> str:
        """The id that the cluster gave this topic when it was created: it tells a recreated topic from the old one."""

    def close(self, timeout_s: float) -> None:
        """Leave the group (calling ``react`` with what is revoked) and free everything. Safe to call twice."""


class Sink(Protocol):
    """Writes messages; they are durable once ``flush`` has returned."""

    def send(
        self,
        topic: str,
        keys: Sequence[bytes | None],
        values: Sequence[bytes | None],
        headers: Sequence[Headers] | None = None,
    ) -> None:
        """Hand over a batch, in order. Blocks while the client's buffer is full.

        Messages of one key keep their order. Raises DeliveryFailedError when an earlier message has failed for good,
        KafkaUnavailableError when the buffer stays full for longer than the client's limit. After either error the
        batch may have been handed over in part: from then on the sink refuses everything, open a new one.
        """

    def flush(self, timeout_s: float) -> None:
        """Wait until every message handed over is acknowledged.

        Raises DeliveryFailedError when one was refused for good or not acknowledged in ``timeout_s``.
        """

    def close(self, timeout_s: float) -> None:
        """Flush what is left, as far as time allows, and free everything. Safe to call twice."""
