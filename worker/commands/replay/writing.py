"""Outputs and dead letters → lines of JSON: ``{"topic", "key", "value", "headers"}``."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from typing import IO, Any

import msgspec

from worker.pipeline.pipeline import Outcome
from worker.records.messages import NO_MESSAGES, Messages
from worker.records.record_batch import RecordBatch


class Writer:
    """Writes what came of each record as JSON lines, in input order."""

    def __init__(
        self,
        file: IO[bytes],
        output_topic: str,
        dead_topic: str | None,
        wire_format: str,
        shadow_topic: str | None = None,
    ) -> None:
        self._file = file
        self._shadow_topic = shadow_topic
        self._output_topic = output_topic
        self._dead_topic = dead_topic
        self._wire_format = wire_format

    def outcome(self, outcome: Outcome, shadow: Messages = NO_MESSAGES) -> None:
        """The messages of one batch, merged by record: outputs, dead letters, then the outputs of a shadow."""
        lines = self.lines(outcome)
        if self._shadow_topic is not None:
            lines += self._lines(self._shadow_topic, shadow, self._wire_format)
        lines.sort(key=lambda line: line[0])
        self._file.writelines(text for _, text in lines)

    def end(self) -> None:
        """Nothing is kept back here."""

    def in_order(self, batches: Sequence[RecordBatch]) -> InOrder:
        """For the outcomes of these, whose records may be answered in any order."""
        return InOrder(self, self._file, batches)

    def lines(self, outcome: Outcome) -> list[tuple[int, bytes]]:
        """(index of its record in the batch, line) of each message: outputs first."""
        lines = list(self._lines(self._output_topic, outcome.outputs, self._wire_format))
        if self._dead_topic is not None:
            lines += self._lines(self._dead_topic, outcome.dead, "json")
        return lines

    def _lines(self, topic: str, messages: Messages, wire_format: str) -> Iterator[tuple[int, bytes]]:
        headers = messages.headers or [()] * len(messages)
        rows = zip(messages.records.tolist(), messages.keys, messages.values, headers, strict=True)
        for record, key, value, pairs in rows:
            line = {
                "topic": topic,
                **_as_text("key", key),
                **_as_json("value", value, wire_format),
                "headers": {name: None if text is None else text.decode(errors="replace") for name, text in pairs},
            }
            yield record, msgspec.json.encode(line) + b"\n"


class InOrder:
    """Keeps the messages of these records back until all are there, and then writes them in input order."""

    def __init__(self, writer: Writer, file: IO[bytes], batches: Sequence[RecordBatch]) -> None:
        self._writer, self._file = writer, file
        places = ((batch.partition, offset) for batch in batches for offset in batch.offsets)
        self._numbers = {place: number for number, place in enumerate(places)}
        self._lines: list[tuple[int, bytes]] = []

    def outcome(self, outcome: Outcome, shadow: Messages = NO_MESSAGES) -> None:
        """Messages of one record come in their order. Tasks that generate have no shadow."""
        assert not len(shadow)
        batch = outcome.batch
        for record, line in self._writer.lines(outcome):
            self._lines.append((self._numbers[batch.partition, batch.offsets[record]], line))

    def end(self) -> None:
        """Write them."""
        self._lines.sort(key=lambda line: line[0])
        self._file.writelines(text for _, text in self._lines)


def _as_text(name: str, raw: bytes | None) -> dict[str, Any]:
    try:
        return {name: None if raw is None else raw.decode()}
    except UnicodeDecodeError:
        return {f"{name}_base64": base64.b64encode(raw or b"").decode()}


def _as_json(name: str, raw: bytes | None, wire_format: str) -> dict[str, Any]:
    if raw is None:
        return {name: None}
    try:
        if wire_format == "msgpack":
            return {name: msgspec.msgpack.decode(raw)}
        msgspec.json.decode(raw)  # only to know that it is JSON: the text goes out as it came in
        # A line break would end the line, and a lone null would read as no value at all.
        if b"\n" not in raw and b"\r" not in raw and raw.strip() != b"null":
            return {name: msgspec.Raw(raw)}
    except (msgspec.MsgspecError, ValueError, RecursionError):
        pass
    return {f"{name}_base64": base64.b64encode(raw).decode()}
