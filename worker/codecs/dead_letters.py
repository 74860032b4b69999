"""Refused records → dead letters: the records as they came, with headers that say why and where from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import numpy as np

from worker.codecs.unusable import in_one_line
from worker.records.events import Refusal
from worker.records.messages import HEADER_FRAMING_BYTES, Messages, header_bytes, message_bytes
from worker.records.record_batch import Headers, RecordBatch
from worker.records.trace_headers import trace_headers

RECORD_BYTES_LIMIT = 900_000  # brokers and clients take 1 MB by default, the headers below and framing included
FRAMING_BYTES = 50_000  # of the record's headers, of which it may have a great many
ITEMS_BYTES_LIMIT = 4_000
MORE = "..."  # after the last item that fits
SIZE_DIGITS = 10
LETTER_BYTES_LIMIT = 1_000_000  # until it is known what the topic takes

Record: TypeAlias = tuple[bytes | None, bytes | None, Headers]


@dataclass(frozen=True, slots=True)
class RefusedLetter:
    """Which letters of a record the cluster has refused: one of so many bytes; ``keyless``: one without a key."""

    letter_bytes: int | None = None
    keyless: bool = False


NOTHING_REFUSED: Mapping[int, RefusedLetter] = MappingProxyType({})


class DeadLetters:
    """Writes the letters of one worker. ``group``, ``model`` (the short SHA-256) and ``version`` say which it is.

    ``letter_bytes``: what key, value and framed headers of a letter may come to.
    """

    def __init__(self, group: str = "", model: str = "", version: str = "") -> None:
        self.letter_bytes = LETTER_BYTES_LIMIT
        self._keyless: bytes | None = None  # the key of a letter whose record has none
        names = (("rnnw.group", group), ("rnnw.model", model), ("rnnw.version", version))
        self._of_all = [(name, text.encode()) for name, text in names]

    def fit(self, message_bytes: int, keys_needed: bool) -> None:
        """Write letters of at most so many bytes, framing of headers and all; ``keys_needed``: each with a key."""
        self.letter_bytes = message_bytes
        self._keyless = b"" if keys_needed else None

    def of(
        self,
        batch: RecordBatch,
        refusals: Sequence[Refusal],
        refused: Mapping[int, RefusedLetter] = NOTHING_REFUSED,
    ) -> Messages:
        """One letter for each refusal.

        Brokers limit the size of a record, and a record whose letter can't be written would be read again for ever: so
        parts that do not fit are left out, the value first, then the record's own headers, those of its trace last of
        them, then its key. Whether a compressed letter fits may show only when it is written: a letter of a record in
        ``refused`` is made smaller than the refused one.
        """
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        headers: list[Headers] = []
        for refusal in refusals:
            at = refusal.record
            whole = batch.keys[at], batch.values[at], batch.headers[at] or ()
            before = refused.get(at, RefusedLetter())
            most = self.letter_bytes
            if before.letter_bytes is not None:
                most = min(most, before.letter_bytes - 1)
            key, value, all_headers = self._letter(whole, self._told(batch, refusal, most), most)
            keyless = b"" if before.keyless else self._keyless
            keys.append(keyless if key is None else key)
            values.append(value)
            headers.append(all_headers)
        return Messages(keys, values, headers, np.array([refusal.record for refusal in refusals], np.int64))

    def _letter(self, whole: Record, told: Headers, most: int) -> Record:
        """As much of the record as fits beside the headers that say why."""
        key, value, own = whole
        if _fits(whole, told, most):
            return key, value, [*own, *told]
        told = [*told, ("rnnw.truncated", b"%d" % message_bytes(*whole))]
        traces = trace_headers(own)
        smaller: tuple[Record, ...] = ((key, b"", own), (key, b"", traces), (key, b"", ()))
        key, value, own = next((record for record in smaller if _fits(record, told, most)), (None, b"", ()))
        return key, value, [*own, *told]

    def _told(self, batch: RecordBatch, refusal: Refusal, most: int) -> Headers:
        """Why, where from and by whom; the items take half of the remaining room, the record the rest."""
        told = [*_told(batch, refusal), *self._of_all]
        if not refusal.items:
            return told
        name = "rnnw.items"
        left = most - header_bytes([*told, (name, b""), ("rnnw.truncated", b"1" * SIZE_DIGITS)])
        items = _first(refusal.items, max(0, min(ITEMS_BYTES_LIMIT, left // 2)))
        told.insert(len(told) - len(self._of_all), (name, items.encode()))
        return told


def _fits(record: Record, told: Headers, most: int) -> bool:
    size_bytes = message_bytes(*record)
    framed_bytes = size_bytes + HEADER_FRAMING_BYTES * len(record[2])
    return (
        size_bytes <= RECORD_BYTES_LIMIT
        and framed_bytes <= RECORD_BYTES_LIMIT + FRAMING_BYTES
        and framed_bytes + header_bytes(told) <= most
    )


def _told(batch: RecordBatch, refusal: Refusal) -> list[tuple[str, bytes | None]]:
    return [
        ("rnnw.error", refusal.error.encode()),
        ("rnnw.reason", in_one_line(refusal.reason).encode()),
        ("rnnw.topic", batch.partition.topic.encode()),
        ("rnnw.partition", b"%d" % batch.partition.number),
        ("rnnw.offset", b"%d" % batch.offsets[refusal.record]),
        ("rnnw.timestamp", b"%d" % batch.timestamps[refusal.record]),
    ]


def _first(items: str, most: int) -> str:
    """As many as a header should hold; of a chunk every other item may be refused."""
    if len(items) <= most:
        return items
    whole = items[: max(0, most - len(MORE))].rpartition(",")[0]
    return f"{whole},{MORE}" if whole else MORE
