"""A turn: the events of one poll as one set of columns, cut into waves, and the predictions made from them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from worker.engine.boundaries import Incoming
from worker.engine.event_time import with_times
from worker.engine.failing import with_model_errors
from worker.records.arrays import BoolArray, CodeArray, FloatArray, Index, IntArray
from worker.records.events import Events, Origin, Predictions, Refusal
from worker.records.ownership import Partition
from worker.records.refusals import by_record
from worker.streams.partition_streams import PartitionStreams
from worker.streams.rows import NO_ROW

Wave: TypeAlias = Index  # events of different streams, as indices into the turn
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(slots=True)
class Turn:
    """One row per event of all batches, in log order per partition; the lower half is filled in by the engine."""

    batches: Sequence[Events]
    kinds: CodeArray
    vectors: FloatArray
    times: IntArray
    clocks: IntArray
    ids: NDArray[np.object_] | None
    starts: BoolArray | None
    ends: BoolArray | None
    commands: bool  # whether any of the kinds is one
    payloads: dict[int, FloatArray]
    rows: IntArray
    outputs: FloatArray
    steps: IntArray
    resets: CodeArray
    finals: BoolArray
    origins: CodeArray
    emit: BoolArray
    invalid: BoolArray
    late: BoolArray
    answered: BoolArray  # False where the model has been stepped and has no answer yet
    leaving: dict[tuple[Partition, str], int] = field(default_factory=dict)  # forgotten, rows not yet given back
    model_errors: dict[int, str] = field(default_factory=dict)  # reasons, of some of the invalid ones

    @classmethod
    def of(
        cls,
        batches: Sequence[Events],
        partitions: Mapping[Partition, PartitionStreams],
        units: int,
        dtype: DTypeLike,
    ) -> Turn:
        """The columns of these batches; advances the clocks of their partitions."""
        lengths = [len(events) for events in batches]
        count = sum(lengths)
        times, clocks = _event_times(batches, partitions)
        kinds = _joined([events.kinds for events in batches])
        commands = bool(np.count_nonzero(kinds))
        return cls(
            batches=batches,
            kinds=kinds,
            vectors=_joined([events.vectors for events in batches]),
            times=with_times(times, kinds, clocks),
            clocks=clocks,
            ids=_ids(batches, count),
            starts=_flags([events.starts for events in batches]),
            ends=_flags([events.ends for events in batches]),
            commands=commands,
            payloads={
                start + index: state
                for start, events in zip(accumulate(lengths, initial=0), batches if commands else (), strict=False)
                for index, state in events.payloads.items()
            },
            rows=np.full(count, NO_ROW, np.int64),
            outputs=np.zeros((count, units), dtype),
            steps=np.zeros(count, np.int64),
            resets=np.zeros(count, np.uint8),
            finals=np.zeros(count, np.bool_),
            origins=np.zeros(count, np.uint8),
            emit=np.zeros(count, np.bool_),
            invalid=np.zeros(count, np.bool_),
            late=np.zeros(count, np.bool_),
            answered=np.ones(count, np.bool_),
        )

    def __len__(self) -> int:
        return len(self.rows)

    def names(self, start: int, stop: int) -> Iterator[tuple[Partition, list[str]]]:
        """The streams of the events from ``start`` to ``stop``, batch after batch."""
        for events in self.batches:
            if start < len(events) and stop > 0:
                yield events.batch.partition, events.streams[max(0, start) : stop]
            start, stop = start - len(events), stop - len(events)

    def incoming(self, wave: Wave) -> Incoming:
        """What a wave's events say about boundaries."""
        return Incoming(
            times=self.times[wave],
            clocks=self.clocks[wave],
            ids=None if self.ids is None else self.ids[wave],
            starts=None if self.starts is None else self.starts[wave],
            ends=None if self.ends is None else self.ends[wave],
        )

    def fresh_origins(self, events: Wave) -> CodeArray:
        """Origin of the states that return to zero at these events."""
        origins = [Origin.REBUILT if each.batch.replay else Origin.LIVE for each in self.batches]
        fresh: CodeArray = np.repeat(np.array(origins, np.uint8), [len(batch) for batch in self.batches])[events]
        return fresh

    def is_one_wave(self, start: int, stop: int) -> bool:
        """Whether each of these is a step of another stream: usual where events are rare, or streams many."""
        rows = self.rows[start:stop].tolist()
        distinct = set(rows)
        return len(distinct) == len(rows) and NO_ROW not in distinct and not self.commands

    def note_model_errors(self, events: Wave, reasons: Mapping[int, str]) -> None:
        """``reasons``: of some of these events, by their place among them."""
        for place, reason in reasons.items():
            self.model_errors[int(np.arange(len(self))[events][place])] = reason

    def answer(
        self,
        events: Wave,
        values: FloatArray,
        resets: CodeArray,
        steps: IntArray,
        pending: CodeArray,
        origins: CodeArray,
    ) -> None:
        """Store the results of these events: outputs, boundaries, and where their states come from.

        ``values`` (events, units); with a column more, PackedModel.waits, it says which are answered.
        """
        if values.shape[1] > self.outputs.shape[1]:
            self.answered[events], values = values[:, -1] > 0, values[:, :-1]
        self.outputs[events] = values
        self.steps[events] = steps
        self.resets[events] = resets
        self.finals[events] = pending.astype(np.bool_)
        self.origins[events] = origins

    def predictions(self) -> list[Predictions]:
        """The answer to each batch."""
        answers, start, some_refused = [], 0, np.count_nonzero(self.invalid) + np.count_nonzero(self.late) > 0
        for events in self.batches:
            rows = slice(start, start + len(events))
            start = rows.stop
            emitting = self._emitting(events, rows)
            chosen = rows if isinstance(emitting, slice) else emitting + rows.start
            answers.append(
                Predictions(
                    events=emitting,
                    outputs=self.outputs[chosen],
                    steps=self.steps[chosen],
                    resets=self.resets[chosen],
                    finals=self.finals[chosen],
                    origins=self.origins[chosen],
                    refusals=self._refusals(events, rows) if some_refused else [],
                )
            )
        return answers

    def _emitting(self, events: Events, rows: slice) -> Index:
        """Which events of this batch (these rows of the turn) have an output: nearly always all."""
        if events.batch.replay:
            return np.empty(0, np.int64)
        emit = self.emit[rows]
        return slice(0, len(events)) if emit.all() else np.flatnonzero(emit)

    def _refusals(self, events: Events, rows: slice) -> list[Refusal]:
        invalid, late = np.flatnonzero(self.invalid[rows]), np.flatnonzero(self.late[rows])
        refusals = by_record(events, invalid, INVALID_STATE, INVALID_STATE_REASON)
        if self.model_errors:
            refusals = with_model_errors(refusals, events, self.model_errors, rows.start)
        return refusals + by_record(events, late, "late", LATE_REASON)


