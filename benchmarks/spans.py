"""Outputs inside and outside some spans of time: how many per second, and the longest gaps. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from worker.records.arrays import FloatArray


@dataclass(frozen=True, slots=True)
class Span:
    """Seconds since the epoch."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


def merged(spans: Sequence[Span]) -> list[Span]:
    """Spans that overlap or touch, merged, in order: the files of a checkpoint's partitions follow one another."""
    found: list[Span] = []
    for span in sorted(spans, key=lambda each: each.start):
        if found and span.start <= found[-1].end:
            found[-1] = Span(found[-1].start, max(found[-1].end, span.end))
        else:
            found.append(span)
    return found


def within(spans: Sequence[Span], whole: Span) -> list[Span]:
    """Those that lie wholly between begin and end."""
    return [span for span in spans if whole.start <= span.start and span.end <= whole.end]


def between(spans: Sequence[Span], whole: Span) -> list[Span]:
    """The free time before, between and after: one more than there are spans."""
    edges = [whole.start, *(edge for span in spans for edge in (span.start, span.end)), whole.end]
    return [Span(start, end) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def speed(times_s: FloatArray, spans: Sequence[Span]) -> float:
    """Outputs per second in these spans together. ``times_s`` in order."""
    places = np.searchsorted(times_s, [(span.start, span.end) for span in spans])
    return float((places[:, 1] - places[:, 0]).sum() / max(sum(span.length for span in spans), 1e-3))


def longest_gap_s(times_s: FloatArray, spans: Sequence[Span]) -> float:
    """Gaps between two outputs, if one of the outputs, or the time between them, is in one of these spans."""
    starts, ends = times_s[:-1], times_s[1:]
    gaps = [(ends - starts)[(ends > span.start) & (starts < span.end)].max(initial=0.0) for span in spans]
    return float(max(gaps, default=0.0))


def compare(times_s: FloatArray, checkpoints: Sequence[Span], first: int) -> dict[str, Any]:
    """Figures of the outputs after the ``first``. Raises ValueError if no checkpoint was written during them."""
    whole = Span(float(times_s[first]), float(times_s[-1]))
    spans = within(merged(checkpoints), whole)
    if not spans:
        raise ValueError("no checkpoint was written from begin to end: more --events, or a shorter --interval")
    free = between(spans, whole)
    around = [speed(times_s, free[at : at + 2]) for at in range(len(spans))]
    return {
        "checkpoints": len(spans),
        "seconds of each": [span.length for span in spans],
        "events/s during": speed(times_s, spans),
        "events/s otherwise": speed(times_s, free),
        # If two checkpoints nearly touch, there may be no output in between to compare with.
        "ratio": [speed(times_s, [span]) / beside for span, beside in zip(spans, around, strict=True) if beside],
        "longest gap during, ms": 1e3 * longest_gap_s(times_s, spans),
        "longest gap otherwise, ms": 1e3 * longest_gap_s(times_s, free),
    }
