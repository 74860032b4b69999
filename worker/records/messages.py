"""Messages for one topic: what a sink is given, and their size in bytes.

Rule of this file: data only, as columns, like the records that are read.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np

from worker.records.arrays import IntArray
from worker.records.record_batch import Headers

HEADER_FRAMING_BYTES = 10  # at most: two lengths


@dataclass(slots=True)
class Messages:
    """Messages for one topic in the order in which they are sent, as columns of one length.

    ``headers``: None when no message has any. ``records``: for each message the index of the record it answers, in its
    batch; empty where they answer none.
    """

    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]
    headers: Sequence[Headers] | None = None
    records: IntArray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return len(self.values)

    def largest_bytes(self) -> int:
        """Bytes of the largest value and of the most headers. Only for messages that all have a value, as outputs."""
        largest: int = max(map(len, self.values), default=0)  # type: ignore[arg-type]
        return largest + max(map(header_bytes, self.headers)) if self.headers else largest

    def size_bytes(self) -> int:
        """Bytes of all keys, values and headers."""
        total = _size_bytes(self.values) + _size_bytes(self.keys)
        if self.headers:
            total += sum(len(name) + len(text or b"") for some in self.headers for name, text in some)
        return total

    def bytes_of(self, index: int) -> int:
        """Bytes of one message, without the framing of its record but with that of its headers."""
        headers = self.headers[index] if self.headers else ()
        return message_bytes(self.keys[index], self.values[index], ()) + header_bytes(headers)

    def chosen(self, indices: IntArray) -> Messages:
        """These messages alone."""
        numbers = indices.tolist()
        return Messages(
            [self.keys[index] for index in numbers],
            [self.values[index] for index in numbers],
            [self.headers[index] for index in numbers] if self.headers else None,
            self.records[indices],
        )


def _size_bytes(contents: Sequence[bytes | None]) -> int:
    # Nearly always none is missing, and to look for it takes as long as to count.
    with suppress(TypeError):
        return sum(map(len, contents))  # type: ignore[arg-type]
    return sum(map(len, filter(None, contents)))


NO_MESSAGES = Messages((), ())


def message_bytes(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Bytes of a message, without any framing."""
    size_bytes = len(key or b"") + len(value or b"")
    return size_bytes + sum(len(name.encode(errors="replace")) + len(text or b"") for name, text in headers)


def header_bytes(headers: Headers) -> int:
    """Bytes of headers, with their framing."""
    return message_bytes(None, None, headers) + HEADER_FRAMING_BYTES * len(headers)