INVALID_STATE = "invalid_state"
INVALID_STATE_REASON = "the model's result is not finite; the stream's state returns to zero"
LATE_REASON = "its event time is before the greatest that its stream has seen (sequence.late: dead_letter)"


def numbered(rows: IntArray) -> tuple[IntArray, IntArray]:
    """The events that have a row, ordered by row and then as in the log; how many of its row precede each."""
    order = np.argsort(rows, kind="stable")
    order = order[np.searchsorted(rows[order], 0) :]
    ordered = rows[order]
    first = np.ones(len(order), np.bool_)
    first[1:] = ordered[1:] != ordered[:-1]
    numbers = np.arange(len(order))
    return order, numbers - np.maximum.accumulate(np.where(first, numbers, 0))


def waves(events: IntArray, nth: IntArray) -> Iterator[IntArray]:
    """The events of each wave, given the number of each event in its row."""
    if not nth.any():
        if len(events):
            yield np.sort(events)
        return
    by_wave = np.argsort(nth, kind="stable")
    for wave in np.split(events[by_wave], np.cumsum(np.bincount(nth))[:-1]):
        if len(wave):
            # In the order of the log: the same events make the same batch, and so the same bits.
            yield np.sort(wave)


def _joined(columns: Sequence[NDArray[Scalar]]) -> NDArray[Scalar]:
    return columns[0] if len(columns) == 1 else np.concatenate(columns)


def _event_times(
    batches: Sequence[Events], partitions: Mapping[Partition, PartitionStreams]
) -> tuple[IntArray, IntArray]:
    """(event times, clocks) of the turn; advances the clocks of its partitions."""
    clocks = []
    for events in batches:
        then = events.times
        if len(then):
            streams = partitions[events.batch.partition]
            then = np.maximum(np.maximum.accumulate(then), streams.clock)
            streams.clock = int(then[-1])
        clocks.append(then)
    return _joined([events.times for events in batches]), _joined(clocks)


def _ids(batches: Sequence[Events], count: int) -> NDArray[np.object_] | None:
    if any(events.ids is None for events in batches):
        return None
    values: list[Any] = [value for events in batches for value in events.ids or ()]
    ids = np.empty(count, np.object_)
    ids[:] = values
    return ids


def _flags(columns: Sequence[BoolArray | None]) -> BoolArray | None:
    present = [column for column in columns if column is not None]
    assert len(present) in (0, len(columns)), "a flag is there for all batches or for none"
    return _joined(present) if present else None
