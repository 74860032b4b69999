"""Records from a file instead of Kafka, through the same pipeline: same input, same bytes out.

A line in: ``{"topic"?, "partition"?, "offset"?, "timestamp"?, "key", "value", "headers"?}``; raw bytes come as
``key_base64`` and ``value_base64``. A line out: ``{"topic", "key", "value", "headers"}``; outputs and dead letters come
in input order.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Annotated, Any

import msgspec

from worker.backlog import Backlog, TurnLimit
from worker.codecs.commands import COMMAND_HEADER
from worker.codecs.encoding import Messages
from worker.codecs.parsing import parse_json_members
from worker.config.values import TOPIC
from worker.errors import WorkerError, printable
from worker.limits import LoopLimits
from worker.pipeline import Outcome, Pipeline
from worker.records import Events, Headers, Partition, RecordBatch

NO_TIMESTAMP = -1
KEYS = "raw bytes come as key_base64"  # in place of text that can't be stored
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


def replay(pipeline: Pipeline, records: Iterable[Record], turn_events: int, write: Writer) -> tuple[int, int, int]:
    """Feed records in turns of ``turn_events`` and as many bytes as ``run`` takes; (records, outputs, refused)."""
    known: set[Partition] = set()
    counts = [0, 0, 0]
    backlog, limit = Backlog(), TurnLimit(turn_events, turn_events, LoopLimits().turn_bytes_in)

    def decode(batches: Sequence[RecordBatch]) -> list[Events]:
        return pipeline.decode([(batch, False) for batch in batches])

    for batches in _polls(records, turn_events):
        for batch in batches:
            if batch.partition not in known:
                known.add(batch.partition)
                pipeline.open(batch.partition)
        backlog.add(batches)
        while backlog:
            for outcome in pipeline.answer(backlog.take(decode, limit).events):
                write.outcome(outcome)
                counts[0] += len(outcome.batch)
                counts[1] += len(outcome.outputs)
                counts[2] += len(outcome.refusals)
    return counts[0], counts[1], counts[2]


def read_records(lines: IO[bytes], name: str, default_topic: str, form: str) -> Iterator[Record]:
    """The records of a JSON-lines file. Raises WorkerError naming the line that can't be read."""
    positions: dict[Partition, int] = {}
    decoder = msgspec.json.Decoder(Line)
    for number, text in enumerate(lines, 1):
        if not text.strip():
            continue
        place = f"{name}: line {number}"
        line = _parse(decoder, text, place)
        partition = Partition(default_topic if line.topic is None else _topic(line.topic, place), line.partition)
        position = positions.get(partition, 0)
        offset = position if line.offset is None else line.offset
        if offset < position:
            raise WorkerError(f"{place}: offset {offset} of {partition} comes after {position - 1}; sort the lines")
        if offset > OFFSET_LIMIT:
            raise WorkerError(f"{place}: {partition} has no offset after {OFFSET_LIMIT}")
        positions[partition] = offset + 1
        headers = [
            (_storable(name, place, HEADERS), None if text is None else _storable(text, place, HEADERS).encode())
            for name, text in line.headers.items()
        ]
        yield Record(partition, offset, line.timestamp, _key(line, place), _value(line, form, place), headers or None)


class Writer:
    """Writes what came of each record as JSON lines, in input order."""

    def __init__(self, file: IO[bytes], output_topic: str, dead_topic: str | None, form: str) -> None:
        self._file = file
        self._output_topic = output_topic
        self._dead_topic = dead_topic
        self._form = form

    def outcome(self, outcome: Outcome) -> None:
        """The messages of one batch, outputs and dead letters merged by record."""
        lines = list(self._lines(self._output_topic, outcome.outputs, self._form))
        if self._dead_topic is not None:
            lines += self._lines(self._dead_topic, outcome.dead, "json")
        lines.sort(key=lambda line: line[0])
        self._file.writelines(text for _, text in lines)

    def _lines(self, topic: str, messages: Messages, form: str) -> Iterator[tuple[int, bytes]]:
        headers = messages.headers or [()] * len(messages)
        rows = zip(messages.records.tolist(), messages.keys, messages.values, headers, strict=True)
        for record, key, value, pairs in rows:
            line = {
                "topic": topic,
                **_as_text("key", key),
                **_as_json("value", value, form),
                "headers": {name: None if text is None else text.decode(errors="replace") for name, text in pairs},
            }
            yield record, msgspec.json.encode(line) + b"\n"


def _polls(records: Iterable[Record], size: int) -> Iterator[list[RecordBatch]]:
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


def _parse(decoder: msgspec.json.Decoder[Line], text: bytes, place: str) -> Line:
    try:
        return decoder.decode(text)
    except RecursionError:
        raise WorkerError(f"{place}: it is nested too deeply; such a value can be given as value_base64") from None
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        reason = error
    try:
        # Python writes NaN and Infinity, which are not JSON: a record with such a value is a record all the same.
        members = parse_json_members(text)
        _, value = members.pop("value", (None, b"null"))
        line = msgspec.convert({name: member for name, (member, _) in members.items()}, Line)
        line.value = msgspec.Raw(value)
    except (ValueError, RecursionError, msgspec.MsgspecError):
        raise WorkerError(f"{place}: {printable(str(reason))}") from None
    return line


def _topic(text: str, place: str) -> str:
    if not TOPIC.fullmatch(text):
        name = ascii(text[:TOPIC_CHARACTERS_SHOWN])
        raise WorkerError(f"{place}: {name} is not a topic name (letters, digits, '.', '_' and '-', at most 249)")
    return text


def _key(line: Line, place: str) -> bytes | None:
    if line.key_base64 is not None:
        return _bytes(line.key_base64, f"{place}: key_base64")
    return None if line.key is None else _storable(line.key, place, KEYS).encode()


def _storable(text: str, place: str, instead: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise WorkerError(f"{place}: half a surrogate pair is no text; {instead}")
    return text


def _value(line: Line, form: str, place: str) -> bytes | None:
    if line.value_base64 is not None:
        return _bytes(line.value_base64, f"{place}: value_base64")
    text = bytes(line.value)
    if text == b"null":
        return None
    if form == "json" or (form == "float32" and COMMAND_HEADER in line.headers):
        return text
    if form == "msgpack":
        try:
            return msgspec.msgpack.encode(json.loads(text))
        except (ValueError, OverflowError, RecursionError) as error:
            raise WorkerError(f"{place}: MessagePack does not hold this value ({error}); see value_base64") from None
    raise WorkerError(f"{place}: input.format {form} takes raw bytes: give them as value_base64")


def _bytes(text: str, place: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError as error:  # of other characters, also those that are not ASCII
        raise WorkerError(f"{place}: {error}") from None


def _as_text(name: str, raw: bytes | None) -> dict[str, Any]:
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw or b"").decode()}


def _as_json(name: str, raw: bytes | None, form: str) -> dict[str, Any]:
    if raw is None:
        return {name: None}
    try:
        if form == "msgpack":
            return {name: msgspec.msgpack.decode(raw)}
        msgspec.json.decode(raw)  # only to know that it is JSON: the text goes out as it came in
        # A line break would end the line, and a lone null would read as no value at all.
        if b"\n" not in raw and b"\r" not in raw and raw.strip() != b"null":
            return {name: msgspec.Raw(raw)}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return {f"{name}_base64": base64.b64encode(raw).decode()}
