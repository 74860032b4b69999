"""The headers by which a trace goes through: those of W3C Trace Context, from a record to what is written about it.

https://www.w3.org/TR/trace-context/
"""

from __future__ import annotations

import re
from typing import NamedTuple

from worker.records.record_batch import Headers

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
NAMES = (TRACEPARENT, TRACESTATE)
TRACE_BYTES_LIMIT = 1_024  # of each; the standard asks for 512. A longer one is left out: many outputs would repeat it
_PARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
SAMPLED = 1  # a flag


class TraceContext(NamedTuple):
    """Which span of which trace wrote a record; ``sampled``: somebody keeps that trace."""

    trace_id: str  # 32 hex digits
    span_id: str  # 16 hex digits
    sampled: bool


def trace_context(headers: Headers | None) -> TraceContext | None:
    """What a record's headers say, None where they say nothing that can be read."""
    parent = dict(trace_headers(headers)).get(TRACEPARENT)
    found = None if parent is None else _PARENT.fullmatch(parent)
    if found is None or (found[1] == b"00" and found[5] is not None):  # later versions may say more
        return None
    return TraceContext(found[2].decode(), found[3].decode(), bool(int(found[4], 16) & SAMPLED))


def trace_headers(headers: Headers | None) -> Headers:
    """Those of a record's headers, the last one of each name, as for all Kafka headers."""
    if not headers:
        return ()
    found = [pair for pair in headers if pair[0] in NAMES]
    if len(found) > 1:
        found = list(dict(found).items())
    return tuple([pair for pair in found if pair[1] and len(pair[1]) <= TRACE_BYTES_LIMIT])
