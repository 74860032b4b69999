"""Decoded records, and what the engine made of them.

Rule of this file: data only, as columns (one list or array per field, all of one length).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from worker.records.arrays import BoolArray, CodeArray, FloatArray, Index, IntArray
from worker.records.prompts import Prompt
from worker.records.record_batch import RecordBatch


class Reset(IntEnum):
    """Why a stream's state returned to zero. The numbers are stored in checkpoints: never reuse one."""

    NONE = 0
    NEW = 1
    ID = 2
    START = 3
    END = 4
    LENGTH = 5
    GAP = 6
    IDLE = 7
    EVICTED = 8
    COMMAND = 9
    TOMBSTONE = 10
    INVALID_STATE = 11


class Origin(IntEnum):
    """Where a stream's state came from."""

    LIVE = 0
    RESTORED = 1
    REBUILT = 2
    IMPORTED = 3


class Kind(IntEnum):
    """What an event does to its stream."""

    STEP = 0  # one step of the model, one output
    TOMBSTONE = 1  # forget the stream
    RESET = 2  # command: state to zero
    SET_STATE = 3  # command: state to the given values


class Refusal(NamedTuple):
    """A record that can't be used: it changes no state and goes to the dead letters."""

    record: int  # index into its RecordBatch
    error: str  # a short fixed code
    reason: str  # one sentence
    items: str = ""  # of a chunk: which items are refused, if not the whole record: 0-2,7


@dataclass(slots=True)
class Events:
    """One RecordBatch, decoded: one row per step or command, in record order.

    ``vectors`` is (events, features); rows of commands are zero. Columns that no configuration asks for are None.
    """

    batch: RecordBatch
    records: IntArray  # (events,) index of the record in the batch
    items: IntArray  # (events,) index of the vector in the record's chunk, NO_ITEM when the record is not a chunk
    kinds: CodeArray  # (events,) Kind
    streams: list[str]
    vectors: FloatArray
    times: IntArray  # (events,) event time, ms since the epoch, or NO_TIME_MS
    ids: list[Any] | None = None
    starts: BoolArray | None = None
    ends: BoolArray | None = None
    payloads: dict[int, FloatArray] = field(default_factory=dict)  # event index → packed state of a SET_STATE command
    prompts: list[Prompt | None] | None = None  # for tasks that generate; None for commands
    copied: list[Any] | None = None  # what outputs repeat of the value, encoded; None for commands
    refusals: list[Refusal] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.streams)

    def cut(self, batches: Sequence[RecordBatch]) -> list[Events]:
        """The events of each batch, of batches decoded as one, each with an event for every record."""
        found, start = [], 0
        for batch in batches:
            rows = slice(start, start + len(batch))
            start = rows.stop
            found.append(
                Events(
                    batch,
                    self.records[: len(batch)],
                    self.items[rows],
                    self.kinds[rows],
                    self.streams[rows],
                    self.vectors[rows],
                    self.times[rows],
                    None if self.ids is None else self.ids[rows],
                    None if self.starts is None else self.starts[rows],
                    None if self.ends is None else self.ends[rows],
                    prompts=None if self.prompts is None else self.prompts[rows],
                    copied=None if self.copied is None else self.copied[rows],
                )
            )
        return found


@dataclass(slots=True)
class Predictions:
    """The engine's results for one Events that are to be sent: one row per output, in the order of their events."""

    events: Index  # (outputs,) index of each one's event: an event may have none, or several
    outputs: FloatArray  # (outputs, units)
    steps: IntArray  # (outputs,)
    resets: CodeArray  # (outputs,) Reset
    finals: BoolArray  # (outputs,)
    origins: CodeArray  # (outputs,) Origin
    refusals: list[Refusal] = field(default_factory=list)
