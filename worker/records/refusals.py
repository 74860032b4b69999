"""Events refused after decoding → one refusal for each record, which names its refused items."""

from __future__ import annotations

import numpy as np

from worker.records.arrays import NO_ITEM, IntArray
from worker.records.events import Events, Refusal


def by_record(events: Events, refused: IntArray, error: str, reason: str) -> list[Refusal]:
    """``refused``: ascending indices into ``events``."""
    if not len(refused):
        return []
    records, starts = np.unique(events.records[refused], return_index=True)
    items = np.split(events.items[refused], starts[1:])
    return [
        Refusal(record, error, reason, in_ranges(numbers))
        for record, numbers in zip(records.tolist(), items, strict=True)
    ]


def in_ranges(items: IntArray) -> str:
    """Ascending items as ``0-2,7``; "" for the event of a record that is not a chunk."""
    if items[0] == NO_ITEM:
        return ""
    runs = np.split(items, np.flatnonzero(np.diff(items) != 1) + 1)
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else f"{run[0]}" for run in runs)
