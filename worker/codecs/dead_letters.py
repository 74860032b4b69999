"""Refused records → dead letters: the records as they came, with headers that say why and where from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from worker.codecs.encoding import HEADER_FRAMING_BYTES, Messages, message_bytes
from worker.codecs.unusable import REASON_CHARACTERS_LIMIT, cut
from worker.records import Headers, RecordBatch, Refusal

RECORD_BYTES_LIMIT = 900_000  # brokers and clients take 1 MB by default, the headers below and framing included
FRAMING_BYTES = 50_000  # of the record's headers, of which it may have a great many
ITEMS_BYTES_LIMIT = 4_000
TOLD_BYTES = 4 * REASON_CHARACTERS_LIMIT + ITEMS_BYTES_LIMIT + 1_000  # by the headers below, but for whose letter it is

Record: TypeAlias = tuple[bytes | None, bytes | None, Headers]


class DeadLetters:
    """Writes the letters of one worker. ``group``, ``model`` (the short SHA-256) and ``version`` say which it is.

    ``limit_bytes``: of the record in a letter, without the headers below.
    """

    def __init__(self, group: str = "", model: str = "", version: str = "") -> None:
        self.limit_bytes = RECORD_BYTES_LIMIT
        self._framing_bytes = FRAMING_BYTES
        self._keyless: bytes | None = None  # the key of a letter whose record has none
        names = (("rnnw.group", group), ("rnnw.model", model), ("rnnw.version", version))
        self._of_all = [(name, text.encode()) for name, text in names]

    def fit(self, message_bytes: int, keys_needed: bool) -> None:
        """Write letters of at most so many bytes, framing of headers and all; ``keys_needed``: each with a key."""
        whose = sum(len(name) + len(text) + HEADER_FRAMING_BYTES for name, text in self._of_all)
        room = max(0, message_bytes - whose - TOLD_BYTES)
        self._framing_bytes = min(FRAMING_BYTES, room // 10)
        self.limit_bytes = min(RECORD_BYTES_LIMIT, room - self._framing_bytes)
        self._keyless = b"" if keys_needed else None

    def of(self, batch: RecordBatch, refusals: Sequence[Refusal]) -> Messages:
        """One letter for each refusal.

        No broker would take a record of any size, and what can't be written would be read again for ever: above
        ``limit_bytes`` the value is left out, then the record's own headers, then its key, as far as needed.
        """
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        headers: list[Headers] = []
        for refusal in refusals:
            whole = batch.keys[refusal.record], batch.values[refusal.record], batch.headers[refusal.record] or ()
            key, value, own = self._room_for(*whole)
            cut_down = [] if self._fits(*whole) else [("rnnw.truncated", b"%d" % message_bytes(*whole))]
            keys.append(self._keyless if key is None else key)
            values.append(value)
            headers.append([*own, *_told(batch, refusal), *self._of_all, *cut_down])
        return Messages(keys, values, headers, np.array([refusal.record for refusal in refusals], np.int64))

    def _room_for(self, key: bytes | None, value: bytes | None, own: Headers) -> Record:
        """As much of the record as fits."""
        smaller: tuple[Record, ...] = ((key, value, own), (key, b"", own), (key, b"", ()))
        return next((record for record in smaller if self._fits(*record)), (None, b"", ()))

    def _fits(self, key: bytes | None, value: bytes | None, own: Headers) -> bool:
        size_bytes = message_bytes(key, value, own)
        return size_bytes <= self.limit_bytes and size_bytes + len(own) * HEADER_FRAMING_BYTES <= (
            self.limit_bytes + self._framing_bytes
        )


def _told(batch: RecordBatch, refusal: Refusal) -> Headers:
    told = [
        ("rnnw.error", refusal.error.encode()),
        ("rnnw.reason", cut(refusal.reason).encode(errors="replace")),
        ("rnnw.topic", batch.partition.topic.encode()),
        ("rnnw.partition", b"%d" % batch.partition.number),
        ("rnnw.offset", b"%d" % batch.offsets[refusal.record]),
        ("rnnw.timestamp", b"%d" % batch.timestamps[refusal.record]),
    ]
    return [*told, ("rnnw.items", _first(refusal.items).encode())] if refusal.items else told


def _first(items: str) -> str:
    """As many as a header should hold; of a chunk every other item may be refused."""
    return items if len(items) <= ITEMS_BYTES_LIMIT else items[:ITEMS_BYTES_LIMIT].rpartition(",")[0] + ",..."
