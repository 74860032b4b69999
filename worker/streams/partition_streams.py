"""The streams of one partition: their rows, its clock, and why others were forgotten."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from worker.records.arrays import NO_TIME_MS
from worker.records.states import NO_OFFSET, Unfinished
from worker.streams.roster import Roster
from worker.streams.silence import Silence

# Streams per partition of which the reason for forgetting is kept. A dictionary that loses its oldest while it gains
# others is built anew each time its places are used up, three times as large as it is full: more than 2**18 / 3 streams
# would take it 7.7 MB in place of 3.8, minutes after it seemed to have its size.
FORGOTTEN_STREAMS_LIMIT = 80_000
# The oldest go together, a sixteenth of all: a dictionary passes over all that were taken from its beginning each time
# it looks for it.
FORGOTTEN_STREAMS_SHARE = 16


@dataclass(slots=True)
class PartitionStreams:
    """What the table of streams knows of one partition."""

    rows: dict[str, int] = field(default_factory=dict)
    roster: Roster = field(default_factory=lambda: Roster(np.empty(0, np.int64), np.empty(0, np.object_)))
    forgotten: dict[str, int] = field(default_factory=dict)  # stream → Reset, oldest first
    clock: int = NO_TIME_MS
    read_to: int = NO_OFFSET  # records below it have been read, and have decided what records decide; NO_OFFSET: none
    unfinished: dict[int, Unfinished] = field(default_factory=dict)  # by offset, in their order
    silence: Silence = field(default_factory=Silence, repr=False)
    longest_idle: deque[tuple[int, str]] = field(default_factory=deque, repr=False)  # (touched, stream), listed

    def remember(self, stream: str, reason: int, limit: int) -> None:
        """Remember why this stream, which leaves now, is at zero when it comes back; for at most ``limit`` streams."""
        self.forgotten[stream] = reason
        if len(self.forgotten) > limit:
            for oldest in list(islice(self.forgotten, 1 + limit // FORGOTTEN_STREAMS_SHARE)):
                del self.forgotten[oldest]
