"""Records whose headers have names that are not UTF-8, which kafka-python treats as a damaged log.

It would never read past such a record. Here the name is read as far as possible (``NotUtf8``), and the decoder decides
what becomes of the record.
"""

from __future__ import annotations

from typing import Any

from kafka import errors
from kafka.record import memory_records
from kafka.record.default_records import DefaultRecordBatch

from worker.records.record_batch import NotUtf8


class _Name(bytearray):
    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        try:
            return super().decode(encoding, errors)
        except UnicodeDecodeError:
            return NotUtf8(super().decode(encoding, "backslashreplace"))


class _AnyNames(bytearray):
    """The bytes of a batch, in which every name can be decoded."""

    def __getitem__(self, at: Any) -> Any:
        found = super().__getitem__(at)
        return _Name(found) if isinstance(found, bytearray) else found


class Batch(DefaultRecordBatch):  # type: ignore[misc]
    """As the client's, at the same speed until a name can't be decoded; the rest of that batch is read more slowly."""

    __slots__ = ()
    _buffer: Any

    def _maybe_uncompress(self) -> None:
        try:
            super()._maybe_uncompress()
        except errors.KafkaError:
            raise
        except Exception as error:  # each codec has its own
            raise errors.CorruptRecordError(f"a compressed batch can't be read: {error}") from error

    def __next__(self) -> Any:
        if self._next_record_index < self._num_records:
            try:
                record = self._read_msg()
            except UnicodeDecodeError:
                self._buffer = _AnyNames(self._buffer)
            except (ValueError, IndexError):
                pass  # the client's own code raises it again, in its words
            else:
                self._next_record_index += 1
                return record
        return super().__next__()


memory_records.DefaultRecordBatch = Batch
