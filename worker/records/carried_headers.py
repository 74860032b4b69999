"""The headers of a record that what is written about it has, too: those of its trace, and those that somebody wants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from worker.records.arrays import IntArray
from worker.records.messages import header_bytes
from worker.records.record_batch import Headers, RecordBatch
from worker.records.trace_headers import NAMES, trace_headers

CARRIED_BYTES_LIMIT = 16_384  # of a record's headers that are wanted, framing included: every output repeats them
NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class CarriedHeaders:
    """``names``: which headers beside those of a trace; None: all."""

    names: frozenset[str] | None = NOTHING

    def wanted(self, headers: Headers | None) -> Headers:
        """Those of a record beside its trace's, in their order, a name as often as it is there."""
        if not headers or self.names == NOTHING:
            return ()
        return [pair for pair in headers if pair[0] not in NAMES and (self.names is None or pair[0] in self.names)]

    def too_many_bytes(self, headers: Headers | None) -> int:
        """Their bytes if they are above the limit, else 0."""
        size_bytes = header_bytes(self.wanted(headers))
        return size_bytes if size_bytes > CARRIED_BYTES_LIMIT else 0

    def of_all(self, batch: RecordBatch, records: IntArray) -> Sequence[Headers] | None:
        """The headers of messages about these records, one index for each message; None where no message has any."""
        if not len(records) or not any(batch.headers):
            return None
        found = {
            record: (*self.wanted(batch.headers[record]), *trace_headers(batch.headers[record]))
            for record in set(records.tolist())
        }
        return [found[record] for record in records.tolist()] if any(found.values()) else None


TRACES = CarriedHeaders()
