"""Records from a file instead of Kafka, through the same pipeline: same input, same bytes out.

A line in: ``{"topic"?, "partition"?, "offset"?, "timestamp"?, "key", "value", "headers"?}``; raw bytes come as
``key_base64`` and ``value_base64``. A line out: ``{"topic", "key", "value", "headers"}``; outputs and dead letters come
in input order.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Annotated

import msgspec

from worker.codecs.commands import COMMAND_HEADER
from worker.codecs.parsing import parse_json_members
from worker.commands.replay.writing import Writer
from worker.errors import WorkerError, printable
from worker.member.limits import LoopLimits
from worker.pipeline.backlog import Backlog, TurnLimit
from worker.pipeline.generation import GenerationPipeline
from worker.pipeline.pipeline import Pipeline, predictions_of
from worker.pipeline.shadow import ShadowPipeline
from worker.records.messages import NO_MESSAGES
from worker.records.names import TOPIC
from worker.records.ownership import Partition
from worker.records.record_batch import Headers, RecordBatch

NO_TIMESTAMP = -1
KEYS = "raw bytes come as key_base64"  # for text that can't be stored
HEADERS = "leave this header out, headers are text here"
TOPIC_CHARACTERS_SHOWN = 60

PartitionNumber = Annotated[int, msgspec.Meta(ge=0, le=2**31 - 1)]
OFFSET_LIMIT = 2**63 - 2  # the offset after it is one of 64 bits, too
Offset = Annotated[int, msgspec.Meta(ge=0, le=OFFSET_LIMIT)]
Timestamp = Annotated[int, msgspec.Meta(ge=NO_TIMESTAMP, le=2**53)]  # ms, as far as JSON numbers are exact


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """One record of the input file."""

    topic: str | None = None
    partition: PartitionNumber = 0
    offset: Offset | None = None
    timestamp: Timestamp = NO_TIMESTAMP
    key: str | None = None
    key_base64: str | None = None
    value: msgspec.Raw = msgspec.Raw(b"null")
    value_base64: str | None = None
    headers: dict[str, str | None] = {}


@dataclass(slots=True)
class Record:
    """One record as Kafka would have delivered it."""

    partition: Partition
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers | None


def replay(
    pipeline: Pipeline | GenerationPipeline,
    records: Iterable[Record],
    turn_events: int,
    write: Writer,
    shadow: ShadowPipeline | None = None,
) -> tuple[int, int, int]:
    """Feed records in turns of ``turn_events`` and as many bytes as ``run`` takes; (records, outputs, refused).

    Texts of tasks that generate are complete before the next ``turn_events`` records are read.
    """
    known: set[Partition] = set()
    counts = [0, 0, 0]
    backlog, limit = Backlog(), TurnLimit(turn_events, turn_events, LoopLimits().turn_bytes_in)

    for batches in batches_of(records, turn_events):
        for batch in batches:
            if batch.partition not in known:
                known.add(batch.partition)
                for each in (pipeline, shadow):
                    if each is not None:
                        each.engine.table.open(batch.partition)
        backlog.add(batches)
        written = write.in_order(batches) if isinstance(pipeline, GenerationPipeline) else write
        while backlog or pipeline.busy:
            events = backlog.take(pipeline.decode, limit, pipeline.full()).events
            answer = pipeline.answer(events)
            backlog.give_back(answer.left_over)
            beside = [NO_MESSAGES] * len(answer.outcomes)
            if shadow is not None:
                beside = shadow.follow(events, predictions_of(answer.outcomes)).outputs
            for outcome, others in zip(answer.outcomes, beside, strict=True):
                written.outcome(outcome, others)
                counts[0] += len(outcome.batch) if outcome.advances else 0
                counts[1] += len(outcome.outputs)
                counts[2] += len(outcome.refusals)
        written.end()
    return counts[0], counts[1], counts[2]


def read_records(lines: IO[bytes], name: str, default_topic: str, wire_format: str) -> Iterator[Record]:
    """The records of a JSON-lines file. Raises WorkerError naming the line that can't be read."""
    positions: dict[Partition, int] = {}
    decoder = msgspec.json.Decoder(Line)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        where = f"{name}: line {number}"
        line = _parse(decoder, text, where)
        partition = Partition(default_topic if line.topic is None else _topic(line.topic, where), line.partition)
        position = positions.get(partition, 0)
        offset = position if line.offset is None else line.offset
        if offset < position:
            raise WorkerError(f"{where}: offset {offset} of {partition} comes after {position - 1}; sort the lines")
        if offset > OFFSET_LIMIT:
            raise WorkerError(f"{where}: {partition} has no offset after {OFFSET_LIMIT}")
        positions[partition] = offset + 1
        headers = [
            (_storable(name, where, HEADERS), None if text is None else _storable(text, where, HEADERS).encode())
            for name, text in line.headers.items()
        ]
        key, value = _key(line, where), _value(line, wire_format, where)
        yield Record(partition, offset, line.timestamp, key, value, headers or None)


