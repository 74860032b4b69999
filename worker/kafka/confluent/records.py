"""confluent-kafka's messages as columns, one batch per partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from confluent_kafka import KafkaError, KafkaException, Message

from worker.kafka.confluent.errors import translate
from worker.records.ownership import Partition
from worker.records.record_batch import Headers, NotUtf8, RecordBatch


def to_batches(messages: Sequence[Any], positions: dict[Partition, int]) -> list[RecordBatch]:
    """Sort messages into columns and move the positions; an end-of-partition event tells what no record does.

    An event is right only if everything fetched before it is among these or earlier messages: see Ownership.
    """
    groups: dict[tuple[str, int], list[Any]] = {}
    ends: dict[Partition, int] = {}
    for message in messages:
        error = message.error()
        if error is None:
            groups.setdefault((message.topic(), message.partition()), []).append(message)
        elif error.code() == KafkaError._PARTITION_EOF:
            ends[Partition(message.topic(), message.partition())] = message.offset()
        else:
            _raise(error, message, positions)
    batches = []
    for name, group in groups.items():
        partition = Partition(*name)
        if partition in positions:  # else revoked while its last messages were on their way
            fresh = _not_below(positions[partition], group)
            if fresh:
                batches.append(_columns(partition, max(fresh[-1].offset() + 1, ends.pop(partition, 0)), fresh))
    batches += [RecordBatch(partition, end) for partition, end in ends.items() if end > positions.get(partition, end)]
    positions.update({batch.partition: batch.next_offset for batch in batches})
    return batches


def _not_below(position: int, group: list[Any]) -> list[Any]:
    """Without what was delivered before: the client may repeat itself when a rebalance interrupts a fetch."""
    return group if group[0].offset() >= position else [each for each in group if each.offset() >= position]


def _raise(error: KafkaError, message: Any, positions: Mapping[Partition, int]) -> None:
    partition = None if message.topic() is None else Partition(message.topic(), message.partition())
    if partition is None or partition in positions:
        raise translate(error, "poll", partition) or KafkaException(error)


def _columns(partition: Partition, next_offset: int, messages: Sequence[Any]) -> RecordBatch:
    return RecordBatch(
        partition,
        next_offset,
        [message.offset() for message in messages],
        [stamp if kind else -1 for kind, stamp in [message.timestamp() for message in messages]],
        [message.key() for message in messages],
        [message.value() for message in messages],
        _headers(messages),
    )


def _headers(messages: Sequence[Any]) -> list[Headers | None]:
    found: list[Headers | None] = []
    left = iter(messages)
    while True:
        try:
            # By map: a call in Python's own byte code may pass over the exception that comes with the client's answer,
            # which then holds a dangling pointer. So does the answer when it is asked for again.
            found.extend(map(Message.headers, left))
        except (SystemError, UnicodeDecodeError) as error:
            found.append([(NotUtf8(_undecoded(error).decode(errors="backslashreplace")), None)])
        else:
            return found


def _undecoded(error: BaseException) -> bytes:
    """The first name that could not be decoded: each further error wraps those before it."""
    inner: BaseException | None = error
    while inner is not None and not isinstance(inner, UnicodeDecodeError):
        inner = inner.__cause__ or inner.__context__
    return b"" if inner is None else inner.object
