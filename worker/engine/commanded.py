"""What a command does to its stream. No I/O, clock or logging."""

from __future__ import annotations

from worker.engine.turns import Turn
from worker.records.arrays import NO_TIME_MS
from worker.records.events import Kind, Origin, Reset
from worker.records.states import UNKNOWN_ID
from worker.streams.rows import NO_ROW
from worker.streams.table import StreamTable


def command(table: StreamTable, turn: Turn, index: int) -> None:
    """Carry out the command that this event of the turn is; nothing for a stream that is not known."""
    row, kind = int(turn.rows[index]), turn.kinds[index]
    if row == NO_ROW:
        return
    begun, table.steps[row] = bool(table.steps[row]), 0
    table.clocks[row] = turn.clocks[index]
    table.times[row] = _time_after(kind, int(turn.times[index]), int(table.times[row]))
    if kind == Kind.SET_STATE:
        table.states[row] = turn.payloads[index]
        table.pending[row] = Reset.NONE
        table.origins[row] = Origin.IMPORTED
        table.sequences[row] = UNKNOWN_ID
    else:
        table.states[row] = table.initial
        reason = Reset.TOMBSTONE if kind == Kind.TOMBSTONE else Reset.COMMAND
        table.ended[reason] += begun and table.pending[row] == Reset.NONE
        # The earliest reason stays, as for a stream already forgotten: outputs must not depend on how turns are cut.
        table.pending[row] = table.pending[row] or reason


def _time_after(kind: int, time: int, greatest: int) -> int:
    """The greatest event time of the stream after a command.

    A state that was set without a time has none: the next event finds that state, however long it takes to come.
    """
    return NO_TIME_MS if kind == Kind.SET_STATE and time == NO_TIME_MS else max(greatest, time)