def batches_of(records: Iterable[Record], size: int) -> Iterator[list[RecordBatch]]:
    """At most ``size`` records at once, as runs of one partition each, in file order."""
    batches: list[RecordBatch] = []
    count = 0
    for record in records:
        if not batches or batches[-1].partition != record.partition:
            batches.append(RecordBatch(record.partition, record.offset))
        batch = batches[-1]
        batch.offsets.append(record.offset)
        batch.timestamps.append(record.timestamp)
        batch.keys.append(record.key)
        batch.values.append(record.value)
        batch.headers.append(record.headers)
        batch.next_offset = record.offset + 1
        count += 1
        if count == size:
            yield batches
            batches, count = [], 0
    if batches:
        yield batches


def _parse(decoder: msgspec.json.Decoder[Line], text: bytes, where: str) -> Line:
    try:
        return decoder.decode(text)
    except RecursionError:
        raise WorkerError(f"{where}: it is nested too deeply; such a value can be given as value_base64") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = error
    try:
        # Python writes NaN and Infinity, which are not JSON: a record with such a value is a record all the same.
        members = parse_json_members(text)
        _, value = members.pop("value", (None, b"null"))
        line = msgspec.convert({name: member for name, (member, _) in members.items()}, Line)
        line.value = msgspec.Raw(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise WorkerError(f"{where}: {printable(str(reason))}") from None
    return line


def _topic(text: str, where: str) -> str:
    if not TOPIC.fullmatch(text):
        name = ascii(text[:TOPIC_CHARACTERS_SHOWN])
        raise WorkerError(f"{where}: {name} is not a topic name (letters, digits, '.', '_' and '-', at most 249)")
    return text


def _key(line: Line, where: str) -> bytes | None:
    if line.key_base64 is not None:
        return _bytes(line.key_base64, f"{where}: key_base64")
    return None if line.key is None else _storable(line.key, where, KEYS).encode()


def _storable(text: str, where: str, instead: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise WorkerError(f"{where}: half a surrogate pair is not text; {instead}")
    return text


def _value(line: Line, wire_format: str, where: str) -> bytes | None:
    if line.value_base64 is not None:
        return _bytes(line.value_base64, f"{where}: value_base64")
    text = bytes(line.value)
    if text == b"null":
        return None
    if wire_format == "json" or (wire_format == "float32" and COMMAND_HEADER in line.headers):
        return text
    if wire_format == "msgpack":
        try:
            return msgspec.msgpack.encode(json.loads(text))
        except (ValueError, OverflowError, RecursionError) as error:
            raise WorkerError(
                f"{where}: MessagePack can't hold this value ({error}); give it as value_base64"
            ) from None
    raise WorkerError(f"{where}: input.format {wire_format} takes raw bytes: give them as value_base64")


def _bytes(text: str, where: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # of other characters, also those that are not ASCII
        raise WorkerError(f"{where}: {error}") from None
