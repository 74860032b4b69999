"""Refused records → dead letters: the records as they came, with headers that say why and where from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from worker.codecs.encoding import Messages
from worker.codecs.unusable import cut
from worker.records import Headers, RecordBatch, Refusal

RECORD_BYTES_LIMIT = 900_000  # brokers and clients take 1 MB by default, the headers below and framing included


class DeadLetters:
    """Writes the letters of one worker. ``group``, ``model`` (the short SHA-256) and ``version`` say which it is."""

    def __init__(self, group: str = "", model: str = "", version: str = "") -> None:
        names = (("rnnw.group", group), ("rnnw.model", model), ("rnnw.version", version))
        self._of_all = [(name, text.encode()) for name, text in names]

    def of(self, batch: RecordBatch, refusals: Sequence[Refusal]) -> Messages:
        """One letter for each refusal.

        No broker would take a record of any size, and what can't be written would be read again for ever: above
        RECORD_BYTES_LIMIT the value is left out, then the record's own headers, then its key, as far as needed.
        """
        keys: list[bytes | None] = []
        values: list[bytes | None] = []
        headers: list[Headers] = []
        for refusal in refusals:
            key, value = batch.keys[refusal.record], batch.values[refusal.record]
            own: Headers = batch.headers[refusal.record] or ()
            size_bytes = whole_bytes = message_bytes(key, value, own)
            if size_bytes > RECORD_BYTES_LIMIT:
                value, size_bytes = b"", message_bytes(key, None, own)
            if size_bytes > RECORD_BYTES_LIMIT:
                own, size_bytes = (), message_bytes(key, None, ())
            if size_bytes > RECORD_BYTES_LIMIT:
                key = None
            truncated = [("rnnw.truncated", b"%d" % whole_bytes)] if whole_bytes > RECORD_BYTES_LIMIT else []
            keys.append(key)
            values.append(value)
            headers.append([*own, *_told(batch, refusal), *self._of_all, *truncated])
        return Messages(keys, values, headers, np.array([refusal.record for refusal in refusals], np.int64))


def message_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """What a message holds, without the framing of its records."""
    size_bytes = len(key or b"") + len(value or b"")
    return size_bytes + sum(len(name.encode(errors="replace")) + len(text or b"") for name, text in headers)


def _told(batch: RecordBatch, refusal: Refusal) -> Headers:
    told = [
        ("rnnw.error", refusal.error.encode()),
        ("rnnw.reason", cut(refusal.reason).encode(errors="replace")),
        ("rnnw.topic", batch.partition.topic.encode()),
        ("rnnw.partition", b"%d" % batch.partition.number),
        ("rnnw.offset", b"%d" % batch.offsets[refusal.record]),
        ("rnnw.timestamp", b"%d" % batch.timestamps[refusal.record]),
    ]
    return [*told, ("rnnw.items", refusal.items.encode())] if refusal.items else told
