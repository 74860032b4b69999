"""What checkpoints of tasks that generate hold beside the others: unfinished records, items drawn and items kept."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from worker.checkpoints.columns import Column, UnusableColumnError, key_column, keys_of, texts
from worker.checkpoints.header import CheckpointHeader
from worker.checkpoints.schema import GENERATING_NUMBERS, ITEMS, UNFINISHED, UNFINISHED_STREAMS
from worker.records.events import Reset
from worker.records.states import NO_OFFSET, Unfinished


def unfinished_columns(unfinished: Sequence[Unfinished]) -> dict[str, Column]:
    """The datasets of these records, which are in the order of their offsets."""
    columns = [[getattr(each, name) for each in unfinished] for name in ("offset", "reset", "final")]
    numbers = zip(UNFINISHED.items(), columns, strict=True)
    found = {name: np.array(values, dtype) for (name, dtype), values in numbers}
    return {**found, UNFINISHED_STREAMS: key_column([each.stream for each in unfinished])}


def generating_fields(header: CheckpointHeader, columns: Mapping[str, Column]) -> dict[str, Any]:
    """The fields of a PartitionState. Raises UnusableColumnError."""
    if ITEMS not in columns:
        if header.read_to != header.next_offset:
            raise UnusableColumnError(f"it has read to {header.read_to}, and does not say what is unfinished")
        return {}
    for name in GENERATING_NUMBERS:
        if columns[name].min(initial=0) < 0:
            raise UnusableColumnError(f"'{name}' holds a number below 0")
    return {
        **{name: columns[name] for name in GENERATING_NUMBERS},
        "read_to": header.read_to,
        "unfinished": _unfinished(header, columns),
        ITEMS: [_items(text) for text in texts(columns[ITEMS])],
    }


def _unfinished(header: CheckpointHeader, columns: Mapping[str, Column]) -> list[Unfinished]:
    offsets, resets, finals = (columns[name] for name in UNFINISHED)
    first = int(offsets[0]) if len(offsets) else header.read_to
    last = int(offsets[-1]) if len(offsets) else NO_OFFSET
    if first != header.next_offset or last >= header.read_to or (np.diff(offsets) <= 0).any():
        raise UnusableColumnError(
            f"'unfinished/offsets' are not records in order, from {header.next_offset} to before {header.read_to}"
        )
    if resets.max(initial=0) > max(Reset):
        raise UnusableColumnError("'unfinished/resets' holds an unknown reason")
    if finals.max(initial=0) > 1:
        raise UnusableColumnError("'unfinished/finals' holds something other than 0 and 1")
    rows = zip(offsets.tolist(), keys_of(columns[UNFINISHED_STREAMS]), resets.tolist(), finals.tolist(), strict=True)
    return [Unfinished(offset, stream, reset, bool(final)) for offset, stream, reset, final in rows]


def _items(text: bytes) -> list[Any] | None:
    if not text:
        return None
    items = json.loads(text)
    if not isinstance(items, list):
        raise UnusableColumnError(f"'{ITEMS}' holds something other than lists")
    return items
