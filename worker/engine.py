"""Events → predictions: where streams, boundaries and the model meet.

Pure: no I/O, no clock, no logging. A turn's events are cut into *waves*: the k-th event of each stream is in wave k, so
that two events of one stream are never in one step of the model and every stream sees its events in order. A wave is
gather → step → check finite → scatter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from worker.boundaries import UNKNOWN_ID, Before, BoundaryRules, Incoming, pending_after, resets_before
from worker.emission import EmitRule
from worker.records import BoolArray, CodeArray, Events, FloatArray, IntArray, Kind, Origin, Predictions, Reset
from worker.streams import StreamTable, TableFullError
from worker.turns import NO_ROW, Turn, waves


class PackedModel(Protocol):
    """What the engine needs of a model."""

    units: int

    def step_packed(self, x: FloatArray, packed: FloatArray) -> tuple[FloatArray, FloatArray]:
        """x (n, features), packed states (n, width) → outputs (n, units), next packed states (n, width), read-only."""


class Engine:
    """Steps the model over all streams. State changes only here, and only by events in log order."""

    def __init__(self, model: PackedModel, table: StreamTable, rules: BoundaryRules, emit: EmitRule) -> None:
        self.model = model
        self.table = table
        self.rules = rules
        self.emit = emit
        self.waves = 0  # steps of the model, since the start
        self.resets = np.zeros(len(Reset), np.int64)  # returns to zero by Reset, since the start

    def process(self, batches: Sequence[Events]) -> list[Predictions]:
        """One turn: the predictions of each batch, row by row. Batches of one partition must be in offset order."""
        if not batches:
            return []
        turn = Turn.of(batches, self.table.partitions, self.model.units, self.table.states.dtype)
        done = 0
        while done < len(turn):
            stop = self._assign(turn, done)
            for wave in waves(turn.rows[done:stop]):
                self._wave(turn, wave + done)
            self._forget_tombstones(turn, done, stop)
            done = stop
        for partition in {events.batch.partition for events in batches}:
            self.table.sweep(partition)
        return turn.predictions()

    def _assign(self, turn: Turn, start: int) -> int:
        """Give the events from ``start`` their rows; where the table is full, stop before the first without one."""
        partitions = self.table.partitions
        stop = len(turn)
        known: list[int | None] = [None]
        if start == 0:
            known = [
                row for each in turn.batches for row in map(partitions[each.batch.partition].rows.get, each.streams)
            ]
        if None in known:
            rows = self._assign_new(turn, start)
            stop = start + len(rows)
            turn.rows[start:stop] = rows
        else:
            turn.rows[:] = np.array(known, np.int64)
        taken = turn.rows[start:stop]
        self.table.touch(taken[taken != NO_ROW])
        return stop

    def _assign_new(self, turn: Turn, start: int) -> list[int]:
        """As ``_assign``, event by event: some streams are new."""
        used: set[int] = set()
        rows: list[int] = []
        for index in range(start, len(turn)):
            partition, name = turn.names[index]
            row = self.table.partitions[partition].rows.get(name, NO_ROW)
            # Of a stream that is not known a tombstone or reset changes nothing.
            if row == NO_ROW and turn.kinds[index] in (Kind.STEP, Kind.SET_STATE):
                try:
                    row = self.table.row(partition, name, int(turn.clocks[index]), used.__contains__)
                except TableFullError:
                    assert rows, "a row is in use before any was given"
                    break
            used.add(row)
            rows.append(row)
        return rows

    def _wave(self, turn: Turn, wave: IntArray) -> None:
        kinds = turn.kinds[wave]
        if kinds.any():
            for index in wave[kinds != Kind.STEP].tolist():
                self._command(turn, index)
            wave = wave[kinds == Kind.STEP]
        if len(wave):
            self._step(turn, wave)

    def _step(self, turn: Turn, wave: IntArray) -> None:
        table, rows, incoming = self.table, turn.rows[wave], turn.incoming(wave)
        before = Before(table.pending[rows], table.sequences[rows], table.times[rows], table.clocks[rows])
        resets = resets_before(self.rules, before, incoming)
        zeroed = resets != Reset.NONE
        packed = table.states[rows]
        packed[zeroed] = table.initial
        probabilities, after = self.model.step_packed(turn.vectors[wave], packed)
        self.waves += 1
        steps = np.where(zeroed, 0, table.steps[rows]) + 1
        pending = pending_after(self.rules, steps, incoming)
        finite = _finite_rows(probabilities, after)
        if finite is not None:
            # A state that is not finite would stay so for ever: the stream starts again from zero.
            after = np.where(finite[:, np.newaxis], after, table.initial)
            steps[~finite], pending[~finite] = 0, Reset.INVALID_STATE
            turn.invalid[wave] = ~finite
        if zeroed.any():
            table.origins[rows[zeroed]] = np.where(turn.replay[wave[zeroed]], Origin.REBUILT, Origin.LIVE)
            self.resets += np.bincount(resets, minlength=len(Reset))
        self._scatter(rows, after, steps, pending, incoming)
        turn.probabilities[wave] = probabilities
        turn.steps[wave] = steps
        turn.resets[wave] = resets
        turn.finals[wave] = pending != Reset.NONE
        turn.origins[wave] = table.origins[rows]
        emit = self.emit.choose(probabilities, zeroed, turn.finals[wave], table.emitted, rows)
        turn.emit[wave] = emit if finite is None else emit & finite

    def _scatter(self, rows: IntArray, states: FloatArray, steps: IntArray, pending: CodeArray, now: Incoming) -> None:
        table = self.table
        table.states[rows] = states
        table.steps[rows] = steps
        table.pending[rows] = pending
        table.times[rows] = now.times
        table.clocks[rows] = now.clocks
        if now.ids is not None:
            table.sequences[rows] = now.ids

    def _command(self, turn: Turn, index: int) -> None:
        table, row, kind = self.table, int(turn.rows[index]), turn.kinds[index]
        if row == NO_ROW:
            return
        idle = self.rules.idle_ms is not None and turn.clocks[index] - table.clocks[row] > self.rules.idle_ms
        table.steps[row] = 0
        table.times[row], table.clocks[row] = turn.times[index], turn.clocks[index]
        if kind == Kind.SET_STATE:
            table.states[row] = turn.payloads[index]
            table.pending[row] = Reset.NONE
            table.origins[row] = Origin.IMPORTED
            table.sequences[row] = UNKNOWN_ID
        else:
            table.states[row] = table.initial
            # The earliest reason stands, as it does for a stream already forgotten: how turns are cut must not show.
            reason = Reset.TOMBSTONE if kind == Kind.TOMBSTONE else Reset.COMMAND
            table.pending[row] = table.pending[row] or (Reset.IDLE if idle else reason)

    def _forget_tombstones(self, turn: Turn, start: int, stop: int) -> None:
        """Free the rows of streams whose last event was a tombstone; until here it is a pending reset."""
        if not (turn.kinds[start:stop] == Kind.TOMBSTONE).any():
            return
        last = {row: index for index, row in enumerate(turn.rows[start:stop].tolist(), start)}
        for row, index in last.items():
            if row != NO_ROW and turn.kinds[index] == Kind.TOMBSTONE:
                self.table.forget(*turn.names[index], Reset.TOMBSTONE)


def _finite_rows(probabilities: FloatArray, states: FloatArray) -> BoolArray | None:
    """None when everything is finite, which is nearly always; else which rows are."""
    if np.isfinite(probabilities).all() and np.isfinite(states).all():
        return None
    finite: BoolArray = np.logical_and.reduce(np.isfinite(np.concatenate([probabilities, states], axis=1)), axis=1)
    return finite
