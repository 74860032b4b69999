"""The states of streams: which tensors a model has, how a row packs them, and what a checkpoint holds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, NamedTuple, TypeAlias

from worker.records.arrays import CodeArray, FloatArray, IntArray
from worker.records.ownership import Partition

NO_OFFSET = -1  # in place of an offset, where there is none


class _Unknown(dict[str, Any]):
    """The sequence id of a stream whose sequence is not known: it counts as equal to any id.

    In JSON, and so in checkpoints, it is an empty object, which no id can be.
    """

    def __repr__(self) -> str:
        return "UNKNOWN_ID"

    def __reduce__(self) -> str:
        return "UNKNOWN_ID"  # there is one, however it is copied


UNKNOWN_ID = _Unknown()


@dataclass(frozen=True, slots=True)
class StateSpec:
    """One state tensor of one layer: ``shape`` without the batch axis."""

    layer: str
    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


Slices: TypeAlias = Mapping[tuple[str, str], tuple[slice, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class StateLayout:
    """How the states of one stream stand side by side in a packed row, and what they are at zero."""

    slices: Slices  # (layer, name) → where in the row, and the shape there
    initial: FloatArray  # (width,) the row of a stream at zero
    dtypes: Mapping[tuple[str, str], str] = field(default_factory=dict)  # where they differ from the row's

    @classmethod
    def of(cls, specs: Sequence[StateSpec], initial: FloatArray) -> StateLayout:
        """One state after the other. ``initial`` (width,): as wide as all of them."""
        ends = list(accumulate(math.prod(spec.shape) for spec in specs))
        assert initial.shape == (ends[-1],), (initial.shape, ends)
        slices = {
            (spec.layer, spec.name): (slice(begin, end), spec.shape)
            for spec, begin, end in zip(specs, (0, *ends[:-1]), ends, strict=True)
        }
        return cls(slices, initial, {(spec.layer, spec.name): spec.dtype for spec in specs})


class Unfinished(NamedTuple):
    """A record whose answer is not complete, and what was decided when it was read.

    ``sent``: how many outputs of it are sent. It is not part of a checkpoint but of what is committed.
    """

    offset: int
    stream: str
    reset: int  # Reset before it; of a set-state it is COMMAND, too
    final: bool  # it is the last of its sequence
    sent: int = 0


@dataclass(slots=True)
class PartitionState:
    """Every stream of one partition at one position: what a checkpoint holds.

    State and position are one value: ``states`` have seen exactly the records below ``next_offset``.

    Tasks that generate: the texts of some records below ``read_to`` may be unfinished. ``next_offset`` is then the
    first of these, ``states`` have seen all records below ``read_to`` but these, and whatever is decided when a record
    is read (times, pending, ``records``, ``unfinished``) is as after ``read_to``.
    """

    partition: Partition
    next_offset: int
    clock: int  # greatest event time seen in the partition, ms since the epoch; NO_TIME_MS = none yet
    keys: Sequence[str]  # a list, or an array of objects
    steps: IntArray  # (streams,) events since zero
    times: IntArray  # (streams,) greatest event time of the stream so far, ms; NO_TIME_MS = none yet
    clocks: IntArray  # (streams,) the partition's clock at the stream's last event, ms
    pending: CodeArray  # (streams,) Reset that takes effect before the next event, 0 = none
    sequences: Sequence[Any]  # (streams,) last value of sequence.id: any JSON scalar, or UNKNOWN_ID
    states: dict[tuple[str, str], FloatArray]  # (layer, name) → (streams, *shape)
    touched: IntArray  # (streams,) order of the streams' last events: the smallest is the longest idle
    emitted: FloatArray | None = None  # (streams, units) last output, NaN = none; for emit: change, and to go on from
    forgotten: dict[str, int] = field(default_factory=dict)  # stream → Reset, oldest first
    read_to: int = NO_OFFSET  # of tasks that generate; else NO_OFFSET, which stands for next_offset
    unfinished: Sequence[Unfinished] = ()  # in the order of their offsets
    drawn: IntArray | None = None  # (streams,) items drawn since the stream is known; only for tasks that generate
    records: IntArray | None = None  # (streams,) records since the sequence began; only for tasks that generate
    items: Sequence[Any] | None = None  # (streams,) items kept of the sequence so far: JSON, None = none
