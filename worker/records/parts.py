"""Decoded records, cut and joined: the events of some records of a batch, and of several batches as one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from itertools import chain
from typing import Any

import numpy as np

from worker.records.events import Events
from worker.records.record_batch import RecordBatch

# Columns of Events with a value for every event, or None; the others describe the batch or its records.
COLUMNS = {each.name for each in fields(Events)} - {"batch", "records", "payloads", "refusals"}


def part_of(events: Events, start: int, stop: int) -> Events:
    """The events of the records from index ``start`` to before ``stop``."""
    first, end = np.searchsorted(events.records, (start, stop)).tolist()
    columns: dict[str, Any] = {name: getattr(events, name) for name in COLUMNS}
    columns = {name: None if column is None else column[first:end] for name, column in columns.items()}
    return replace(
        events,
        batch=events.batch.part(start, stop),
        records=events.records[first:end] - start,
        payloads={index - first: state for index, state in events.payloads.items() if first <= index < end},
        refusals=[each._replace(record=each.record - start) for each in events.refusals if start <= each.record < stop],
        **columns,
    )


def joined(parts: Sequence[Events]) -> Events:
    """The records of all, one after the other, as one batch of the first one's partition; its position means nothing.

    Only for parts with one event per record, and without refusals and payloads, which are left out.
    """
    columns: dict[str, Any] = {}
    for name in COLUMNS:
        found = [getattr(part, name) for part in parts]
        if any(column is None for column in found):
            columns[name] = None
        elif isinstance(found[0], np.ndarray):
            columns[name] = np.concatenate(found)
        else:
            columns[name] = list(chain.from_iterable(found))
    batch = RecordBatch.joined([part.batch for part in parts])
    return Events(batch, np.arange(len(batch)), **columns)
