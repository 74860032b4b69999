"""What a group has committed, and how it commits, by confluent-kafka's consumer."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from typing import Any

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from worker.errors import CommitRefusedError
from worker.kafka.confluent.errors import FENCED, translated
from worker.kafka.confluent.offsets import LEAST_WAIT_S
from worker.kafka.contracts import Committed, Notes
from worker.records.ownership import Partition


def committed_offsets(
    consumer: Any, partitions: Iterable[Partition], timeout_s: float
) -> dict[Partition, Committed | None]:
    """See Source.committed."""
    found: dict[Partition, Committed | None] = {}
    with translated("committed offsets"):
        asked = [TopicPartition(partition.topic, partition.number) for partition in partitions]
        for answer in consumer.committed(asked, timeout=timeout_s):
            if answer.error is not None:
                raise KafkaException(answer.error)
            told = Committed(answer.offset, note_in(answer)) if answer.offset >= 0 else None
            found[Partition(answer.topic, answer.partition)] = told
    return found


def note_in(answer: Any) -> str:
    """The note in an answer, perhaps with more behind it: see commit_notes."""
    try:
        return answer.metadata or ""
    except UnicodeDecodeError as error:
        return error.object.decode(errors="replace")


def with_notes(offsets: Mapping[Partition, int], notes: Notes) -> list[TopicPartition]:
    """Positions as the client commits them."""
    return [
        TopicPartition(partition.topic, partition.number, offset, notes.get(partition, ""))
        for partition, offset in offsets.items()
    ]


def commit_offsets(
    consumer: Any,
    group_id: str,
    offsets: Mapping[Partition, int],
    notes: Notes,
    timeout_s: float,
    fatal: list[KafkaError],
) -> None:
    """See Source.commit. An error that ends the client is added to ``fatal``."""
    if not offsets:
        return
    named = with_notes(offsets, notes)
    deadline = time.monotonic() + timeout_s
    # While the coordinator is away the client keeps a commit until it is back. If the session is over by then, it
    # sends it under no name, which fences us. So first see that the coordinator is there and we are a member.
    committed_offsets(consumer, offsets, timeout_s)
    if not consumer.memberid():
        raise CommitRefusedError(f"this process is no longer a member of group '{group_id}'")
    # A synchronous commit has no time-out: while the cluster is silent it never returns, and from another thread it
    # blocks every other call. So it is sent off, and the offsets committed then show, in time, whether it succeeded.
    with translated("commit"):
        consumer.commit(offsets=named, asynchronous=True)
    wanted = {partition: Committed(offset, notes.get(partition, "")) for partition, offset in offsets.items()}
    if committed_offsets(consumer, offsets, max(deadline - time.monotonic(), LEAST_WAIT_S)) == wanted:
        return
    # The coordinator answers and has not taken it: ask again for the reason.
    with translated("commit"):
        try:
            answers = consumer.commit(offsets=named, asynchronous=False)
        except KafkaException as error:
            fatal += [error.args[0]] if error.args[0].code() in FENCED else []
            raise
        for answer in answers:
            if answer.error is not None:
                raise KafkaException(answer.error)
